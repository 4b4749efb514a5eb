"""A whole quantized model as ONNX: its integer program, and behind it what stays float."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sanitize.graph import Graph, Node, producer_of
from sanitize.keras_io import read_keras

from ..conversion import convert
from ..conversion.parts import integer_parts
from ..errors import QuantizationError
from ..layers import Dequantizer, InputQuantizer
from .onnx_export import export_onnx, require_onnx

if TYPE_CHECKING:
    import onnx

    from sanitize.onnx_io import OnnxImport, Port

#: Opset of the layers that stay float; the integer part is written in the same.
OPSET = 17


def export_whole(
    model: Any,
    format: str = "integer",
    source: OnnxImport | None = None,
    *,
    input_layout: Literal["nhwc", "nchw"] = "nhwc",
    input_type: str = "float32",
) -> onnx.ModelProto:
    """A quantized Keras model with the layers that stay float, as one ONNX model.

    format, input_layout, input_type: see :func:`export_onnx`. source: how the ONNX model was read
    that was quantized; inputs and outputs then have its names and its order of axes, and
    input_layout does not count.

    Raises QuantizationError for integer layers behind float ones, and OnnxError for a layer that
    stays float and that ONNX has no operators for.
    """
    require_onnx()
    graph = read_keras(model)
    if source is not None:
        maps = [port for port in source.inputs if len(port.order) == 4]
        input_layout = "nchw" if all(port.order == (0, 2, 3, 1) for port in maps) else "nhwc"
    opset = OPSET if source is None else max(OPSET, source.opset)
    tail, boundary = float_tail(graph)
    exported = export_onnx(
        convert(model),
        format=format,
        input_layout=input_layout,
        output_layout=input_layout if tail is None else "nchw",
        input_type=input_type,
        opset=opset,
    )
    results = {value: boundary.get(producer_of(value), value) for value in graph.outputs}
    if tail is not None:
        results |= _append(exported, tail, boundary, input_layout, opset)
    outputs = [results[value] for value in graph.outputs]
    first = input_layout == "nchw"
    ports: list[tuple[str, Port | None]] = [(name, None) for name in outputs]
    if source is not None:
        for port in source.inputs:
            _rename_input(exported, port, first)
        ports = [(port.name, port) for port in source.outputs]
    _set_outputs(exported, outputs, ports, first)
    _check(exported)
    return exported


def float_tail(graph: Graph) -> tuple[Graph | None, dict[str, str]]:
    """What stays float in the graph of a quantized model, and where it reads integers.

    Returns the graph of the float layers (None if there are none), whose inputs are Dequantizers
    and inputs of the model, and for each Dequantizer the output of the program that it reads.
    """
    parts = integer_parts(graph)
    if any(number > 0 for number in parts.values()):
        raise QuantizationError(
            f"model '{graph.name}' has integer layers behind float ones; export its parts with"
            " export_onnx(convert(model, part=...))"
        )
    boundary = {
        node.name: _program_output(graph, node)
        for node in graph
        if isinstance(node.attrs.get("layer"), Dequantizer)
    }
    floats = [node for node in graph if node.name not in parts and node.kind != "input"]
    if not floats:
        return None, boundary
    read = dict.fromkeys(producer_of(value) for node in floats for value in node.inputs)
    entries = [
        Node(name, "input", (), {"dtype": _dtype(graph[name])}, {}, graph[name].shape)
        for name in read
        if name in boundary or graph[name].kind == "input"
    ]
    outputs = [value for value in graph.outputs if producer_of(value) not in boundary]
    outputs = [value for value in outputs if graph[value].kind != "input"]
    names = [node.name for node in entries]
    return Graph.build([*entries, *floats], names, outputs, graph.name), boundary


def _program_output(graph: Graph, dequantizer: Node) -> str:
    node = graph[dequantizer.inputs[0]]
    while node.kind == "identity":
        node = graph[node.inputs[0]]
    # An input that goes out again passes a layer of its own in the program.
    return dequantizer.name if isinstance(node.attrs.get("layer"), InputQuantizer) else node.name


def _dtype(node: Node) -> str:
    return str(node.attrs.get("dtype", "float32")) if node.kind == "input" else "float32"


def _append(
    exported: onnx.ModelProto,
    tail: Graph,
    boundary: Mapping[str, str],
    layout: Literal["nhwc", "nchw"],
    opset: int,
) -> dict[str, str]:
    """Add the nodes of the tail, which reads the integer part; its outputs, as they are called."""
    from onnx import helper

    from sanitize.onnx_io import write_onnx

    written = write_onnx(tail, output_layout=layout, opset=opset)
    taken = {
        name for node in exported.graph.node for name in (*node.input, *node.output, node.name)
    }
    names = {name: boundary.get(name, name) for name in tail.inputs}

    def renamed(name: str) -> str:
        if name and name not in names:
            fresh, count = name, 1
            while fresh in taken:
                fresh, count = f"{name}/float_{count}", count + 1
            names[name] = fresh
        return names.get(name, name)

    for tensor in written.graph.initializer:
        copy = exported.graph.initializer.add()
        copy.CopyFrom(tensor)
        copy.name = renamed(tensor.name)
    for node in written.graph.node:
        copy = exported.graph.node.add()
        copy.CopyFrom(node)
        del copy.input[:], copy.output[:]
        copy.input.extend(renamed(name) for name in node.input)
        copy.output.extend(renamed(name) for name in node.output)
        copy.name = copy.output[0]
    floating = helper.np_dtype_to_tensor_dtype(np.dtype(np.float32))
    made = {}
    for value, info in zip(dict.fromkeys(tail.outputs), written.graph.output, strict=True):
        made[value] = names[info.name]
        sizes = [dim.dim_value or "n" for dim in info.type.tensor_type.shape.dim]
        entry = helper.make_tensor_value_info(made[value], floating, sizes)
        exported.graph.output.append(entry)
    return made


def _rename_input(exported: onnx.ModelProto, port: Port, maps_first: bool) -> None:
    """Give an input the name and the order of axes that it has in the source model."""
    from onnx import helper

    info = next(entry for entry in exported.graph.input if entry.name == port.value)
    here = _order_here(len(port.order), maps_first)
    perm = [port.order[axis] for axis in here]
    if perm == sorted(perm):
        _rename(exported, port.value, port.name)
        info.name = port.name
        return
    dims = list(info.type.tensor_type.shape.dim)
    sizes: list[Any] = [None] * len(perm)
    for axis, dim in zip(perm, dims, strict=True):
        sizes[axis] = dim.dim_value or dim.dim_param
    inner = f"{port.value}/arranged"
    _rename(exported, port.value, inner)
    kind = info.type.tensor_type.elem_type
    info.CopyFrom(helper.make_tensor_value_info(port.name, kind, sizes))
    node = helper.make_node("Transpose", [port.name], [inner], name=inner, perm=perm)
    exported.graph.node.insert(0, node)


def _set_outputs(
    exported: onnx.ModelProto,
    outputs: Sequence[str],
    ports: Sequence[tuple[str, Port | None]],
    maps_first: bool,
) -> None:
    """Make ``outputs`` the outputs of the model, under the names and orders of ``ports``."""
    from onnx import helper

    infos = {info.name: info for info in exported.graph.output}
    made = []
    for value, (name, port) in zip(outputs, ports, strict=True):
        info = infos[value]
        dims = [dim.dim_value or dim.dim_param for dim in info.type.tensor_type.shape.dim]
        perm = list(range(len(dims)))
        if port is not None:
            here = _order_here(len(dims), maps_first)
            perm = [here.index(port.order.index(axis)) for axis in range(len(dims))]
        if name != value or perm != sorted(perm):
            op, extra = ("Transpose", {"perm": perm}) if perm != sorted(perm) else ("Identity", {})
            exported.graph.node.append(helper.make_node(op, [value], [name], name=name, **extra))
        kind = info.type.tensor_type.elem_type
        made.append(helper.make_tensor_value_info(name, kind, [dims[axis] for axis in perm]))
    del exported.graph.output[:]
    exported.graph.output.extend(made)


def _order_here(rank: int, maps_first: bool) -> tuple[int, ...]:
    """Our axes, the batch included, in the order of the exported model."""
    return (0, 3, 1, 2) if maps_first and rank == 4 else tuple(range(rank))


def _rename(exported: onnx.ModelProto, old: str, new: str) -> None:
    for node in exported.graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new


def _check(exported: onnx.ModelProto) -> None:
    import onnx.checker

    if exported.ByteSize() < 2**31:
        onnx.checker.check_model(exported, full_check=True)
