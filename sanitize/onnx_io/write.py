"""write_onnx: a float graph as an ONNX model.

Pictures are channels-first inside, as ONNX' operators want them; the other values have the axes
that they have in the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import onnx
import onnx.checker
import onnx.helper
from numpy.typing import NDArray

from ..graph import Graph, Node
from .builder import GraphBuilder
from .layout import Order
from .protos import make_model, value_info
from .write_kinds import WRITERS

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
            writer.write(node)
    outputs = _outputs(writer, graph, output_layout or input_layout)
    proto = writer.finished(graph.name, inputs, outputs)
    model = make_model(proto, {"": opset}, producer_name="sanitize")
    onnx.checker.check_model(model)
    return model


class Writer(GraphBuilder):
    """ONNX nodes and constants so far, and which ONNX value each of our values is."""

    def __init__(self, graph: Graph, opset: int) -> None:
        super().__init__([*graph.inputs, *graph.outputs])
        self.graph = graph
        self.opset = opset
        self.values: dict[str, str] = {}
        self._arrays: list[Array] = []  # keeps them alive, so that ids stay theirs
        self.label = graph.name

    def write(self, node: Node) -> None:
        """Write one node."""
        self.label = node.name
        inputs = [self.values[value] for value in node.inputs]
        results = WRITERS[node.kind](self, node, inputs)
        made = [results] if isinstance(results, str) else results
        for index, value in enumerate(made):
            self.values[node.name if index == 0 else f"{node.name}:{index}"] = value

    def emit(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add an ONNX node with one output; the output."""
        # Its output is called like our node, or the like where that makes several.
        output = self.unique(self.label if op != "Transpose" else f"{self.label}/transpose")
        self.add_node(op, inputs, [output], output, **attributes)
        return output

    def number(self, value: float) -> str:
        """A float constant without axes."""
        return self.add_constant(np.float32(value), "number", ("number", value))

    def numbers(self, values: Sequence[int]) -> str:
        """A constant list of integers."""
        name = f"{self.label}/numbers"
        return self.add_constant(np.asarray(values, np.int64), name, ("numbers", *values))

    def weight(self, array: Array, key: str, arranged: Array | None = None) -> str:
        """A float constant: ``array``, stored as ``arranged``; once for all that share it."""
        self._arrays.append(array)
        stored = np.ascontiguousarray(array if arranged is None else arranged, np.float32)
        return self.add_constant(stored, f"{self.label}/{key}", (id(array), stored.shape))

    def broadcast(self, array: Array, rank: int, key: str) -> str:
        """A constant that meets a value of ``rank`` unbatched axes, arranged as that is."""
        full = array.reshape((1,) * (rank - array.ndim) + array.shape) if array.ndim else array
        if rank == 3 and array.ndim:
            full = full.transpose(2, 0, 1)
        return self.weight(array, key, full)

    def to_ours(self, value: str, rank: int) -> str:
        """The value with its axes as in the graph."""
        return self.emit("Transpose", value, perm=[0, 2, 3, 1]) if rank == 3 else value

    def from_ours(self, value: str, rank: int) -> str:
        """A value with the axes of the graph, arranged as values are here."""
        return self.emit("Transpose", value, perm=[0, 3, 1, 2]) if rank == 3 else value

    def reordered(self, value: str, order: Order, wanted: Order) -> str:
        """A value whose axes are ours in ``order``, with ours in ``wanted``."""
        perm = [order.index(axis) for axis in wanted]
        return value if perm == sorted(perm) else self.emit("Transpose", value, perm=perm)

    def shape(self, value: str) -> tuple[int, ...]:
        """Unbatched shape of one of our values."""
        return tuple(int(size or 0) for size in self.graph.shape_of(value))

    def axis(self, axis: int, rank: int) -> int:
        """The ONNX axis, batch included, of our unbatched axis."""
        return 1 + natural_axes(rank).index(axis)


def natural_axes(rank: int) -> tuple[int, ...]:
    """Our unbatched axes in the order in which ONNX values have them here."""
    return (2, 0, 1) if rank == 3 else tuple(range(rank))


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
