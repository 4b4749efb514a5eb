"""The float graph that every rewrite works on: immutable nodes of about twenty-five kinds.

Conventions that hold everywhere in this package:

* Tensors are channels-last, and shapes and axes never count the batch dimension: a picture is
  ``(h, w, c)`` and its channel axis is 2. A dimension that is not known is ``None``.
* A *value* is what flows along an edge. ``"conv"`` is the (first) output of node ``conv``,
  ``"lstm:1"`` the second output of an opaque node.
* Nodes and graphs never change. A rewrite makes a new graph with :meth:`Graph.replace`, which sorts
  it, drops what nobody uses any more, works out the shapes and checks the result.

What each kind computes is defined once, in :mod:`sanitize.semantics`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .shapes import Shape, infer_shape

Array = NDArray[np.floating[Any]]

#: Every node kind, with the weights it must have and the weights it may have.
KINDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "input": ((), ()),
    "conv2d": (("kernel",), ("bias", "pad_value")),
    "depthwise_conv2d": (("kernel",), ("bias", "pad_value")),
    "conv2d_transpose": (("kernel",), ("bias",)),
    "dense": (("kernel",), ("bias",)),
    "batchnorm": (("mean", "variance"), ("gamma", "beta")),
    "affine": (("scale", "offset"), ()),
    "relu": ((), ("max_value",)),
    "activation": ((), ("alpha",)),
    "softmax": ((), ()),
    "max_pool": ((), ()),
    "avg_pool": ((), ()),
    "global_avg_pool": ((), ()),
    "global_max_pool": ((), ()),
    "add": ((), ()),
    "subtract": ((), ()),
    "multiply": ((), ()),
    "maximum": ((), ()),
    "minimum": ((), ()),
    "concat": ((), ()),
    "flatten": ((), ()),
    "reshape": ((), ()),
    "permute": ((), ()),
    "pad": ((), ()),
    "upsample": ((), ()),
    "slice": ((), ()),
    "identity": ((), ()),
    "opaque": ((), ()),
}

#: Kinds that combine two or more values.
MERGES = frozenset({"add", "subtract", "multiply", "maximum", "minimum", "concat"})


class GraphError(ValueError):
    """A graph that is not well formed; the message names the node and the reason."""


def producer_of(value: str) -> str:
    """The name of the node that makes ``value`` (``"lstm:1"`` is made by ``"lstm"``)."""
    return value.partition(":")[0]


def output_index(value: str) -> int:
    """Which output of its node ``value`` is."""
    index = value.partition(":")[2]
    return int(index) if index else 0


@dataclass(frozen=True, eq=False)
class Node:
    """One operation. See the table in :mod:`sanitize.semantics` for the attributes of each kind.

    ``source`` names the layers of the user's model that the node stands for; reports use it.
    ``share`` is the same text on all call sites of one layer that is called several times: these
    nodes hold the same weights and a rewrite must change all of them alike or none.
    """

    name: str
    kind: str
    inputs: tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Array] = field(default_factory=dict)
    shape: Shape = ()
    source: tuple[str, ...] = ()
    share: str | None = None

    def with_(self, **changes: Any) -> Node:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def with_attrs(self, **attrs: Any) -> Node:
        """A copy with attributes added or replaced; a value of None removes the attribute."""
        merged = {**self.attrs, **attrs}
        return self.with_(attrs={k: v for k, v in merged.items() if v is not None})

    def with_weights(self, **weights: Array | None) -> Node:
        """A copy with weights added or replaced (stored as float32); None removes one."""
        merged: dict[str, Array] = dict(self.weights)
        for key, value in weights.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = np.asarray(value, np.float32)
        return self.with_(weights=merged)

    @property
    def output_count(self) -> int:
        """How many values the node makes: one, except for opaque nodes."""
        return len(self.attrs["shapes"]) if self.kind == "opaque" else 1

    @property
    def channels(self) -> int | None:
        """Size of the last axis of the output, None where it is not known."""
        return self.shape[-1] if self.shape else None

    def __str__(self) -> str:
        parts = [
            f"{key}={value!r}"
            for key, value in self.attrs.items()
            if key not in ("layer", "call", "shapes")
        ]
        if self.kind == "opaque":
            parts.insert(0, type(self.attrs["layer"]).__name__)
        parts += [f"{key}{tuple(value.shape)}" for key, value in self.weights.items()]
        if self.share is not None:
            parts.append(f"shared={self.share!r}")
        text = f"{self.name} = {self.kind}({', '.join(self.inputs)})"
        return " ".join([text, *parts, "->", str(self.shape)])


@dataclass(frozen=True, eq=False)
class Graph:
    """A float network: ``nodes`` in topological order, checked when it is made.

    ``inputs`` are names of ``input`` nodes, ``outputs`` are values (one may occur twice).
    ``input_structure`` and ``output_structure`` say how the model nests them: the position itself
    for a single tensor, else lists, tuples or dicts of positions, e.g. ``{"box": 0, "label": 1}``.
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
        check_graph(self)

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
        """A graph from nodes in any order: sorted, without dead nodes, with shapes worked out."""
        live = _sorted_live(list(nodes), inputs, outputs)
        return cls(
            tuple(_with_shapes(live)),
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
        """The nodes that read any output of ``name``, each once, in topological order."""
        return list(self._consumers.get(producer_of(name), []))

    def uses(self, name: str) -> int:
        """How many times outputs of ``name`` are read, graph outputs included."""
        name = producer_of(name)
        reads = sum(
            producer_of(value) == name
            for node in self._consumers.get(name, [])
            for value in node.inputs
        )
        return reads + sum(producer_of(value) == name for value in self.outputs)

    def is_output(self, name: str) -> bool:
        """Whether the network returns an output of ``name``."""
        return any(producer_of(value) == producer_of(name) for value in self.outputs)

    def shape_of(self, value: str) -> Shape:
        """Unbatched shape of a value."""
        return value_shape(self[value], value)

    def sites(self, share: str) -> list[Node]:
        """All call sites of one shared layer."""
        return [node for node in self.nodes if node.share == share]

    def unique_name(self, wish: str, taken: Iterable[str] = ()) -> str:
        """``wish``, or ``wish_1``, ``wish_2`` ...: the first that no node has."""
        used = set(taken)
        name, count = wish, 0
        while name in self._index or name in used:
            count += 1
            name = f"{wish}_{count}"
        return name

    def with_nodes(self, nodes: Iterable[Node], outputs: Sequence[str] | None = None) -> Graph:
        """The same network interface with other nodes (any order; dead ones are dropped)."""
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

        ``remove`` names nodes that go, ``add`` brings new ones (one with the name of an old node
        takes its place), ``redirect`` maps old values to the values that replace them wherever an
        old node or a graph output reads them. Nodes in ``add`` are taken as they are: their inputs
        are not redirected, so that a new node can stand behind the value it replaces.
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


def value_shape(node: Node, value: str) -> Shape:
    """Unbatched shape of the value that ``node`` makes under the name ``value``."""
    index = output_index(value)
    if node.kind == "opaque":
        return tuple(node.attrs["shapes"][index])
    return node.shape


def _plain_structure(count: int) -> Any:
    return 0 if count == 1 else list(range(count))


def _sorted_live(nodes: list[Node], inputs: Sequence[str], outputs: Sequence[str]) -> list[Node]:
    """Nodes that the outputs need (and all inputs), producers first, otherwise in given order."""
    index = {node.name: node for node in nodes}
    order = {name: position for position, name in enumerate(index)}
    if len(index) != len(nodes):
        names = [node.name for node in nodes]
        twice = next(name for name in names if names.count(name) > 1)
        raise GraphError(f"two nodes are named '{twice}'; names must be unique")
    live: set[str] = set()
    waiting = [producer_of(value) for value in (*inputs, *outputs)]
    while waiting:
        name = waiting.pop()
        if name in live:
            continue
        if name not in index:
            raise GraphError(f"'{name}' is read but no node makes it")
        live.add(name)
        waiting += [producer_of(value) for value in index[name].inputs]
    done: dict[str, Node] = {}
    for root in sorted(live, key=order.__getitem__):
        stack = [root]
        path: set[str] = set()
        while stack:
            name = stack[-1]
            if name in done:
                stack.pop()
                continue
            path.add(name)
            needs = [producer_of(v) for v in index[name].inputs if producer_of(v) not in done]
            if any(need in path for need in needs):
                raise GraphError(f"node '{name}' depends on its own output")
            if needs:
                stack += reversed(needs)
            else:
                done[name] = index[name]
                path.discard(name)
                stack.pop()
    return list(done.values())


def _with_shapes(nodes: list[Node]) -> list[Node]:
    """Nodes (producers first) with the shapes that follow from their inputs."""
    done: dict[str, Node] = {}
    for node in nodes:
        shapes = [value_shape(done[producer_of(value)], value) for value in node.inputs]
        shape = node_shape(node, shapes)
        done[node.name] = node if shape == node.shape else node.with_(shape=shape)
    return list(done.values())


def node_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    """The output shape of ``node`` for these input shapes; GraphError where they do not fit."""
    _check_node(node)
    if node.kind == "input":
        return node.shape
    if node.kind == "opaque":
        return tuple(node.attrs["shapes"][0])
    weight_shapes = {key: value.shape for key, value in node.weights.items()}
    try:
        return infer_shape(node.kind, node.attrs, weight_shapes, shapes)
    except ValueError as error:
        raise GraphError(f"node '{node.name}' ({node.kind}): {error}") from error
    except KeyError as error:
        raise GraphError(f"node '{node.name}' ({node.kind}) lacks the attribute {error}") from error


def _check_node(node: Node) -> None:
    if ":" in node.name or not node.name:
        raise GraphError(f"'{node.name}' is not a node name: empty, or it contains ':'")
    if node.kind not in KINDS:
        raise GraphError(f"node '{node.name}' has the unknown kind '{node.kind}'")
    needed, optional = KINDS[node.kind]
    missing = set(needed) - set(node.weights)
    if missing:
        raise GraphError(f"node '{node.name}' ({node.kind}) lacks weights {sorted(missing)}")
    extra = set(node.weights) - set(needed) - set(optional)
    if extra:
        raise GraphError(f"node '{node.name}' ({node.kind}) has unknown weights {sorted(extra)}")


def check_graph(graph: Graph) -> None:
    """Raise GraphError, naming the node, unless the graph is well formed."""
    seen: dict[str, Node] = {}
    for node in graph.nodes:
        for value in node.inputs:
            if producer_of(value) not in seen:
                raise GraphError(f"node '{node.name}' reads '{value}', which no earlier node makes")
            if output_index(value) >= seen[producer_of(value)].output_count:
                raise GraphError(f"node '{node.name}' reads '{value}', an output that is not there")
        shapes = [value_shape(seen[producer_of(value)], value) for value in node.inputs]
        if node_shape(node, shapes) != node.shape:
            raise GraphError(
                f"node '{node.name}' ({node.kind}) claims the shape {node.shape} but makes"
                f" {node_shape(node, shapes)}"
            )
        seen[node.name] = node
    for name in graph.inputs:
        if name not in seen or seen[name].kind != "input":
            raise GraphError(f"graph input '{name}' is not an input node")
    for node in graph.nodes:
        if node.kind == "input" and node.name not in graph.inputs:
            raise GraphError(f"input node '{node.name}' is not among the graph's inputs")
    for value in graph.outputs:
        if producer_of(value) not in seen:
            raise GraphError(f"graph output '{value}' is made by no node")
