"""Which nodes are quantized, what stays float, and what is refused."""

import importlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_nets import conv_net, images, model, node, operators, relative_error, run, weights

from quantkeras.errors import ModelFileError, QuantizationError
from quantkeras.onnx.runtime_quantizer import calibrate_onnx, quantize_onnx


def test_types_and_lists():
    proto, x = conv_net(), images()
    found = operators(quantize_onnx(proto, op_types_to_quantize=["Conv"]))
    assert (found.count("ConvInteger"), found.count("Gemm"), found.count("MatMul")) == (2, 1, 1)
    found = operators(quantize_onnx(proto, nodes_to_quantize=["c2", "g"]))
    assert (found.count("Conv"), found.count("ConvInteger"), found.count("MatMulInteger")) == (
        1,
        1,
        1,
    )
    found = operators(quantize_onnx(proto, nodes_to_exclude=["c1", "m"]))
    assert (found.count("Conv"), found.count("ConvInteger"), found.count("MatMul")) == (1, 1, 1)
    found = operators(
        quantize_onnx(proto, "qlinear", samples=x, nodes_to_quantize=["c1", "g"],
                      op_types_to_quantize=["Conv", "Add"])
    )  # fmt: skip
    assert (found.count("QLinearConv"), found.count("Conv"), found.count("QGemm")) == (1, 1, 0)
    found = operators(quantize_onnx(proto, "qdq", samples=x, nodes_to_exclude=["c1", "r1"]))
    assert found.count("Conv") == 2


def test_nodes_without_names_get_some():
    nodes = [
        node("MatMul", ["x", "w"], ["a"], ""),
        node("MatMul", ["a", "w"], ["b"], "twice"),
        node("MatMul", ["b", "w"], ["y"], "twice"),
    ]
    proto = model(nodes, {"x": [3, 3]}, {"y": [3, 3]}, {"w": weights(3, 3)})
    found = quantize_onnx(proto, nodes_to_exclude=["MatMul_a"])
    assert [n.name for n in found.graph.node if n.op_type == "MatMul"] == ["MatMul_a"]
    names = [n.name for n in found.graph.node]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("argument", ["nodes_to_quantize", "nodes_to_exclude"])
def test_names_that_no_node_has(argument):
    with pytest.raises(QuantizationError, match=f"{argument}: there is no node 'c3' in 'net'. D"):
        quantize_onnx(conv_net(), **{argument: ["c1", "c3"]})
    with pytest.raises(QuantizationError, match=f"{argument} is a list of node names"):
        quantize_onnx(conv_net(), **{argument: "c1"})


def test_types_that_a_mode_has_not():
    proto, x = conv_net(), images()
    with pytest.raises(QuantizationError, match=r"'integer', dynamic, has no .* 'Relu'; it takes"):
        quantize_onnx(proto, op_types_to_quantize=["Conv", "Relu"])
    with pytest.raises(QuantizationError, match=r"'integer', dynamic, has no quantized .*'Add"):
        quantize_onnx(proto, nodes_to_quantize=["y"])
    with pytest.raises(QuantizationError, match=r"of operator 'conv'.*Did you mean 'Conv'"):
        quantize_onnx(proto, "qlinear", samples=x, op_types_to_quantize=["conv"])
    found = operators(quantize_onnx(proto, "qdq", samples=x, op_types_to_quantize=["Add"]))
    assert (found.count("QuantizeLinear"), found.count("Conv")) == (2, 2)


def test_opset_below_10():
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 3]}, {"y": [1, 2]},
                  {"w": weights(3, 2)}, opset=9)  # fmt: skip
    for call in (quantize_onnx, lambda found: calibrate_onnx(found, None)):
        with pytest.raises(QuantizationError, match=r"'net' uses opset 9.*10.*convert_version"):
            call(proto)


def test_per_channel_qdq_takes_opset_13():
    for static in (True, False):
        with pytest.raises(QuantizationError, match="opset 12: with per_channel, .* opset 13"):
            quantize_onnx(conv_net(opset=12), "qdq", static, per_channel=True)


