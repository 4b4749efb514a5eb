"""The nodes that are made of the calls of a Keras model: their names, weights and origins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from ..graph import Node
from ..shapes import Shape
from .call import Call
from .names import scope_name
from .opaque_layers import OpaqueCall


class NodesOfCalls:
    """Nodes so far, and which layer each came from."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        # Per node: the layer object and the part of it, to find shared layers at the end.
        self.origins: dict[str, tuple[Any, str, str]] = {}
        # Weights by operation, so that call sites share them.
        self.arrays: dict[tuple[int, str, str], Any] = {}

    def unique(self, wish: str) -> str:
        """A name that no node has: like ``wish``, as far as graphs and backends can name it."""
        wish = wish.replace(":", "_") or "node"
        name, count = wish, 0
        while name in self.nodes:
            count += 1
            name = f"{wish}_{count}"
        return name

    def add_input(self, tensor: Any) -> str:
        own = tensor._keras_history.operation.name
        name = self.unique(own)
        attrs = {"dtype": keras.backend.standardize_dtype(tensor.dtype)}
        self.nodes[name] = Node(name, "input", (), attrs, {}, unbatched(tensor), (own,))
        return name

    def add_emitted(self, call: Call, operation: Any, name: str) -> list[str]:
        """Turn what an entry emitted into nodes; the values of the call's outputs.

        The last node without a suffix carries the layer's own name, where one node is returned.
        """
        made: list[str] = []
        final = self.unique(scope_name(name))
        plain = [place for place, part in enumerate(call.emitted) if not part.suffix]
        several = len(call.results) > 1
        main = -1 if several else plain[-1] if plain else len(call.emitted) - 1
        for position, part in enumerate(call.emitted):
            full = final if position == main else self.unique(f"{final}/{part.suffix}")
            inputs = tuple(
                made[int(value[1:])] if value.startswith("\0") else value for value in part.inputs
            )
            weights = {
                key: self.arrays.setdefault((id(operation), part.suffix, key), array)
                for key, array in part.weights.items()
            }
            self.nodes[full] = Node(full, part.kind, inputs, part.attrs, weights, (), (name,))
            self.origins[full] = (operation, part.suffix, name)
            made.append(full)
        if call.results:
            return [
                made[int(value[1:])] if value.startswith("\0") else value for value in call.results
            ]
        return made[-1:]

    def add_opaque(self, call: Call, operation: Any, name: str) -> list[str]:
        full = self.unique(scope_name(name))
        layer = call.operation
        attrs = {
            "layer": layer,
            "call": OpaqueCall(layer, call.args, dict(call.kwargs), tuple(call.dtypes)),
            "shapes": tuple(call.outputs),
            "reason": call.reason,
        }
        shape = call.outputs[0]
        self.nodes[full] = Node(full, "opaque", tuple(call.values), attrs, {}, shape, (name,))
        self.origins[full] = (operation, "", name)
        rest = [f"{full}:{index}" for index in range(1, len(call.outputs))]
        return [full, *rest]

    def renamed(self, value: str, name: str, fresh: Sequence[str]) -> str:
        """Give the node behind ``value`` the layer's name, if it is the last one of its nodes."""
        if value not in fresh or any(value in node.inputs for node in self.nodes.values()):
            return value
        if self.nodes[value].output_count > 1:
            return value
        final = self.unique(scope_name(name))
        self.nodes[final] = self.nodes.pop(value).with_(name=final)
        self.origins[final] = self.origins.pop(value)
        return final

    def take_back(self, kept: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return to an earlier :meth:`state`; the one that is left."""
        left = self.nodes, self.origins, self.arrays
        self.nodes, self.origins, self.arrays = kept
        return left

    def state(self) -> tuple[Any, ...]:
        """Copies of what there is now, to return to."""
        return dict(self.nodes), dict(self.origins), dict(self.arrays)

    def finished_nodes(self) -> list[Node]:
        """All nodes, with ``share`` set where one layer with weights has several call sites."""
        sites: dict[tuple[int, str], list[str]] = {}
        for full, (operation, suffix, _) in self.origins.items():
            if isinstance(operation, keras.layers.Layer) and operation.weights:
                node = self.nodes[full]
                if node.weights or node.kind == "opaque":
                    sites.setdefault((id(operation), suffix), []).append(full)
        for (_, suffix), names in sites.items():
            if len(names) > 1:
                share = self.origins[names[0]][2] + (f"/{suffix}" if suffix else "")
                for full in names:
                    self.nodes[full] = self.nodes[full].with_(share=share)
        return list(self.nodes.values())


def unbatched(tensor: Any) -> Shape:
    """The shape of a tensor of the model without its first axis."""
    return tuple(tensor.shape[1:])
