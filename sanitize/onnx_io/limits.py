"""What an ONNX file may ask for: checked on the file as it is, before anything expands or runs.

A few hundred bytes can describe tensors of terabytes, or functions that call each other 2**30
times. Nothing here computes a tensor: sizes are inferred, calls are counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.shape_inference

from ..onnx_errors import OnnxError
from .protos import make_model, value_info

#: Elements of the largest tensor that is made.
LARGEST_TENSOR = 2**28
#: Nodes of a model with its functions written out.
MOST_NODES = 2**18
#: Depth of functions in functions, and of graphs in nodes.
DEEPEST = 100
#: Bytes above which an initializer takes part in the inference by its shape alone.
_LARGE_TENSOR = 2**16
#: Elements of inputs so small that only the operators below make something large of them.
_SMALL = 64
_GROWING = frozenset(
    {
        "ConstantOfShape",
        "Expand",
        "OneHot",
        "Pad",
        "RandomNormal",
        "RandomUniform",
        "Range",
        "Resize",
        "Tile",
        "Upsample",
    }
)


#: Types of which every element takes whole bytes of ``raw_data``.
_WHOLE_BYTES = frozenset(
    getattr(onnx.TensorProto, name)
    for name in ["FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "BOOL"]
    + [f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
)


def check_limits(model: onnx.ModelProto, label: str) -> None:
    """Raises OnnxError for damaged tensors and names, and for what could not be held in memory.

    label: what to call the model in messages.
    """
    try:
        for tensor in _tensors(model.graph, label):
            _check_tensor(tensor, label)
        _check_calls(model, label)
        if not model.graph.output:
            raise OnnxError(f"{label} has no outputs")
        for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
            _check_shape(value, label)
    except UnicodeDecodeError as error:
        raise OnnxError(f"{label} is damaged: a name in it is no text ({error})") from error


def check_domains(model: onnx.ModelProto, label: str) -> None:
    """Raises OnnxError for an operator of which no version is known: inference stops at it."""
    known = {entry.domain for entry in model.opset_import} | {f.domain for f in model.functions}
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") and node.domain not in known:
            raise OnnxError(
                f"the operator '{node.op_type}' of {label} is of the domain '{node.domain}', of"
                " which the file does not say what version it uses. Export the model again"
            )


def check_sizes(model: onnx.ModelProto, label: str) -> None:
    """Raises OnnxError where a tensor of the model, as far as its shape can be inferred, could not
    be held in memory. Functions are written out already.
    """
    for name, shape in inferred_shapes(model).items():
        if (elements := math.prod(size for size in shape if size)) > LARGEST_TENSOR:
            raise OnnxError(
                f"{label} makes the tensor '{name}' of {elements:.3g} elements (shape {shape});"
                f" {LARGEST_TENSOR:.3g} are the most that is read"
            )


def check_result(
    node: onnx.NodeProto, arrays: Mapping[str, Any], imports: Mapping[str, int], label: str
) -> None:
    """Raises OnnxError where a node would make a tensor too large to hold of these arrays."""
    held = sum(np.size(array) for array in arrays.values())
    if held <= _SMALL and node.op_type not in _GROWING:
        return
    graph = onnx.helper.make_graph([node], "node", [], [])
    for name, array in arrays.items():
        found = np.asarray(array)
        if found.dtype.kind not in "biuf":
            continue
        if found.nbytes <= _LARGE_TENSOR:
            graph.initializer.append(onnx.numpy_helper.from_array(found, name))
        else:
            graph.input.append(value_info(name, found.dtype, found.shape))
    check_sizes(make_model(graph, imports), label)


def without_large_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The main graph without outputs, for shape inference in models of any size: large weights are
    inputs, and so take part by their shape alone.
    """
    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    graph = light.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    listed = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        if tensor.ByteSize() <= _LARGE_TENSOR:
            graph.initializer.append(tensor)
        elif tensor.name not in listed:
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return light


