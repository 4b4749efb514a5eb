"""A quantized ONNX model with the inputs and outputs of the float one that it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sanitize.onnx_io.protos import rename_values

from ..conversion.convert import integer_program
from ..qmodel import QuantizedGraph
from .onnx_export import export_onnx
from .onnx_files import check_onnx
from .output_names import output_tensors

if TYPE_CHECKING:
    import onnx

    from sanitize.onnx_io import OnnxImport, Port


def export_whole(
    model: Any, format: str = "integer", source: OnnxImport | None = None
) -> onnx.ModelProto:
    """A quantized Keras model, or its reading, with the layers that stay float, as one ONNX model.

    format: see :func:`export_onnx`. source: how the ONNX model was read that was quantized; inputs
    and outputs then have its names and its order of axes.
    """
    if source is None:
        return export_onnx(model, format=format)
    reading = QuantizedGraph.of(model, "convert")
    program = integer_program(reading)
    maps = [port for port in source.inputs if len(port.order) == 4]
    first = all(port.order == (0, 2, 3, 1) for port in maps)
    layout = "nchw" if first else "nhwc"
    exported = export_onnx(reading, format=format, input_layout=layout)
    tensors = output_tensors(reading.graph, program)
    names = [entry.name for entry in exported.graph.output]
    found = dict(zip(dict.fromkeys(tensors), names, strict=True))
    for port in source.inputs:
        _restore_input(exported, port, first)
    _restore_outputs(exported, [found[tensor] for tensor in tensors], source.outputs, first)
    check_onnx(exported)
    return exported


def _restore_input(exported: onnx.ModelProto, port: Port, maps_first: bool) -> None:
    """Give an input the name and the order of axes that it has in the source model."""
    from onnx import helper

    info = next(entry for entry in exported.graph.input if entry.name == port.value)
    perm = [port.order[axis] for axis in _order_here(len(port.order), maps_first)]
    if perm == sorted(perm):
        rename_values(exported.graph, {port.value: port.name})
        return
    dims = info.type.tensor_type.shape.dim
    sizes: list[Any] = [None] * len(perm)
    for axis, dim in zip(perm, dims, strict=True):
        sizes[axis] = dim.dim_value or dim.dim_param
    inner = f"{port.value}/arranged"
    rename_values(exported.graph, {port.value: inner})
    kind = info.type.tensor_type.elem_type
    info.CopyFrom(helper.make_tensor_value_info(port.name, kind, sizes))
    node = helper.make_node("Transpose", [port.name], [inner], name=inner, perm=perm)
    exported.graph.node.insert(0, node)


def _restore_outputs(
    exported: onnx.ModelProto, tensors: Sequence[str], ports: Sequence[Port], maps_first: bool
) -> None:
    """Make ``tensors`` the outputs of the model, under the names and orders of ``ports``."""
    from onnx import helper

    infos = {info.name: info for info in exported.graph.output}
    made = []
    for tensor, port in zip(tensors, ports, strict=True):
        kind = infos[tensor].type.tensor_type
        dims = [dim.dim_value or dim.dim_param for dim in kind.shape.dim]
        here = _order_here(len(dims), maps_first)
        perm = [here.index(port.order.index(axis)) for axis in range(len(dims))]
        turned = perm != sorted(perm)
        if turned and port.name == tensor:
            tensor = f"{tensor}/arranged"
            rename_values(exported.graph, {port.name: tensor})
        if turned or port.name != tensor:
            op, extra = ("Transpose", {"perm": perm}) if turned else ("Identity", {})
            node = helper.make_node(op, [tensor], [port.name], name=f"{port.name}/output", **extra)
            exported.graph.node.append(node)
        sizes = [dims[axis] for axis in perm]
        made.append(helper.make_tensor_value_info(port.name, kind.elem_type, sizes))
    del exported.graph.output[:]
    exported.graph.output.extend(made)


def _order_here(rank: int, maps_first: bool) -> tuple[int, ...]:
    """Our axes, the batch included, in the order of the exported model."""
    return (0, 3, 1, 2) if maps_first and rank == 4 else tuple(range(rank))
