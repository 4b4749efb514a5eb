"""Writing an ONNX graph: nodes and constants one after the other, under names that are free."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from .protos import unique_name


class GraphBuilder:
    """The nodes and constants that were added, in order.

    infos: types and shapes of values in between, for whoever reads the file.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        """taken: names that the graph has already, or will have."""
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.infos: list[onnx.ValueInfoProto] = []
        self._taken = set(taken)
        self._shared: dict[Hashable, str] = {}

    def unique(self, wish: str) -> str:
        """The name, or one like it that is still free; it is taken from now on."""
        return unique_name(wish, self._taken)

    def add_node(
        self, op: str, inputs: Sequence[str], outputs: Sequence[str], name: str, **more: Any
    ) -> None:
        """Add a node; more: its domain and attributes, those that are None left out."""
        given = {key: value for key, value in more.items() if value is not None}
        self.nodes.append(onnx.helper.make_node(op, inputs, outputs, name, **given))

    def add_constant(self, values: Any, name: str, key: Hashable = None) -> str:
        """Name of an initializer. key: what is added once, whoever asks; None: always added."""
        if key is not None and key in self._shared:
            return self._shared[key]
        found = self.unique(name)
        self.initializers.append(onnx.numpy_helper.from_array(np.asarray(values), found))
        if key is not None:
            self._shared[key] = found
        return found

    def finished(
        self,
        name: str,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
    ) -> onnx.GraphProto:
        """What was added, as a graph; what describes an output is not listed again."""
        ends = {value.name for value in outputs}
        infos = [value for value in self.infos if value.name not in ends]
        return onnx.helper.make_graph(
            self.nodes, name, inputs, outputs, self.initializers, value_info=infos
        )
