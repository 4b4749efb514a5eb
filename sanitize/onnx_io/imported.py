"""What reading an ONNX model gives: the graph, and its inputs and outputs in ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ..graph import Graph
from .layout import Order
from .view import OnnxNode

Array = NDArray[Any]


@dataclass(frozen=True)
class Port:
    """An input or output of the ONNX model and the value of the graph that it is.

    Attributes:
        name: in the ONNX model.
        value: in the graph.
        order: axis j of ours is axis order[j] of ONNX'.
        dtype: of the ONNX value.
    """

    name: str
    value: str
    order: Order
    dtype: str

    def from_onnx(self, array: Array) -> Array:
        """Arrange an array as the graph has it.

        Args:
            array: as the ONNX model has it.

        Returns:
            A view with the axes of the graph.
        """
        return array.transpose(self.order)

    def to_onnx(self, array: Array) -> Array:
        """Arrange an array as the ONNX model has it.

        Args:
            array: as the graph has it.

        Returns:
            A view with the axes of the ONNX model.
        """
        return array.transpose([self.order.index(axis) for axis in range(len(self.order))])


@dataclass(frozen=True)
class OnnxImport:
    """What reading an ONNX model gives: the graph, and what its inputs and outputs are in ONNX.

    Attributes:
        graph: the network.
        inputs: of the ONNX model, in order.
        outputs: likewise.
        opset: version of the standard operators.
        nodes: the ONNX nodes that data flow through, in order; those that compute constants are
            none.
        products: names of the dynamic integer products that are read as float ones.
        alone: whether data decide about branches or loops, so that the model says what it computes
            of one sample at a time.
    """

    graph: Graph
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    opset: int
    nodes: tuple[OnnxNode, ...]
    products: tuple[str, ...] = ()
    alone: bool = False
