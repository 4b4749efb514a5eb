"""write_onnx: a float graph as an ONNX model.

Pictures are channels-first inside, as ONNX' operators want them; the other values have the axes
that they have in the graph.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx
import onnx.checker
import onnx.helper
from numpy.typing import NDArray

from ..graph import Graph, Node
from .protos import make_model, value_info
from .write_kinds import WRITERS
from .writer import Writer, natural_axes

Array = NDArray[Any]
Layout = Literal["nchw", "nhwc"]

#: Has all operators that are written, and is read by every runtime of today.
OPSET = 17


def write_onnx(
    graph: Graph,
    *,
    input_layout: Layout = "nchw",
    output_layout: Layout | None = None,
    opset: int = OPSET,
) -> onnx.ModelProto:
    """Write a graph as an ONNX model; inputs and outputs keep their names.

    Args:
        graph: the network.
        input_layout: of pictures, ``nchw`` or ``nhwc``.
        output_layout: likewise; None follows the inputs.
        opset: 17 or newer, such as the one that opaque ONNX operators were written for.

    Returns:
        A model that onnx.checker accepts.

    Raises:
        sanitize.onnx_io.OnnxError: naming the node, for a layer that ONNX has no operators for.
        ValueError: for another layout.
    """
    for layout in (input_layout, output_layout or input_layout):
        if layout not in ("nchw", "nhwc"):
            raise ValueError(f"a layout is 'nchw' or 'nhwc', not {layout!r}")
    writer = Writer(graph, opset)
    inputs = [_input(writer, graph[name], input_layout) for name in graph.inputs]
    for node in graph:
        if node.kind != "input":
            _write_node(writer, node)
    outputs = _outputs(writer, graph, output_layout or input_layout)
    proto = writer.finished(graph.name, inputs, outputs)
    model = make_model(proto, {"": opset}, producer_name="sanitize")
    onnx.checker.check_model(model)
    return model


def _write_node(writer: Writer, node: Node) -> None:
    writer.label = node.name
    results = WRITERS[node.kind](writer, node, [writer.values[value] for value in node.inputs])
    made = [results] if isinstance(results, str) else results
    writer.values.update(zip(node.values, made, strict=True))


def _input(writer: Writer, node: Node, layout: Layout) -> onnx.ValueInfoProto:
    rank = len(node.shape)
    first = layout == "nchw" and rank == 3
    shape = [node.shape[axis] for axis in natural_axes(rank)] if first else list(node.shape)
    writer.label = node.name
    value = node.name if first or rank != 3 else writer.from_ours(node.name, rank)
    dtype = np.dtype(node.attrs.get("dtype", "float32"))
    if dtype != np.float32:  # numbers are floats in a graph
        value = writer.emit("Cast", value, to=onnx.TensorProto.FLOAT)
    writer.values[node.name] = value
    return value_info(node.name, dtype, ["n", *shape])


def _outputs(writer: Writer, graph: Graph, layout: Layout) -> list[onnx.ValueInfoProto]:
    infos = []
    for value in dict.fromkeys(graph.outputs):
        shape = graph.shape_of(value)
        rank = len(shape)
        writer.label = value.replace(":", "_")
        result = writer.values[value]
        if layout == "nhwc" and rank == 3:
            result = writer.to_ours(result, rank)
        elif rank == 3:
            shape = tuple(shape[axis] for axis in natural_axes(rank))
        name = writer.unique(value) if value in graph.inputs else value
        writer.add_node("Identity", [result], [name], name)
        infos.append(value_info(name, np.float32, ["n", *shape]))
    return infos
