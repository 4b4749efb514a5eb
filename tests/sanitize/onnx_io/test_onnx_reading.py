"""What whole ONNX models look like: shapes computed on the way, old files, errors."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_harness import (
    check,
    check_model,
    kinds_of,
    largest_gap,
    model,
    node,
    random_arrays,
    run,
    weights,
)
from parameters import slow

from sanitize import evaluate, write_keras
from sanitize.onnx_io import OnnxError, import_onnx, read_onnx

PICTURE = {"x": ("n", 3, 6, 5)}
CONV = node("Conv", "x w", "c")
KERNEL = {"w": weights(4, 3, 3, 3)}


def test_shapes_computed_from_the_batch_fold() -> None:
    """view(x.size(0), -1) as PyTorch exports it."""
    nodes = [
        CONV,
        node("Shape", "c", "s"),
        node("Gather", "s zero", "b"),
        node("Unsqueeze", "b axes", "u"),
        node("Concat", "u rest", "t", axis=0),
        node("Reshape", "c t", "f"),
        node("Gemm", "f k", "y"),
    ]
    constants = {
        **KERNEL,
        "zero": np.array(0),
        "axes": np.array([0]),
        "rest": np.array([-1]),
        "k": weights(48, 5),
    }
    imported = check(nodes, PICTURE, constants)
    assert kinds_of(imported) == ["conv2d", "flatten", "dense"]


def test_shapes_computed_from_all_sizes_fold() -> None:
    """A reshape to (n, c, h * w) with every size taken out of Shape."""
    nodes = [
        node("Shape", "x", "s"),
        node("Slice", "s zero two", "front"),
        node("Slice", "s two four", "back"),
        node("ReduceProd", "back", "area", keepdims=1),
        node("Concat", "front area", "t", axis=0),
        node("Reshape", "x t", "r"),
        node("Cast", "area", "a", to=TensorProto.FLOAT),
        node("Div", "r a", "y"),
    ]
    constants = {"zero": np.array([0]), "two": np.array([2]), "four": np.array([4])}
    imported = check(nodes, PICTURE, constants)
    assert kinds_of(imported) == ["reshape", "affine", "permute"]


def test_a_model_for_one_sample_is_read_for_any_number() -> None:
    constants = {**KERNEL, "s": np.array([1, -1]), "k": weights(48, 5)}
    nodes = [CONV, node("Reshape", "c s", "f"), node("Gemm", "f k", "y")]
    imported = check(nodes, {"x": (1, 3, 6, 5)}, constants)
    assert evaluate(imported.graph, np.zeros((7, 6, 5, 3))).shape == (7, 5)
    # The same, but the model does not say that it is for one sample.
    proto = model(nodes, PICTURE, constants)
    read_onnx(proto)


def test_constants_come_as_nodes_and_weights_as_results() -> None:
    kernel = onnx.numpy_helper.from_array(KERNEL["w"].transpose(2, 3, 1, 0), "value")
    nodes = [
        helper.make_node("Constant", [], ["stored"], value=kernel),
        node("Transpose", "stored", "w", perm=[3, 2, 0, 1]),
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        CONV,
        node("Mul", "c two", "y"),
    ]
    assert kinds_of(check(nodes, PICTURE)) == ["conv2d", "affine"]


@pytest.mark.parametrize("opset", [10, 12, 22])
def test_what_does_nothing_leaves_nothing(opset: int) -> None:
    nodes = [
        node("Identity", "x", "a"),
        node("Dropout", "a", "b"),
        node("Cast", "b", "d", to=TensorProto.FLOAT),
        node("Relu", "d", "y"),
    ]
    assert kinds_of(check(nodes, PICTURE, opset=opset)) == ["relu"]


def test_bytes_of_a_picture_go_in_through_a_cast() -> None:
    nodes = [
        node("Cast", "x", "f", to=TensorProto.FLOAT),
        node("Div", "f d", "s"),
        node("Conv", "s w", "y"),
    ]
    constants = {"d": np.float32(255.0), **KERNEL}
    imported = check(nodes, PICTURE, constants, dtypes={"x": TensorProto.UINT8})
    assert imported.graph["x"].attrs["dtype"] == "uint8"
    assert kinds_of(imported) == ["affine", "conv2d"]


def test_several_inputs_and_outputs() -> None:
    nodes = [
        CONV,
        node("Relu", "c", "y"),
        node("GlobalAveragePool", "y", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f k v", "z"),
    ]
    inputs = {"x": ("n", 3, 6, 5), "v": ("n", 2)}
    imported = check(nodes, inputs, {**KERNEL, "k": weights(4, 2)}, outputs=["y", "z"])
    assert [port.name for port in imported.outputs] == ["y", "z"]
    assert imported.outputs[0].order == (0, 2, 3, 1)


def test_the_layout_of_onnx_can_be_kept() -> None:
    proto = model([CONV, node("Relu", "c", "y")], PICTURE, KERNEL)
    imported = check_model(proto, layout="as_is")
    assert imported.inputs[0].order == imported.outputs[0].order == (0, 1, 2, 3)
    assert kinds_of(imported) == ["permute", "conv2d", "relu", "permute"]
    with pytest.raises(ValueError, match="channels_last"):
        read_onnx(proto, layout="nchw")  # type: ignore[arg-type]


def test_opaque_nodes_are_evaluated_and_cannot_be_written() -> None:
    nodes = [
        CONV,
        node("InstanceNormalization", "c g b", "i"),
        node("Relu", "i", "y"),
    ]
    constants = {**KERNEL, "g": weights(4), "b": weights(4, seed=2)}
    imported = check(nodes, PICTURE, constants, keras=False)
    made = imported.graph["InstanceNormalization_i"]
    assert made.kind == "opaque" and made.shape == (4, 3, 4)
    assert (made.attrs["layer"].op_type, made.attrs["layer"].domain) == (
        "InstanceNormalization",
        "",
    )
    assert "operator='InstanceNormalization'" in str(imported.graph)
    with pytest.raises(ValueError, match="'InstanceNormalization_i'.*InstanceNormalization"):
        write_keras(imported.graph)


def test_local_response_normalization() -> None:
    for size in (3, 5):
        nodes = [node("LRN", "x", "y", size=size, alpha=0.2, beta=0.7, bias=1.5)]
        check(nodes, {"x": ("n", 7, 4, 5)})


def test_local_functions_are_written_out() -> None:
    opsets = [helper.make_opsetid("", 17)]
    body = helper.make_function(
        "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], opsets
    )
    proto = model([CONV, node("Relu", "c", "y")], PICTURE, KERNEL)
    proto.functions.append(body)
    proto.opset_import.append(helper.make_opsetid("local", 1))
    proto.graph.node[1].CopyFrom(helper.make_node("Twice", ["c"], ["y"], domain="local"))
    assert kinds_of(import_onnx(proto)) == ["conv2d", "add"]


def test_paths_bytes_and_external_data(tmp_path: Path) -> None:
    proto = model([CONV, node("Relu", "c", "y")], PICTURE, KERNEL)
    arrays = random_arrays(proto)
    wanted = run(proto, arrays)[0]
    plain, split = tmp_path / "plain.onnx", tmp_path / "split.onnx"
    onnx.save(proto, str(plain))
    onnx.save(proto, str(split), save_as_external_data=True, size_threshold=0, location="w.bin")
    assert (tmp_path / "w.bin").is_file()
    for source in (plain, str(split), plain.read_bytes()):
        imported = import_onnx(source)
        found = evaluate(imported.graph, imported.inputs[0].from_onnx(arrays["x"]))
        assert largest_gap(imported.outputs[0].to_onnx(found), wanted) < 1e-5
    (tmp_path / "w.bin").unlink()
    with pytest.raises(OnnxError, match="external data"):
        import_onnx(split)


def test_files_that_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08\x07\x12\xff\xff\xff nonsense")
    with pytest.raises(OnnxError, match=r"broken\.onnx.*damaged"):
        read_onnx(path)
    path.write_bytes(b"")
    with pytest.raises(OnnxError, match="no graph"):
        read_onnx(path)
    with pytest.raises(FileNotFoundError, match="missing"):
        read_onnx(tmp_path / "missing.onnx")
    with pytest.raises(TypeError, match="ModelProto"):
        read_onnx(3)
    proto = model([CONV, node("Relu", "c", "y")], PICTURE, KERNEL)
    proto.graph.node[1].input[0] = "nowhere"
    with pytest.raises(OnnxError, match="nowhere"):
        read_onnx(proto)


def test_opsets_before_10_are_refused() -> None:
    proto = model([CONV], PICTURE, KERNEL, outputs=["c"], opset=10)
    proto.opset_import[0].version = 9
    with pytest.raises(OnnxError, match=r"opset 9.*version_converter"):
        read_onnx(proto)


def broken(kind: str) -> Any:
    proto = model([CONV, node("Relu", "c", "y")], PICTURE, KERNEL)
    relu = proto.graph.node[1]
    if kind == "domain":
        relu.domain = "com.microsoft"
    elif kind == "operator":
        relu.op_type = "Erfc"
    elif kind == "loop":
        branch = helper.make_graph([], "branch", [], [])
        relu.CopyFrom(
            helper.make_node(
                "If", ["c"], ["y"], name="Relu_y", then_branch=branch, else_branch=branch
            )
        )
    elif kind == "random":
        relu.CopyFrom(helper.make_node("RandomNormalLike", ["c"], ["y"], name="Relu_y"))
    elif kind == "sequence":
        relu.CopyFrom(helper.make_node("NonZero", ["c"], ["y"], name="Relu_y"))
        proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    return proto


@pytest.mark.parametrize("kind", ["domain", "operator", "loop", "random", "sequence"])
def test_what_cannot_be_read_is_named(kind: str) -> None:
    with pytest.raises(OnnxError, match="'Relu_y'"):
        read_onnx(broken(kind))


def test_open_sizes_are_refused_or_given() -> None:
    proto = model([CONV], {"x": ("n", 3, "height", 5)}, KERNEL, outputs=["c"])
    with pytest.raises(OnnxError, match=r"axis 2 of the input 'x'.*'height'"):
        read_onnx(proto)
    graph = read_onnx(proto, shapes={"x": (3, 8, 5)})
    assert graph["x"].shape == (8, 5, 3)
    with pytest.raises(OnnxError, match="declares"):
        read_onnx(proto, shapes={"x": (4, 8, 5)})
    with pytest.raises(OnnxError, match="inputs of the model are"):
        read_onnx(proto, shapes={"z": (4, 8, 5)})


def test_reshapes_that_mix_samples_are_refused() -> None:
    proto = model([node("Reshape", "x s", "y")], PICTURE, {"s": np.array([-1, 5])})
    with pytest.raises(OnnxError, match=r"'y' has the samples and axis 1 of \(None, 18, 5\)"):
        read_onnx(proto)
    proto = model([node("Reshape", "x s", "y")], PICTURE, {"s": np.array([-1, 4, 3, 5])})
    with pytest.raises(OnnxError, match="'Reshape_y'.*mixes samples"):
        read_onnx(proto)


def test_names_are_legal_for_keras() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["12"], name="/layer1/0:conv"),
        helper.make_node("Relu", ["12"], ["y"]),
    ]
    imported = check(nodes, PICTURE, KERNEL)
    assert [part.name for part in imported.graph] == ["x", "layer1/0_conv", "Relu_y"]
    assert imported.graph["layer1/0_conv"].source == ("/layer1/0:conv",)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet20_cifar10", *slow("resnet20_cifar10_jpeg")])
def test_reference_networks(name: str, shared_dir: Path) -> None:
    path = shared_dir / "models" / f"{name}.onnx"
    imported = check_model(onnx.load(str(path)), tolerance=1e-4)
    kinds = set(kinds_of(imported))
    assert "permute" not in kinds and "opaque" not in kinds
