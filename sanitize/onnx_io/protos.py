"""ONNX models as they are stored: what is in them, new names for it, and new models of parts.

A value may be read by graphs within nodes (of branches and loops) as well: whatever goes through
names here goes through these, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper

# -- what is there --------------------------------------------------------------------------------


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the standard operators that ``model`` uses; 1 where it does not say."""
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    return int(versions.get("ai.onnx", 1))


def label_of(node: onnx.NodeProto, position: int | None = None) -> str:
    """The name of a node, or one made of its operator and output where it has none."""
    if node.name:
        return str(node.name)
    output = next((name for name in node.output if name), "")
    return f"{node.op_type}_{output}" if output else f"{node.op_type}_{position}"


def inner_graphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs that a branch, a loop or the like holds."""
    single = [item.g for item in node.attribute if item.HasField("g")]
    return [*single, *(graph for item in node.attribute for graph in item.graphs)]


def own_values(graph: onnx.GraphProto) -> set[str]:
    """Names of the values that a graph brings or makes itself."""
    given = (*graph.input, *graph.initializer, *(part.values for part in graph.sparse_initializer))
    return {value.name for value in given} | {name for node in graph.node for name in node.output}


def captured(graph: onnx.GraphProto) -> list[str]:
    """What a graph within a node reads from outside, each value once."""
    read = [name for node in graph.node for name in node.input if name]
    read += [
        name for node in graph.node for inner in inner_graphs(node) for name in captured(inner)
    ]
    read += [value.name for value in graph.output]
    own = own_values(graph)
    return [name for name in dict.fromkeys(read) if name not in own]


def read_within(graph: onnx.GraphProto) -> set[str]:
    """Values of a graph that graphs inside of its nodes read."""
    inner = (inner for node in graph.node for inner in inner_graphs(node))
    return {name for graph in inner for name in captured(graph)}


def uses_of(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> Counter[str]:
    """How often each value is read: by nodes, graphs within them, and as an output."""
    found = Counter(value.name for value in graph.output)
    for node in nodes:
        found.update(uses_of_node(node))
    return found


def uses_of_node(node: onnx.NodeProto) -> Counter[str]:
    """How often a node reads each value, graphs within it included."""
    found = Counter(node.input)
    for inner in inner_graphs(node):
        found.update(uses_of(inner, inner.node))
    return found


def value_names(graph: onnx.GraphProto) -> list[str]:
    """Names of the values of a graph, each once, without those of the graphs within."""
    found = [value.name for value in (*graph.input, *graph.output, *graph.initializer)]
    found += [tensor.values.name for tensor in graph.sparse_initializer]
    found += [name for node in graph.node for name in (*node.input, *node.output)]
    return [name for name in dict.fromkeys(found) if name]


def all_names(graph: onnx.GraphProto) -> Iterator[str]:
    """Names of nodes and values, also of graphs within."""
    yield from value_names(graph)
    for node in graph.node:
        yield node.name
        for inner in inner_graphs(node):
            yield from all_names(inner)


# -- names ----------------------------------------------------------------------------------------


def unique_name(wish: str, taken: set[str]) -> str:
    """The name, or one like it that is still free; it is taken from now on."""
    name, number = wish, 1
    while name in taken:
        number += 1
        name = f"{wish}_{number}"
    taken.add(name)
    return name


def rename_values(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Give the values of a graph that stand in the mapping other names, wherever they stand."""
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for tensor in graph.sparse_initializer:
        tensor.values.name = names.get(tensor.values.name, tensor.values.name)
    for note in graph.quantization_annotation:
        note.tensor_name = names.get(note.tensor_name, note.tensor_name)
    for node in graph.node:
        rename_in_node(node, names)


def rename_in_node(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Give what a node reads and makes other names, also where graphs within it read it."""
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = [names.get(name, name) for name in node.output]
    for inner in inner_graphs(node):
        own = own_values(inner)
        rename_values(inner, {name: new for name, new in names.items() if name not in own})


def rename_within(node: onnx.NodeProto, fresh: Callable[[str], str]) -> None:
    """Give what graphs within a node bring and make names by ``fresh``.

    In a model no name may occur twice, in whatever graph.
    """
    for inner in inner_graphs(node):
        for part in inner.node:
            rename_within(part, fresh)
        rename_values(inner, {name: fresh(name) for name in sorted(own_values(inner)) if name})


# -- new models -----------------------------------------------------------------------------------


def value_info(
    name: str, dtype: npt.DTypeLike, shape: Sequence[int | str | None] | None
) -> onnx.ValueInfoProto:
    """Type and shape of a value. shape: a name or None for an open size; None for any rank."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return onnx.helper.make_tensor_value_info(name, kind, shape)


def make_model(
    graph: onnx.GraphProto, imports: Mapping[str, int], ir_version: int | None = None, **more: Any
) -> onnx.ModelProto:
    """The model of a graph. imports: version per operator domain; ir_version: the oldest that has
    them unless given; more: fields such as ``producer_name``.
    """
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in imports.items()]
    if ir_version is None:
        ir_version = onnx.helper.find_min_ir_version_for(opsets, ignore_unknown=True)
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, **more)
