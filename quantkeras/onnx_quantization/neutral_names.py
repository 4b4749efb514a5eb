"""Neutral names for a model that is handed to a tool which makes new names out of old ones.

A tool that appends "_scale" or "_quantized" to the name of a value, and does not look whether the
model has such a value, breaks models that do. So it is given names that nothing else begins with,
and what comes back has the old ones again: also the tool's own, made unique where they must be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableSequence
from itertools import count

import onnx

from .graph_editor import all_names
from .model_source import inner_graphs


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

        self._values = {name: neutral(name) for name in _values(model.graph)}
        self._nodes = {node.name: neutral(node.name) for node in model.graph.node}
        for node in model.graph.node:
            node.name = self._nodes[node.name]
        _rename(model.graph, self._values)

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
        for name in _values(model.graph):
            if name not in back:
                back[name] = self._restored(name, taken)
        _rename(model.graph, back)
        taken = set(self._nodes)
        back = {neutral: name for name, neutral in self._nodes.items()}
        for node in model.graph.node:
            node.name = back.get(node.name) or self._restored(node.name, taken)

    def _restored(self, name: str, taken: set[str]) -> str:
        """A name that the tool made, with the old name in it; added to those taken."""
        base = self._pattern.sub(lambda found: self._old[int(found[1])], name)
        found, numbers = base, count(2)
        while found in taken:
            found = f"{base}_{next(numbers)}"
        taken.add(found)
        return found


def _values(graph: onnx.GraphProto) -> list[str]:
    """Names of the values that a graph reads or makes, without those of the graphs within."""
    found = [value.name for value in (*graph.input, *graph.output)]
    found += [tensor.name for tensor in graph.initializer]
    found += [tensor.values.name for tensor in graph.sparse_initializer]
    found += [name for node in graph.node for name in (*node.input, *node.output)]
    return [name for name in dict.fromkeys(found) if name]


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Give values the names that stand in the dictionary, within graphs of nodes as well."""

    def new(name: str) -> str:
        return names.get(name, name)

    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = new(value.name)
    for tensor in graph.sparse_initializer:
        tensor.values.name = new(tensor.values.name)
    for note in graph.quantization_annotation:
        note.tensor_name = new(note.tensor_name)
    for node in graph.node:
        _replace(node.input, new)
        _replace(node.output, new)
        for inner in inner_graphs(node):
            made = {value.name for value in (*inner.input, *inner.initializer)}
            made |= {name for part in inner.node for name in part.output}
            _rename(inner, {name: to for name, to in names.items() if name not in made})


def _replace(names: MutableSequence[str], new: Callable[[str], str]) -> None:
    for index, name in enumerate(names):
        names[index] = new(name)
