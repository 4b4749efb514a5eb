"""ONNX files of strangers: what would take all memory or time is refused before it is computed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from sanitize.onnx_io import OnnxError, read_onnx

INPUT = helper.make_tensor_value_info("x", 1, ["N", 3, 8, 8])
OUTPUT = helper.make_tensor_value_info("y", 1, ["a", "b", "c", "d"])


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, Any] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
    entry: onnx.ValueInfoProto = INPUT,
) -> onnx.ModelProto:
    held = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", [entry], [OUTPUT], held)
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("f", 1)]
    made = helper.make_model(graph, opset_imports=imports, ir_version=8)
    made.functions.extend(functions)
    return made


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


ADD = node("Add", "x k", "y")


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([node("ConstantOfShape", "s", "k"), ADD], {"s": np.array([750_000_000])}),
        ([node("Expand", "one s", "k"), ADD], {"one": np.ones(1, "f4"), "s": np.array([2**40])}),
        ([node("Tile", "one s", "k"), ADD], {"one": np.ones(1, "f4"), "s": np.array([2**40])}),
        (
            [node("Range", "a b c", "k"), ADD],
            {"a": np.float32(0), "b": np.float32(1e12), "c": np.float32(1)},
        ),
        (
            [node("Pad", "x p", "y")],
            {"p": np.array([0, 0, 2**20, 2**20, 0, 0, 0, 0])},
        ),
        (
            [node("MatMul", "a b", "k"), ADD],
            {"a": np.ones((2**15, 1), "f4"), "b": np.ones((1, 2**15), "f4")},
        ),
        (
            # The size is computed, so that it is seen only when it is folded.
            [node("Mul", "a a", "n"), node("ConstantOfShape", "n", "k"), ADD],
            {"a": np.array([2**17])},
        ),
    ],
)
def test_tensors_that_no_memory_holds(nodes: list[onnx.NodeProto], constants: dict) -> None:
    with pytest.raises(OnnxError, match="elements"):
        read_onnx(model(nodes, constants))


def test_functions_that_grow(tmp_path: Path) -> None:
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("f", 1)]

    def function(name: str, inner: str) -> onnx.FunctionProto:
        domain = "" if inner == "Relu" else "f"
        body = [
            helper.make_node(inner, ["a"], ["t"], domain=domain),
            helper.make_node(inner, ["t"], ["b"], domain=domain),
        ]
        return helper.make_function("f", name, ["a"], ["b"], body, imports)

    call = helper.make_node("F0", ["x"], ["y"], domain="f")
    few = [function("F0", "F1"), function("F1", "Relu")]
    assert len(read_onnx(model([call], functions=few)).outputs) == 1
    many = [function(f"F{k}", f"F{k + 1}" if k < 29 else "Relu") for k in range(30)]
    with pytest.raises(OnnxError, match="1073741824 nodes"):
        read_onnx(model([call], functions=many))
    with pytest.raises(OnnxError, match="calls itself"):
        read_onnx(model([call], functions=[function("F0", "F0")]))


def spoiled_tensor(change: Callable[[onnx.TensorProto], None]) -> onnx.ModelProto:
    made = model([ADD], {"k": np.ones((3, 1, 1), "f4")})
    change(made.graph.initializer[0])
    return made


def shorter(tensor: onnx.TensorProto) -> None:
    tensor.raw_data = tensor.raw_data[:-1]


def negative(tensor: onnx.TensorProto) -> None:
    tensor.dims[0] = -1


def huge(tensor: onnx.TensorProto) -> None:
    tensor.dims[0] = 2**60


def unknown(tensor: onnx.TensorProto) -> None:
    tensor.data_type = 99


def in_fields(tensor: onnx.TensorProto) -> None:
    tensor.ClearField("raw_data")
    tensor.float_data.extend([1.0, 2.0])


@pytest.mark.parametrize("change", [shorter, negative, huge, unknown, in_fields])
def test_damaged_constants(change: Callable[[onnx.TensorProto], None]) -> None:
    with pytest.raises(OnnxError, match="the constant 'k'"):
        read_onnx(spoiled_tensor(change))


def test_sizes_of_inputs() -> None:
    relu = [node("Relu", "x", "y")]
    for sizes in (["N", 2**40], ["N", -5]):
        entry = helper.make_tensor_value_info("x", 1, sizes)
        with pytest.raises(OnnxError, match="has the shape"):
            read_onnx(model(relu, entry=entry))
    open_batch = helper.make_tensor_value_info("x", 1, [-1, 4])
    assert read_onnx(model(relu, entry=open_batch)).nodes[0].shape == (4,)


def test_models_without_what_they_need() -> None:
    made = model([node("Relu", "x", "y")])
    made.graph.node[0].domain = "com.microsoft"
    with pytest.raises(OnnxError, match="domain 'com.microsoft'"):
        read_onnx(made)
    made = model([node("Relu", "x", "y")])
    del made.graph.output[:]
    with pytest.raises(OnnxError, match="has no outputs"):
        read_onnx(made)


def test_names_that_are_no_text() -> None:
    raw = model([node("Relu", "x", "y")]).SerializeToString()
    for name in (b"Relu", b"\x01x\x12"):
        spoiled = raw.replace(name, name[:-1] + b"\xff", 1)
        with pytest.raises(OnnxError):
            read_onnx(spoiled)


def test_external_data_of_a_wrong_place(tmp_path: Path) -> None:
    made = model([ADD], {"k": np.ones((3, 1, 1), "f4")})
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "x")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    (tmp_path / "weights.bin").write_bytes(b"\0" * 99)
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(OnnxError, match="external data"):
        read_onnx(tmp_path / "net.onnx")
