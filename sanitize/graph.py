"""The float graph that every rewrite works on: immutable nodes of about thirty kinds.

Conventions that hold everywhere in this package:

* Tensors are channels-last, and shapes and axes never count the batch dimension: a picture is
  ``(h, w, c)`` and its channel axis is 2. A dimension that is not known is ``None``.
* A *value* is what flows along an edge. ``"conv"`` is the (first) output of node ``conv``,
  ``"lstm:1"`` the second output of an opaque node.
* Nodes and graphs never change. A rewrite makes a new graph with :meth:`Graph.replace`, which sorts
  it, drops what nobody uses any more, works out the shapes and checks the result.

What kinds there are, and what each computes, is defined once, in :mod:`sanitize.kinds`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .node import (
    GraphError,
    Node,
    node_shape,
    output_index,
    producer_of,
    value_shape,
)
from .ordering import check_nodes, sorted_live, with_shapes
from .shapes import Shape

__all__ = [
    "Graph",
    "GraphError",
    "Node",
    "node_shape",
    "output_index",
    "producer_of",
    "value_shape",
]


@dataclass(frozen=True, eq=False)
class Graph:
    """A float network, checked when it is made.

    A value is named after the node that makes it, ``"lstm:1"`` for its second output.

    Attributes:
        nodes: in topological order.
        inputs: names of ``input`` nodes.
        outputs: values (one may occur twice).
        name: of the model.
        input_structure: how the model nests its inputs: the position itself for a single tensor,
            else lists, tuples or dicts of positions, e.g. ``{"box": 0, "label": 1}``. None: one by
            one.
        output_structure: the same for the outputs.

    Raises:
        GraphError: for nodes that are not in order, lack an input or have a wrong shape, and for
            two of one name.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    name: str = "model"
    input_structure: Any = None
    output_structure: Any = None
    _index: dict[str, Node] = field(init=False, repr=False)
    _consumers: dict[str, list[Node]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        index: dict[str, Node] = {}
        consumers: dict[str, list[Node]] = {}
        for node in self.nodes:
            if node.name in index:
                raise GraphError(f"two nodes are named '{node.name}'; names must be unique")
            index[node.name] = node
            for name in dict.fromkeys(producer_of(value) for value in node.inputs):
                consumers.setdefault(name, []).append(node)
        object.__setattr__(self, "_index", index)
        object.__setattr__(self, "_consumers", consumers)
        if self.input_structure is None:
            object.__setattr__(self, "input_structure", _plain_structure(len(self.inputs)))
        if self.output_structure is None:
            object.__setattr__(self, "output_structure", _plain_structure(len(self.outputs)))
        check_nodes(self.nodes, self.inputs, self.outputs)

    @classmethod
    def build(
        cls,
        nodes: Iterable[Node],
        inputs: Sequence[str],
        outputs: Sequence[str],
        name: str = "model",
        input_structure: Any = None,
        output_structure: Any = None,
    ) -> Graph:
        """Make a graph from nodes in any order: sorted, without dead nodes, with shapes worked out.

        Args:
            nodes: the nodes.
            inputs: names of ``input`` nodes.
            outputs: values.
            name: of the model.
            input_structure: as in the class.
            output_structure: as in the class.

        Returns:
            The graph.

        Raises:
            GraphError: for a node whose inputs or shapes do not fit, a circle, and two nodes of one
                name.
        """
        live = sorted_live(list(nodes), inputs, outputs)
        return cls(
            tuple(with_shapes(live)),
            tuple(inputs),
            tuple(outputs),
            name,
            input_structure,
            output_structure,
        )

    def __getitem__(self, name: str) -> Node:
        """The node of that name, or the node that makes the value of that name."""
        node = self._index.get(producer_of(name))
        if node is None:
            raise KeyError(f"no node named '{name}' in graph '{self.name}'")
        return node

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and producer_of(name) in self._index

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def __str__(self) -> str:
        head = f"graph {self.name}({', '.join(self.inputs)}) -> {', '.join(self.outputs)}"
        return "\n".join([head, *(f"  {node}" for node in self.nodes)])

    def consumers(self, name: str) -> list[Node]:
        """Find the nodes that read any output of a node.

        Args:
            name: of the node, or of one of its values.

        Returns:
            Each once, in topological order.
        """
        return list(self._consumers.get(producer_of(name), []))

    def needed(self, values: Iterable[str]) -> list[Node]:
        """Find the nodes that make some values, and all that these depend on.

        Args:
            values: names of values, or of nodes.

        Returns:
            Each once, in topological order.
        """
        names = set(map(producer_of, values))
        for node in reversed(self.nodes):
            if node.name in names:
                names.update(map(producer_of, node.inputs))
        return [node for node in self.nodes if node.name in names]

    def uses(self, name: str) -> int:
        """Count how many times outputs of a node are read, graph outputs included.

        Args:
            name: of the node, or of one of its values.

        Returns:
            The count.
        """
        name = producer_of(name)
        reads = sum(
            producer_of(value) == name
            for node in self._consumers.get(name, [])
            for value in node.inputs
        )
        return reads + sum(producer_of(value) == name for value in self.outputs)

    def is_output(self, name: str) -> bool:
        """Whether the network returns an output of a node.

        Args:
            name: of the node, or of one of its values.

        Returns:
            True if it does.
        """
        return any(producer_of(value) == producer_of(name) for value in self.outputs)

    def shape_of(self, value: str) -> Shape:
        """Look up the unbatched shape of a value.

        Args:
            value: its name.

        Returns:
            The shape; sizes that are not known are None.

        Raises:
            KeyError: for a value that no node makes.
        """
        return value_shape(self[value], value)

    def sites(self, share: str) -> list[Node]:
        """Find all call sites of one shared layer.

        Args:
            share: the text that they have in common.

        Returns:
            The nodes, in order.
        """
        return [node for node in self.nodes if node.share == share]

    def unique_name(self, wish: str, taken: Iterable[str] = ()) -> str:
        """Find a name that no node has.

        Args:
            wish: the name that is tried first, then ``wish_1``, ``wish_2`` ...
            taken: other names that are not to be used.

        Returns:
            The first that is free.
        """
        used = set(taken)
        name, count = wish, 0
        while name in self._index or name in used:
            count += 1
            name = f"{wish}_{count}"
        return name

    def with_nodes(self, nodes: Iterable[Node], outputs: Sequence[str] | None = None) -> Graph:
        """Make a graph with the same network interface of other nodes.

        Args:
            nodes: in any order; dead ones are dropped.
            outputs: other values in place of the graph's; None keeps these.

        Returns:
            The new graph.

        Raises:
            GraphError: as :meth:`build` does.
        """
        return Graph.build(
            nodes,
            self.inputs,
            self.outputs if outputs is None else outputs,
            self.name,
            self.input_structure,
            self.output_structure,
        )

    def replace(
        self,
        remove: Iterable[str] = (),
        add: Iterable[Node] = (),
        redirect: Mapping[str, str] | None = None,
    ) -> Graph:
        """The basic rewrite.

        Args:
            remove: names of nodes that go.
            add: new nodes (one with the name of an old node takes its place). They are taken as
                they are: their inputs are not redirected, so that a new node can stand behind the
                value it replaces.
            redirect: old values -> the values that replace them wherever an old node or a graph
                output reads them.

        Returns:
            The new graph.

        Raises:
            GraphError: where two nodes of one name are added, and as :meth:`build` does.
        """
        added = list(add)
        new = {node.name: node for node in added}
        if len(new) != len(added):
            raise GraphError(f"a rewrite of graph '{self.name}' adds two nodes of one name")
        gone = set(remove) | set(new)
        moved = redirect or {}
        kept = [
            node.with_(inputs=tuple(moved.get(value, value) for value in node.inputs))
            if any(value in moved for value in node.inputs)
            else node
            for node in self.nodes
            if node.name not in gone
        ]
        outputs = [moved.get(value, value) for value in self.outputs]
        return self.with_nodes([*kept, *new.values()], outputs)


def _plain_structure(count: int) -> Any:
    return 0 if count == 1 else list(range(count))
