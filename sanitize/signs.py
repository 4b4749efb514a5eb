"""What can be proved about the sign of a value."""

from __future__ import annotations

from .functions import least_value
from .graph import Graph, Node
from .kinds import Trait


def is_non_negative(graph: Graph, value: str) -> bool:
    """Whether it can be proved that no element of ``value`` is ever negative."""
    node = graph[value]
    if Trait.NEVER_NEGATIVE in node.traits:
        return True
    if node.kind == "activation":
        return least_value(node.attrs) >= 0
    if Trait.LINEAR in node.traits or node.kind == "affine":
        positive = all((array >= 0).all() for array in node.weights.values())
        return positive and "activation" not in node.attrs and _inputs_are(graph, node)
    if node.kind == "pad":
        return node.attrs.get("value", 0.0) >= 0 and is_non_negative(graph, node.inputs[0])
    if node.kind == "maximum":
        return any(is_non_negative(graph, part) for part in node.inputs)
    return Trait.KEEPS_SIGN in node.traits and _inputs_are(graph, node)


def _inputs_are(graph: Graph, node: Node) -> bool:
    return all(is_non_negative(graph, part) for part in dict.fromkeys(node.inputs))
