"""What can be proved about the sign of a value."""

from __future__ import annotations

from .graph import Graph

_KEEPS_SIGN = frozenset(
    {
        "max_pool",
        "avg_pool",
        "global_avg_pool",
        "global_max_pool",
        "flatten",
        "reshape",
        "permute",
        "upsample",
        "slice",
        "identity",
        "add",
        "multiply",
        "minimum",
        "concat",
    }
)
_NEVER_NEGATIVE = frozenset({"sigmoid", "hard_sigmoid", "softplus", "exponential"})


def is_non_negative(graph: Graph, value: str) -> bool:
    """Whether it can be proved that no element of ``value`` is ever negative."""
    node = graph[value]
    if node.kind in ("relu", "softmax"):
        return True
    if node.kind == "activation":
        return node.attrs["function"] in _NEVER_NEGATIVE
    if node.kind == "pad":
        return node.attrs.get("value", 0.0) >= 0 and is_non_negative(graph, node.inputs[0])
    if node.kind == "maximum":
        return any(is_non_negative(graph, part) for part in node.inputs)
    if node.kind in _KEEPS_SIGN:
        return all(is_non_negative(graph, part) for part in dict.fromkeys(node.inputs))
    return False
