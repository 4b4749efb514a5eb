"""An ONNX graph as the reader and custom patterns see it: nodes, and who makes and reads what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from numpy.typing import NDArray

from ..onnx_errors import OnnxError
from .protos import captured, inner_graphs, label_of, opset_of

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class OnnxNode:
    """One ONNX operation.

    Attributes:
        name: its own, or made of the operator and its output.
        op_type: the operator.
        domain: its domain, "" for ONNX's own.
        inputs: value names, "" for one that is left out.
        outputs: value names.
        attributes: numbers, strings, tuples, arrays and graphs.
        proto: the node itself.
        captured: what graphs within the node (branches, loops) read from outside.
    """

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    proto: onnx.NodeProto
    captured: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """All values that it needs, each once."""
        return tuple(dict.fromkeys(name for name in (*self.inputs, *self.captured) if name))

    def input(self, index: int) -> str:
        """Look up the name of an input.

        Args:
            index: its number.

        Returns:
            The value's name; "" where the node has none.
        """
        return self.inputs[index] if index < len(self.inputs) else ""

    def get(self, attribute: str, default: Any = None) -> Any:
        """Look up the value of an attribute.

        Args:
            attribute: its name.
            default: what a node without it gives.

        Returns:
            The value, or ``default``.
        """
        return self.attributes.get(attribute, default)

    def __str__(self) -> str:
        return f"'{self.name}' ({self.op_type})"


@dataclass(frozen=True)
class OnnxInput:
    """A graph input: shape as the model declares it, a text or None for a size that is free;
    batch_axis: the axis of it that counts samples.
    """

    name: str
    shape: tuple[int | str | None, ...]
    dtype: np.dtype[Any]
    batch_axis: int = 0

    @property
    def sizes(self) -> tuple[int | str | None, ...]:
        """The sizes of one sample."""
        return self.shape[: self.batch_axis] + self.shape[self.batch_axis + 1 :]


class OnnxGraph:
    """The nodes that the outputs of a model need, in their order, and its constants.

    ``constants`` holds the initializers; folding adds what can be computed from them.

    Args:
        model: the ONNX model.

    Raises:
        OnnxError: for a sparse constant.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.name: str = graph.name
        self.opset = opset_of(model)
        self.ir_version = int(model.ir_version)
        self.opset_imports = {entry.domain: int(entry.version) for entry in model.opset_import}
        self.constants: dict[str, Array] = {
            tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer
        }
        if graph.sparse_initializer:
            name = graph.sparse_initializer[0].values.name
            raise OnnxError(f"the constant '{name}' is sparse; store it as a dense initializer")
        self.outputs = tuple(value.name for value in graph.output)
        # Before IR version 4 initializers had to be listed as inputs, and many files still do;
        # tf2onnx leaves inputs behind that nothing reads any more.
        nodes = [wrapped(proto, position) for position, proto in enumerate(graph.node)]
        read = {*self.outputs, *(name for node in nodes for name in node.reads)}
        free = [value for value in graph.input if value.name not in self.constants]
        self.inputs = tuple(_declared(value) for value in free if value.name in read)
        self.keep_nodes(nodes)

    def keep_nodes(self, nodes: Sequence[OnnxNode]) -> None:
        """Make these the nodes of the graph, without those that no output needs.

        Args:
            nodes: in topological order.
        """
        self._producers = {name: node for node in nodes for name in node.outputs if name}
        live: set[int] = set()
        waiting = list(self.outputs)
        while waiting:
            node = self._producers.get(waiting.pop())
            if node is not None and id(node) not in live:
                live.add(id(node))
                waiting += node.reads
        self.nodes = tuple(node for node in nodes if id(node) in live)
        self._producers = {name: node for node in self.nodes for name in node.outputs if name}
        self._consumers: dict[str, list[OnnxNode]] = {}
        for node in self.nodes:
            for name in (*node.inputs, *node.captured):
                if name:
                    self._consumers.setdefault(name, []).append(node)

    def producer(self, name: str) -> OnnxNode | None:
        """Find the node that makes a value.

        Args:
            name: of the value.

        Returns:
            The node; None for inputs and constants.
        """
        return self._producers.get(name)

    def consumers(self, name: str) -> list[OnnxNode]:
        """Find the nodes that read a value.

        Args:
            name: of the value.

        Returns:
            One entry per reading.
        """
        return list(self._consumers.get(name, []))

    def uses(self, name: str) -> int:
        """Count how many times a value is read, as output of the model too.

        Args:
            name: of the value.

        Returns:
            The count.
        """
        return len(self._consumers.get(name, [])) + self.outputs.count(name)


def _declared(value: onnx.ValueInfoProto) -> OnnxInput:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        raise OnnxError(
            f"the input '{value.name}' is no tensor of a known rank; declare its shape in the model"
        )
    shape = tuple(
        int(dim.dim_value)
        if dim.HasField("dim_value") and dim.dim_value >= 0  # some exporters write -1 for open
        else (dim.dim_param or None)
        for dim in kind.shape.dim
    )
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return OnnxInput(value.name, shape, dtype)


def wrapped(proto: onnx.NodeProto, position: int) -> OnnxNode:
    """The node number ``position`` of a graph."""
    return OnnxNode(
        label_of(proto, position),
        proto.op_type,
        "" if proto.domain == "ai.onnx" else proto.domain,
        tuple(proto.input),
        tuple(proto.output),
        {item.name: _plain(item) for item in proto.attribute},
        proto,
        tuple(name for graph in inner_graphs(proto) for name in captured(graph)),
    )


def _plain(item: onnx.AttributeProto) -> Any:
    """The value of an attribute: bytes as text, lists as tuples, tensors as arrays."""
    value = onnx.helper.get_attribute_value(item)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, (list, tuple)) or hasattr(value, "__len__"):
        parts = (
            part.decode("utf-8", "replace") if isinstance(part, bytes) else part for part in value
        )
        return tuple(parts)
    return value