def test_files_that_are_no_models(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file 'nowhere.onnx'"):
        quantize_onnx("nowhere.onnx")
    (tmp_path / "a.onnx").write_bytes(b"no model at all")
    with pytest.raises(ModelFileError, match=r"'a.onnx' cannot be parsed"):
        quantize_onnx(tmp_path / "a.onnx")
    with pytest.raises(ModelFileError, match="it has no graph"):
        quantize_onnx(b"")
    with pytest.raises(TypeError, match="not a int"):
        quantize_onnx(3)
    big = conv_net()
    onnx.save(big, tmp_path / "b.onnx", save_as_external_data=True, location="b.data",
              size_threshold=0)  # fmt: skip
    (tmp_path / "b.data").unlink()
    with pytest.raises(ModelFileError, match=r"external data of 'b.onnx' cannot be read"):
        quantize_onnx(tmp_path / "b.onnx")
    with pytest.raises(QuantizationError, match=r"keeps 'w1' in a file beside it.*Pass the path"):
        quantize_onnx(onnx.load(tmp_path / "b.onnx", load_external_data=False))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"X": (0, 1.0)}, r"no tensor 'X'. Did you mean 'x'"),
        ({"x": 3}, r"of 'x' is \(zero_point, scale\), two numbers, not 3"),
        ({"x": (0.05, 113)}, "the zero point, a whole number, comes first"),
        ({"x": (300, 1.0)}, "300 is no zero point of uint8, 0 to 255"),
        ({"x": (-5, 1.0)}, "-5 is no zero point of uint8"),
        ({"x": (3, 0.0)}, "scale is 0.0; it must be above 0"),
        ({"x": (3, np.inf)}, "must be above 0 and finite"),
        ({"x": ("a", "b")}, "the zero point, a whole number, comes first"),
        ([("x", 1)], "is a dictionary"),
        ({"x": (3, 1.0)}, r"'integer', static: need zero point and scale of 'r1', 'f', 'r2': give"),
    ],
)
def test_dictionaries_that_do_not_fit(params, message):
    with pytest.raises(QuantizationError, match=message):
        quantize_onnx(conv_net(), static=True, quantization_params=params)


def test_settings_that_exclude_each_other():
    proto, x = conv_net(), images()
    cases = [
        ({"mode": "int"}, "mode is 'integer', 'qlinear', 'qdq', not 'int'"),
        ({"weight_type": "int4"}, "weight_type is int8 or uint8 here, not 'int4'"),
        ({"activation_type": "float8"}, "activation_type is uint8 or int8 here"),
        ({"static": False, "activation_type": "int8"}, "are those of uint8, not symmetric"),
        ({"static": False, "symmetric_activations": True}, "are those of uint8, not symmetric"),
        ({"static": False, "samples": x}, r"takes no scales.*set static=True"),
        ({"static": True}, "need zero point and scale of 'x', 'r1'"),
        ({"mode": "qlinear"}, "give samples"),
        ({"mode": "qlinear", "static": False}, "'c1', 'c2', 'g', 'm': give them in"),
        (
            {"mode": "qdq", "static": False, "weight_type": "int16"},
            "weights have 8 bits, not int16",
        ),
        ({"mode": "qdq", "activation_type": "int8", "weight_type": "uint8"}, "no int8 by uint8"),
        ({"samples": x, "data_reader": x}, "samples or data_reader, not both"),
        ({"per_channel": True, "symmetric_weights": False}, "per_channel are symmetric"),
    ]
    for settings, message in cases:
        with pytest.raises(QuantizationError, match=message):
            quantize_onnx(proto, **settings)


def test_nodes_that_cannot_be_quantized_stay_float():
    half = weights(3, 3).astype(np.float16)
    nodes = [
        node("Relu", ["v"], ["r"]),
        node("Conv", ["x", "r"], ["a"]),
        node("Cast", ["a"], ["h"], to=TensorProto.FLOAT16),
        node("MatMul", ["h", "half"], ["b"]),
        node("Cast", ["b"], ["c"], to=TensorProto.FLOAT),
        node("MatMul", ["c", "long"], ["y"]),
    ]
    proto = model(
        nodes, {"x": [1, 1, 3, 3], "v": [1, 1, 1, 1]}, {"y": [1, 1, 3, 2]},
        {"half": half, "long": weights(3, 2)},
    )  # fmt: skip
    with pytest.warns(UserWarning, match="stay float") as caught:
        found = quantize_onnx(proto)
    assert "'a' (Conv: its weights are computed)" in str(caught[0].message)
    assert "'b' (MatMul: its input 'h' is not float32)" in str(caught[0].message)
    assert operators(found).count("MatMulInteger") == 1
    deep = model([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 40_000]}, {"y": [1, 1]},
                 {"w": np.ones((40_000, 1), np.float32)})  # fmt: skip
    with (
        pytest.warns(UserWarning, match=r"a sum of 40,000 products could pass 32 bits"),
        pytest.warns(UserWarning, match="No node was quantized"),
    ):
        assert operators(quantize_onnx(deep)) == ["MatMul"]