def inferred_shapes(model: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    """Shapes of the values of the main graph as far as ONNX infers them, None for open sizes."""
    light = without_large_weights(model)
    try:
        inferred = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return {}  # whoever reads the model says what is wrong with it
    return {
        value.name: tuple(
            dim.dim_value if dim.dim_value > 0 else None for dim in value.type.tensor_type.shape.dim
        )
        for value in (*inferred.value_info, *inferred.output)
        if value.type.HasField("tensor_type")
    }


# -- parts of a model -------------------------------------------------------------------------


def _tensors(graph: onnx.GraphProto, label: str, depth: int = 0) -> Iterator[onnx.TensorProto]:
    """Initializers, and tensors among the attributes, of a graph and of those inside its nodes."""
    if depth > DEEPEST:
        raise OnnxError(f"{label} has graphs inside of graphs, {DEEPEST} deep")
    yield from graph.initializer
    for node in graph.node:
        for text in (node.op_type, node.domain, node.name, *node.input, *node.output):
            if not isinstance(text, str):  # protobuf gives bytes that are no UTF-8 as they are
                raise OnnxError(f"{label} is damaged: the name {text!r} in it is no text")
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _tensors(inner, label, depth + 1)


def _check_tensor(tensor: onnx.TensorProto, label: str) -> None:
    """Raises OnnxError unless the numbers of a tensor are those that its shape counts."""
    what = f"the constant '{tensor.name}' of {label}"
    if any(size < 0 for size in tensor.dims):
        raise OnnxError(f"{what} has the shape {tuple(tensor.dims)}; the file is damaged")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return
    try:
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, ValueError, TypeError) as error:
        raise OnnxError(f"{what} is of the unknown type {tensor.data_type}") from error
    count = math.prod(tensor.dims)
    if count > LARGEST_TENSOR * 16 or count > 8 * tensor.ByteSize() + 64:
        raise OnnxError(f"{what} holds less than its shape {tuple(tensor.dims)}; it was cut off")
    if tensor.HasField("raw_data") and tensor.data_type in _WHOLE_BYTES:
        if len(tensor.raw_data) != count * np.dtype(kind).itemsize:
            raise OnnxError(
                f"{what} holds {len(tensor.raw_data)} bytes for the shape {tuple(tensor.dims)} of"
                f" {np.dtype(kind)}; it was cut off"
            )
        return
    try:
        onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, IndexError, UnicodeDecodeError) as error:
        raise OnnxError(f"{what} cannot be read: {error}") from error


def _check_shape(value: onnx.ValueInfoProto, label: str) -> None:
    """Sizes are numbers that a tensor can have; exporters write -1 for an open one."""
    sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    if any(size < -1 for size in sizes):
        raise OnnxError(f"'{value.name}' of {label} has the shape {tuple(sizes)}")
    if math.prod(size for size in sizes if size > 0) > LARGEST_TENSOR:
        raise OnnxError(f"'{value.name}' of {label} has the shape {tuple(sizes)}, far too large")


def _check_calls(model: onnx.ModelProto, label: str) -> None:
    """How many nodes there are with all functions written out, each counted once."""
    functions = {(function.domain, function.name): function.node for function in model.functions}
    counted: dict[tuple[str, str], int] = {}

    def count(nodes: Iterable[onnx.NodeProto], calls: tuple[tuple[str, str], ...]) -> int:
        if len(calls) > DEEPEST:
            raise OnnxError(f"{label} has functions that call each other, {DEEPEST} deep")
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key not in functions:
                total += 1
                continue
            if key in calls:
                raise OnnxError(f"{label} has a function '{node.op_type}' that calls itself")
            if key not in counted:
                counted[key] = count(functions[key], (*calls, key))
            total += counted[key]
        return total

    if (total := count(model.graph.node, ())) > MOST_NODES:
        raise OnnxError(f"{label} has {total} nodes with its functions written out; too many")
