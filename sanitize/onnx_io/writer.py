"""What the writers of nodes write into: ONNX nodes, and which ONNX value each of ours is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph
from .builder import GraphBuilder
from .layout import Order

Array = NDArray[Any]


class Writer(GraphBuilder):
    """ONNX nodes and constants so far, and which ONNX value each of our values is."""

    def __init__(self, graph: Graph, opset: int) -> None:
        super().__init__([*graph.inputs, *graph.outputs])
        self.graph = graph
        self.opset = opset
        self.values: dict[str, str] = {}
        self._arrays: list[Array] = []  # keeps them alive, so that ids stay theirs
        self.label = graph.name

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
