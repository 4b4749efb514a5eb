"""Every mode, static and dynamic: how far quantized models may be from float ones."""

import numpy as np
import onnx
import pytest
from onnx_nets import conv_net, images, model, node, operators, relative_error, run, weights

from quantkeras.errors import QuantizationError
from quantkeras.onnx.runtime_quantizer import calibrate_onnx, quantize_onnx

WAYS = [(mode, static) for mode in ("integer", "qlinear", "qdq") for static in (True, False)]
INTEGER_OPERATORS = {"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QGemm"}


def single(op):
    """One node with everything that it can have: (model, its input, |weights| (in, channels))."""
    if op == "Conv":
        w = weights(4, 2, 3, 3)
        found = model(
            [node("Conv", ["x", "w", "b"], ["y"], "only", pads=[0, 1, 2, 0], strides=[1, 2],
                  dilations=[2, 1], group=2)],
            {"x": ["n", 4, 9, 7]}, {"y": ["n", 4, 7, 3]}, {"w": w, "b": weights(4) * 3},
        )  # fmt: skip
        x = np.random.default_rng(1).normal(1.0, 2.0, (3, 4, 9, 7))
        return found, x.astype(np.float32), w.reshape(4, -1).T
    w = weights(5, 8)
    x = np.random.default_rng(1).normal(1.0, 2.0, (6, 8)).astype(np.float32)
    if op == "Gemm":
        only = node(
            "Gemm", ["x", "w", "b"], ["y"], "only", transB=1, transA=1, alpha=-0.5, beta=3.0
        )
        found = model([only], {"x": [8, 6]}, {"y": [6, 5]}, {"w": w, "b": weights(1, 5)})
        return found, np.ascontiguousarray(x.T), -0.5 * w.T
    found = model([node("MatMul", ["x", "w"], ["y"], "only")], {"x": ["n", 8]}, {"y": ["n", 5]},
                  {"w": np.ascontiguousarray(w.T)})  # fmt: skip
    return found, x, w.T


@pytest.mark.parametrize("op", ["Conv", "Gemm", "MatMul"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(("mode", "static"), WAYS)
def test_one_node_stays_within_its_steps(mode, static, per_channel, op):
    proto, x, w = single(op)
    data = {"samples": x} if static or mode == "qlinear" else {}
    found = quantize_onnx(proto, mode, static, per_channel=per_channel, **data)
    onnx.checker.check_model(found, full_check="QGemm" not in operators(found))
    wanted, got = run(proto, x)[0], run(found, x)[0]
    assert got.shape == wanted.shape
    low, high = min(x.min(), 0), max(x.max(), 0)
    step_x = (high - low) / 255
    step_w = np.abs(w).max(axis=0 if per_channel else None) / 127
    step_y = (max(wanted.max(), 0) - min(wanted.min(), 0)) / 255 if mode != "integer" else 0.0
    # Rounding an input errs by half a step, and by half more where the zero point was rounded.
    bound = np.abs(w).sum(axis=0) * step_x + len(w) * (np.abs(x).max() + step_x) * step_w / 2
    bound = bound + step_x * step_w + step_y
    bound = bound.reshape(-1, 1, 1) if op == "Conv" else bound
    assert np.all(np.abs(got - wanted) <= bound)
    assert relative_error(got, wanted) < 0.02
    if mode != "qdq":
        assert len(INTEGER_OPERATORS & set(operators(found))) == 1


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(("mode", "static"), WAYS)
def test_a_network_stays_close(mode, static, per_channel):
    proto, x = conv_net(), images()
    data = {"samples": x} if static or mode == "qlinear" else {}
    found = quantize_onnx(proto, mode, static, per_channel=per_channel, **data)
    onnx.checker.check_model(found)
    assert relative_error(run(found, x)[0], run(proto, x)[0]) < 0.01
    assert run(found, x[:1])[0].shape == (1, 4)  # the batch stays free
    names = {tensor.name for tensor in found.graph.initializer}
    assert not names & {"w1", "w2", "w3", "w4"}


@pytest.mark.parametrize(
    ("mode", "static", "activations", "weight_kind"),
    [
        ("integer", True, "int8", "int8"),
        ("integer", True, "uint8", "uint8"),
        ("integer", False, "uint8", "uint8"),
        ("qlinear", True, "int8", "int8"),
        ("qlinear", True, "uint8", "uint8"),
        ("qlinear", False, "uint8", "uint8"),
        ("qdq", True, "int8", "int8"),
        ("qdq", True, np.uint8, np.uint8),
        ("qdq", True, "uint16", "int8"),
        ("qdq", True, "int16", "int16"),
    ],
)
def test_all_pairs_of_types(mode, static, activations, weight_kind):
    proto, x = conv_net(), images()
    data = {"samples": x} if static or mode == "qlinear" else {}
    found = quantize_onnx(
        proto, mode, static, activation_type=activations, weight_type=weight_kind, **data
    )
    assert relative_error(run(found, x)[0], run(proto, x)[0]) < 0.01


def test_a_pair_of_types_that_onnxruntime_multiplies_wrongly_is_refused():
    with pytest.raises(QuantizationError, match="int8 activations with uint8 weights"):
        quantize_onnx(
            conv_net(), "integer", samples=images(), activation_type="int8", weight_type="uint8"
        )


@pytest.mark.parametrize("activations", ["int8", "uint8"])
@pytest.mark.parametrize("mode", ["integer", "qlinear", "qdq"])
def test_symmetric_activations_have_their_zero_in_the_middle(mode, activations):
    proto, x = conv_net(), images()
    found = quantize_onnx(
        proto, mode, samples=x, activation_type=activations, symmetric_activations=True
    )
    assert relative_error(run(found, x)[0], run(proto, x)[0]) < 0.02
    zero = 128 if activations == "uint8" else 0
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in found.graph.initializer}
    sources = [found.graph.node[operators(found).index("QuantizeLinear")].input[2]]
    assert [int(arrays[name]) for name in sources] == [zero]


@pytest.mark.parametrize(("mode", "static"), WAYS)
def test_opset_10(mode, static):
    proto, x = conv_net(opset=10), images()
    data = {"samples": x} if static or mode == "qlinear" else {}
    found = quantize_onnx(proto, mode, static, **data)
    assert relative_error(run(found, x)[0], run(proto, x)[0]) < 0.01


def test_opset_10_measures_as_newer_ones_do():
    """DynamicQuantizeLinear came with opset 11; before, it is spelled out."""
    x = np.zeros((2, 8), np.float32)
    constants = {"w": weights(8, 5)}
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    for batch in (x, x + 1, x - 3, np.linspace(-2, 5, 16, dtype=np.float32).reshape(2, 8)):
        outputs = [
            run(quantize_onnx(model(nodes, {"x": [2, 8]}, {"y": [2, 5]}, constants, opset)), batch)
            for opset in (10, 13)
        ]
        np.testing.assert_allclose(*outputs, rtol=1e-5)


def test_the_user_s_scales_are_those_of_the_model():
    proto, _, _ = single("Conv")
    params = {"x": (np.uint8(100), np.float32(0.125)), "y": (np.uint8(7), np.float32(0.25))}
    for mode in ("integer", "qlinear", "qdq"):
        found = quantize_onnx(proto, mode, static=True, quantization_params=params)
        arrays = {t.name: onnx.numpy_helper.to_array(t) for t in found.graph.initializer}
        first = found.graph.node[operators(found).index("QuantizeLinear")]
        assert arrays[first.input[1]] == np.float32(0.125)
        assert arrays[first.input[2]] == np.uint8(100)
        if mode != "integer":
            last = next(n for n in found.graph.node if n.output[0] == "y")
            assert arrays[last.input[1]] == np.float32(0.25)
            assert arrays[last.input[2]] == np.uint8(7)


def test_samples_fill_what_the_dictionary_leaves_open():
    proto, x = conv_net(), images()
    found = quantize_onnx(proto, quantization_params={"x": (0, 1.0)}, samples=x)
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in found.graph.initializer}
    quantizers = [n for n in found.graph.node if n.op_type == "QuantizeLinear"]
    assert [float(arrays[n.input[1]]) == 1.0 for n in quantizers] == [True, False, False, False]
    assert calibrate_onnx(proto, x)["r1"].scale == arrays[quantizers[1].input[1]]


