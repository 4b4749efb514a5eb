"""What the function of a custom pattern sees, and what becomes of its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..node import GraphError, Node, node_shape
from ..onnx_errors import PatternError
from .chains import chain_at
from .layout import Tensor, natural_order
from .patterns import PatternFunction, custom_patterns
from .state import NotUnderstood, Reading
from .view import OnnxGraph, OnnxNode

Array = NDArray[Any]
ReadNode = Callable[[Reading, OnnxNode, bool], None]
"""(reading, node, strict): adds what a node becomes; strict: NotUnderstood, and nothing opaque."""


@dataclass(frozen=True)
class CustomMatch:
    """A chain of nodes that a custom pattern reads."""

    nodes: tuple[OnnxNode, ...]
    key: tuple[str, ...]
    function: PatternFunction


def find_custom(graph: OnnxGraph) -> list[CustomMatch]:
    """Where the custom patterns in force occur; no node is in two of them."""
    patterns = custom_patterns()
    used: set[int] = set()
    found: list[CustomMatch] = []
    for node in graph.nodes if patterns else ():
        for key, function in patterns:
            chain = chain_at(graph, node, key)
            if chain is not None and not used & {id(part) for part in chain}:
                found.append(CustomMatch(chain, key, function))
                used |= {id(part) for part in chain}
                break
    return found


class PatternGraph:
    """The ONNX graph while it is read, for the function of a custom pattern.

    Values of ours are channels-last: a picture (n, c, h, w) of ONNX is (h, w, c) here, everything
    else has the axes that it has in ONNX. Shapes do not count the batch.

    Args:
        reading: what was read so far.
        match: the chain that the function is asked about.
        read_node: what reads a node without a pattern.
    """

    def __init__(self, reading: Reading, match: CustomMatch, read_node: ReadNode) -> None:
        self._reading, self._read_node = reading, read_node
        self._match = match

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return self._reading.graph.opset

    @property
    def name(self) -> str:
        """The name that the output node should have: that of the last matched node, made legal."""
        return self._reading.unique(self._reading.label)

    def value(self, name: str) -> str:
        """Look up our value for an ONNX value that data flow into: what a Node's ``inputs`` hold.

        Args:
            name: of the ONNX value.

        Returns:
            The value's name.

        Raises:
            PatternError: for a constant, and for a value that was not read yet.
        """
        return self._tensor(name).value

    def shape(self, name: str) -> tuple[int, ...]:
        """Look up the unbatched channels-last shape of an ONNX value.

        Args:
            name: of the ONNX value.

        Returns:
            The shape.

        Raises:
            PatternError: as :meth:`value` does.
        """
        return self._tensor(name).shape

    def constant(self, name: str) -> Array | None:
        """Look up a constant, or what follows from constants.

        Args:
            name: of the ONNX value.

        Returns:
            The array with the axes that it has in ONNX; None for other values.
        """
        known = self._reading.known(name)
        return None if known is None else known.constant

    def producer(self, name: str) -> OnnxNode | None:
        """Find the ONNX node that makes a value.

        Args:
            name: of the ONNX value.

        Returns:
            The node; None for inputs and constants.
        """
        return self._reading.graph.producer(name)

    def consumers(self, name: str) -> list[OnnxNode]:
        """Find the ONNX nodes that read a value.

        Args:
            name: of the ONNX value.

        Returns:
            One entry per reading.
        """
        return self._reading.graph.consumers(name)

    def unique_name(self, wish: str) -> str:
        """Find a name for a Node that is legal and not taken.

        Args:
            wish: what it should be like.

        Returns:
            The name.
        """
        return self._reading.unique(wish)

    def read(self, nodes: Sequence[OnnxNode]) -> list[Node]:
        """Read nodes as they are read without a custom pattern.

        Args:
            nodes: the matched chain or its beginning.

        Returns:
            The Nodes that they become, to be changed and returned.

        Raises:
            PatternError: where the graph has no kinds for them.
        """
        r = self._reading
        before, values = dict(r.nodes), dict(r.values)
        try:
            for node in nodes:
                self._read_node(r, node, True)
            result = r.natural(r.tensor(nodes[-1].outputs[0]))
            made = [node for name, node in r.nodes.items() if name not in before]
            wish = r.unique(r.label)
        except NotUnderstood as problem:
            raise PatternError(
                f"the pattern {self._match.key} asked to read {nodes[-1]}, which is not"
                f" understood: {problem}"
            ) from problem
        finally:
            r.nodes, r.values = before, values
        if not made or made[-1].name != result.value:
            made.append(Node(wish, "identity", (result.value,)))
        return made

    def _tensor(self, name: str) -> Tensor:
        value = self._reading.values.get(name)
        if not isinstance(value, Tensor):
            raise PatternError(
                f"the pattern {self._match.key} asks for '{name}', which is"
                + (" a constant" if value is not None else " not a value known at this place")
            )
        return self._reading.natural(value)


def apply_custom(r: Reading, match: CustomMatch, read_node: ReadNode) -> bool:
    """Let the function of a custom pattern read its chain; False where it leaves it alone.

    read_node: what reads a node without a pattern.
    """
    last = match.nodes[-1]
    label = f"the function of the pattern {match.key} at {last}"
    result = match.function(list(match.nodes), PatternGraph(r, match, read_node))
    if result is None:
        return False
    nodes = [result] if isinstance(result, Node) else result
    if not isinstance(nodes, (list, tuple)) or not nodes:
        raise PatternError(f"{label} returned {result!r}; return a list of Nodes, or None")
    for node in nodes:
        if not isinstance(node, Node):
            raise PatternError(f"{label} returned a list with a {type(node).__name__}, not a Node")
        _add(r, node, label, match)
    final = nodes[-1].name
    shape = r.shape_of(final)
    tensor = Tensor(final, shape, natural_order(len(shape) + 1), np.dtype(np.float32))
    r.values[last.outputs[0]] = tensor
    return True


def _add(r: Reading, node: Node, label: str, match: CustomMatch) -> None:
    if node.name in r.nodes:
        raise PatternError(
            f"{label} returned a node named '{node.name}', a name that is taken; use"
            " graph.unique_name"
        )
    try:
        for value in node.inputs:
            if value.partition(":")[0] not in r.nodes:
                raise PatternError(
                    f"{label} returned the node '{node.name}' that reads '{value}', which no node"
                    " makes; graph.value gives the names of inputs"
                )
        shape = node_shape(node, [r.shape_of(value) for value in node.inputs])
    except GraphError as error:
        raise PatternError(f"{label} returned nodes that do not fit: {error}") from error
    weights: Mapping[str, Any] = {
        key: np.asarray(array, np.float32) for key, array in node.weights.items()
    }
    source = node.source or tuple(part.name for part in match.nodes)
    r.nodes[node.name] = replace(node, shape=shape, weights=weights, source=source)
