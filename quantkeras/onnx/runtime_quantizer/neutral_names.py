"""Neutral names for a model that is handed to a tool which makes new names out of old ones.

A tool that appends "_scale" or "_quantized" to the name of a value, and does not look whether the
model has such a value, breaks models that do. So it is given names that nothing else begins with,
and what comes back has the old ones again: also the tool's own, made unique where they must be.
"""

from __future__ import annotations

import re

import onnx

from sanitize.onnx_io.protos import (
    all_names,
    inner_graphs,
    rename_values,
    unique_name,
    value_names,
)


class NeutralNames:
    """Renames the values and nodes of a model's main graph in place, and back.

    Values and nodes within loops and branches keep their names; what they read from outside is
    renamed with it.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        """Rename everything in the model."""
        names = set(all_names(model.graph))
        tag = "v"
        while any(re.search(f"{tag}[0-9]+_", name) for name in names):
            tag += "v"
        self._pattern = re.compile(f"{tag}([0-9]+)_")
        self._old: list[str] = []
        self._inner = {
            name for node in model.graph.node for part in inner_graphs(node)
            for name in all_names(part)
        }  # fmt: skip

        def neutral(name: str) -> str:
            self._old.append(name)
            return f"{tag}{len(self._old) - 1}_"

        self._values = {name: neutral(name) for name in value_names(model.graph)}
        self._nodes = {node.name: neutral(node.name) for node in model.graph.node}
        for node in model.graph.node:
            node.name = self._nodes[node.name]
        rename_values(model.graph, self._values)

    def of(self, value: str) -> str:
        """The neutral name of a value; the same for one that the model does not have."""
        return self._values.get(value, value)

    def of_node(self, node: str) -> str:
        """The neutral name of a node."""
        return self._nodes[node]

    def restore(self, model: onnx.ModelProto) -> None:
        """Give a model that was made from the renamed one its names back."""
        taken = self._inner | set(self._values)
        back = {neutral: name for name, neutral in self._values.items()}
        for name in value_names(model.graph):
            if name not in back:
                back[name] = self._restored(name, taken)
        rename_values(model.graph, back)
        taken = set(self._nodes)
        back = {neutral: name for name, neutral in self._nodes.items()}
        for node in model.graph.node:
            node.name = back.get(node.name) or self._restored(node.name, taken)

    def _restored(self, name: str, taken: set[str]) -> str:
        """A name that the tool made, with the old name in it; added to those taken."""
        return unique_name(self._pattern.sub(lambda found: self._old[int(found[1])], name), taken)
