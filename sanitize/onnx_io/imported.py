"""What reading an ONNX model gives: the graph, and its inputs and outputs in ONNX and in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from ..graph import Graph, Node
from ..onnx_errors import OnnxError
from .entrance import input_orders
from .layout import PICTURE, SEQUENCE, Order, Rows, Tensor
from .state import Reading
from .view import OnnxInput, OnnxNode

Array = NDArray[Any]
Layout = Literal["channels_last", "as_is"]


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


def read_inputs(
    r: Reading,
    declared: Sequence[OnnxInput],
    shapes: Mapping[str, tuple[int, ...]],
    layout: Layout,
) -> list[Port]:
    """Input nodes for the inputs of the model, of these sizes per sample."""
    orders = input_orders(r.graph, declared, shapes)
    ports = []
    for entry in declared:
        batch, order = entry.batch_axis, orders[entry.name]
        if order == SEQUENCE:
            r.sequences = True
        plain = (batch, *(axis for axis in range(len(entry.shape)) if axis != batch))
        kept = plain if layout == "as_is" else order
        shape = tuple(shapes[entry.name][axis - (axis > batch)] for axis in kept[1:])
        dtype = "float32" if entry.dtype.kind in "fV" else str(entry.dtype)
        # Without "/", which Keras would rename: samples and reports find inputs by this name.
        name = r.unique(entry.name.replace("/", "_"))
        r.nodes[name] = Node(name, "input", (), {"dtype": dtype}, {}, shape, (entry.name,))
        r.label, r.source = name, (entry.name,)
        r.values[entry.name] = r.arranged(Tensor(name, shape, kept, entry.dtype), order)
        ports.append(Port(entry.name, name, kept, str(entry.dtype)))
    return ports


def read_output(r: Reading, name: str, layout: Layout) -> Port:
    """The output ``name``; OnnxError for one that has no axis of samples alone."""
    value = r.values.get(name)
    if isinstance(value, Rows):
        raise OnnxError(
            f"the output '{name}' has {value}. Reshape it so that one axis counts samples alone"
        )
    if not isinstance(value, Tensor):
        raise OnnxError(f"the output '{name}' does not depend on the inputs of the model")
    r.label = name
    tensor = r.unfolded(value)
    plain = tuple(range(tensor.rank))
    turned = tensor.order == PICTURE or (tensor.order == SEQUENCE and r.sequences)
    if layout == "as_is" or not turned:
        batch = tensor.batch_axis
        tensor = r.arranged(tensor, (batch, *(axis for axis in plain if axis != batch)))
    return Port(name, tensor.value, tensor.order, str(tensor.dtype))