def test_a_dictionary_of_its_products_quantizes_what_it_covers():
    """Nodes around Conv, Gemm and MatMul stay float where the dictionary lacks their tensors."""
    proto, x = conv_net(), images()
    found = quantize_onnx(proto, "qlinear", quantization_params=calibrate_onnx(proto, x))
    assert operators(found).count("GlobalAveragePool") == 1
    assert relative_error(run(found, x)[0], run(proto, x)[0]) < 0.01


def test_the_model_of_the_user_is_left_alone(tmp_path):
    proto, x = conv_net(), images()
    before = proto.SerializeToString()
    for mode in ("integer", "qlinear", "qdq"):
        found = quantize_onnx(proto, mode, samples=x, path=tmp_path / f"{mode}.onnx")
        assert onnx.load(tmp_path / f"{mode}.onnx") == found
        assert not found.metadata_props
    assert proto.SerializeToString() == before


def test_paths_and_bytes_are_models_too(tmp_path):
    proto, x = conv_net(), images()
    onnx.save(proto, tmp_path / "a.onnx")
    wanted = quantize_onnx(proto)
    assert quantize_onnx(tmp_path / "a.onnx") == wanted
    assert quantize_onnx(str(tmp_path / "a.onnx")) == wanted
    assert quantize_onnx(proto.SerializeToString()) == wanted
    big = onnx.ModelProto()
    big.CopyFrom(proto)
    onnx.save(big, tmp_path / "b.onnx", save_as_external_data=True, location="b.data",
              size_threshold=0)  # fmt: skip
    assert (tmp_path / "b.data").is_file()
    np.testing.assert_array_equal(run(quantize_onnx(tmp_path / "b.onnx"), x)[0], run(wanted, x)[0])


def test_models_beyond_a_protobuf_message(tmp_path, monkeypatch):
    """As if the limit were 1 kB: everything that is written goes through external data."""
    from quantkeras.onnx.runtime_quantizer import model_source, onnxruntime_tool

    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["y"])]
    proto = model(nodes, {"x": ["n", 50]}, {"y": ["n", 40]}, {"w": weights(50, 40)})
    x = np.random.default_rng(0).normal(size=(8, 50)).astype(np.float32)
    modes = ("integer", "qlinear", "qdq")
    wanted = [quantize_onnx(proto, mode, samples=x) for mode in modes]
    monkeypatch.setattr(model_source, "LARGEST_MESSAGE", 1000)
    monkeypatch.setattr(onnxruntime_tool, "LARGEST_MESSAGE", 1000)
    for mode, target in zip(modes, wanted, strict=True):
        path = tmp_path / f"{mode}.onnx"
        for _ in range(2):  # the second time over the first one's files
            found = quantize_onnx(proto, mode, samples=x, path=path)
        np.testing.assert_array_equal(run(found, x)[0], run(target, x)[0])
        assert 2000 <= path.with_name(f"{mode}.onnx.data").stat().st_size < 4096
        assert path.stat().st_size < 2000
        np.testing.assert_array_equal(run(onnx.load(path), x)[0], run(target, x)[0])