def merging_net(kind):
    """Relus that onnxruntime's quantizers must not leave out."""
    ends = {"y": ["n", 4, 6, 6]}
    nodes = [node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1])]
    if kind == "two readers":
        nodes += [node("Relu", ["c"], ["r"]), node("Add", ["c", "r"], ["y"])]
    elif kind == "an output":
        nodes += [node("Relu", ["c"], ["r"]), node("Conv", ["r", "v"], ["y"], pads=[1] * 4)]
        ends["c"] = ["n", 4, 6, 6]
    elif kind == "behind a pool":
        pool = {"kernel_shape": [3, 3], "pads": [1] * 4}
        nodes += [node("MaxPool", ["c"], ["p"], **pool), node("Relu", ["p"], ["r"])]
        nodes += [node("Conv", ["r", "v"], ["y"], pads=[1] * 4)]
    else:
        nodes += [node("Clip", ["c", "low", "high"], ["r"])]
        nodes += [node("Conv", ["r", "v"], ["y"], pads=[1] * 4)]
    constants = {"w": weights(4, 4, 3, 3), "v": weights(4, 4, 3, 3)}
    constants |= {"low": np.float32(0.0), "high": np.float32(2.0)}
    read = {name for found in nodes for name in found.input}
    constants = {name: array for name, array in constants.items() if name in read}
    return model(nodes, {"x": ["n", 4, 6, 6]}, ends, constants)


@pytest.mark.parametrize("kind", ["two readers", "an output", "behind a pool", "clip"])
@pytest.mark.parametrize("mode", ["qlinear", "qdq"])
def test_activations_merge_only_where_that_is_right(mode, kind):
    proto = merging_net(kind)
    x = np.random.default_rng(0).normal(size=(4, 4, 6, 6)).astype(np.float32)
    found = quantize_onnx(proto, mode, samples=x)
    for got, wanted in zip(run(found, x), run(proto, x), strict=True):
        assert relative_error(got, wanted) < 0.05
    # Scales under which saturation does not do what the function does.
    params = dict.fromkeys(("x", "c", "r", "p", "y"), (128, 0.2))
    tensors = {n for part in proto.graph.node for n in (*part.input, *part.output)}
    params = {name: pair for name, pair in params.items() if name in tensors}
    found = quantize_onnx(proto, mode, quantization_params=params)
    for got, wanted in zip(run(found, x), run(proto, x), strict=True):
        assert relative_error(np.clip(got, -25.6, 25.4), np.clip(wanted, -25.6, 25.4)) < 0.1


def test_a_gemm_whose_bias_differs_from_row_to_row():
    proto = model(
        [node("Gemm", ["x", "w", "c"], ["y"])], {"x": [4, 3]}, {"y": [4, 4]},
        {"w": weights(3, 4), "c": weights(4, 1)},
    )  # fmt: skip
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    with (
        pytest.warns(UserWarning, match=r"'y' \(Gemm: its bias or a factor is not constant"),
        pytest.warns(UserWarning, match="No node was quantized"),
    ):
        quantize_onnx(proto, "qlinear", samples=x)
    assert relative_error(run(quantize_onnx(proto, samples=x), x)[0], run(proto, x)[0]) < 0.02


def test_operators_of_other_domains_are_carried_along():
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("FusedGemm", ["a", "w", "b"], ["y"], "f", domain="com.microsoft",
                         activation="Relu"),
    ]  # fmt: skip
    proto = model(nodes, {"x": [3, 3]}, {"y": [3, 3]}, {"w": weights(3, 3), "b": weights(3)},
                  domains=["com.microsoft"])  # fmt: skip
    x = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    for mode in ("integer", "qdq"):
        found = quantize_onnx(proto, mode, samples={"x": x})
        assert "FusedGemm" in operators(found)
        assert relative_error(run(found, x)[0], run(proto, x)[0]) < 0.03


def test_without_the_packages(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(QuantizationError, match=r"package onnx; .* pip install quantkeras\[onnx\]"):
        quantize_onnx("net.onnx")
    with pytest.raises(QuantizationError, match=r"quantkeras\[onnx\]"):
        calibrate_onnx("net.onnx", None)
