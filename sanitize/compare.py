"""Whether two graphs are the same network, told in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .graph import Graph, Node, output_index, producer_of
from .user_functions import UserFunction


def differences(left: Graph, right: Graph) -> list[str]:
    """Tell how two graphs differ as networks.

    Names, sources and the order of nodes are free; kinds, wiring, attributes, weights (exactly),
    structures and which nodes share weights are compared.

    Args:
        left: one graph.
        right: the other.

    Returns:
        Sentences; none when they are the same.
    """
    found: list[str] = []
    for label in ("input_structure", "output_structure"):
        if getattr(left, label) != getattr(right, label):
            found.append(f"{label}: {getattr(left, label)} and {getattr(right, label)}")
    if len(left.outputs) != len(right.outputs) or len(left.inputs) != len(right.inputs):
        return [*found, "the numbers of inputs or outputs differ"]
    pairs: dict[str, str] = {}
    waiting = list(zip(left.inputs + left.outputs, right.inputs + right.outputs, strict=True))
    while waiting:
        a, b = waiting.pop()
        if output_index(a) != output_index(b):
            found.append(f"'{a}' and '{b}' are different outputs of their nodes")
        one, two = left[a], right[b]
        if pairs.setdefault(one.name, two.name) != two.name:
            found.append(f"'{one.name}' corresponds to both '{pairs[one.name]}' and '{two.name}'")
        elif (problem := _node_difference(one, two)) is not None:
            found.append(f"'{one.name}' and '{two.name}' differ in {problem}")
        else:
            fresh = zip(one.inputs, two.inputs, strict=True)
            waiting += [(x, y) for x, y in fresh if pairs.get(producer_of(x)) != producer_of(y)]
    shares: dict[str | None, str | None] = {}
    for name, other in pairs.items():
        one, two = left[name], right[other]
        if (one.share is None) != (two.share is None):
            found.append(f"'{name}' and '{other}' differ in whether they share weights")
        elif shares.setdefault(one.share, two.share) != two.share:
            found.append(f"'{name}' and '{other}' share weights with different nodes")
    return found


def _node_difference(one: Node, two: Node) -> str | None:
    for label in ("kind", "shape"):
        if getattr(one, label) != getattr(two, label):
            return f"{label}: {getattr(one, label)} and {getattr(two, label)}"
    if len(one.inputs) != len(two.inputs):
        return "the number of inputs"
    attrs = [_comparable(node.attrs) for node in (one, two)]
    if attrs[0] != attrs[1]:
        return f"attributes: {attrs[0]} and {attrs[1]}"
    if one.kind == "opaque" and type(one.attrs["layer"]) is not type(two.attrs["layer"]):
        return "the type of the opaque layer"
    if set(one.weights) != set(two.weights):
        return f"weights: {sorted(one.weights)} and {sorted(two.weights)}"
    for key, value in one.weights.items():
        if not np.array_equal(value, two.weights[key]):
            return f"the weight '{key}'"
    return None


def _comparable(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes that say what a node computes; the user's functions by their names."""
    result = {key: value for key, value in attrs.items() if key not in ("layer", "call", "reason")}
    if isinstance(result.get("user"), UserFunction):
        result["user"] = result["user"].name
    if isinstance(result.get("activation"), Mapping):
        result["activation"] = _comparable(result["activation"])
    return result
