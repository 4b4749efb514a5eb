"""Nodes that do nothing, or do again what was done already."""

from __future__ import annotations

import numpy as np

from ..graph import Graph, Node
from ..kinds import Trait
from ..match import Match, Rewrite
from ..shapes import element_count
from .linear import affine_map, explicit_pads


class DropIdentity:
    """f(x) with f(x) == x for every x  ->  x.

    Dropout and its relatives, x * 1 + 0, pools of one pixel, padding and cropping by nothing,
    reshape and permute that keep the shape, a ReLU behind a ReLU that is at least as strict.
    """

    name = "drop identity"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        return Match(node) if _is_identity(graph, node) else None

    def check(self, graph: Graph, match: Match) -> str | None:
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        return Rewrite([match.anchor.name], [], {match.anchor.name: match.anchor.inputs[0]})


def _is_identity(graph: Graph, node: Node) -> bool:
    if node.kind == "identity":
        return True
    if len(node.inputs) != 1:
        return False
    shape = graph.shape_of(node.inputs[0])
    if node.kind == "affine":
        scale, offset = affine_map(node)
        return bool((scale == 1).all() and (offset == 0).all())
    if node.kind in ("max_pool", "avg_pool"):
        unit: bool = node.attrs["size"] == (1, 1) and node.attrs["strides"] == (1, 1)
        return unit and explicit_pads(graph, node) == ((0, 0), (0, 0))
    if Trait.GLOBAL in node.traits:
        return bool(node.attrs["keepdims"]) and shape[:2] == (1, 1)
    if node.kind == "pad":
        return bool(node.attrs["padding"] == ((0, 0), (0, 0)))
    if node.kind == "upsample":
        return bool(node.attrs["size"] == (1, 1))
    if node.kind == "permute":
        return tuple(node.attrs["dims"]) == tuple(range(len(shape)))
    if Trait.RESHAPES in node.traits:
        return node.shape == shape and element_count(shape) is not None
    if node.kind == "slice":
        return node.shape == shape and all(
            start == 0 and step == 1 and (stop is None or stop == size)
            for (start, stop, step), size in zip(node.attrs["slices"], shape, strict=True)
        )
    if node.kind == "relu":
        return _keeps_relu(graph[node.inputs[0]], node)
    return False


def _keeps_relu(first: Node, second: Node) -> bool:
    """Whether ``second`` changes nothing behind ``first``: both are ReLU, its ceiling no lower."""
    if first.kind != "relu" or first.weights or second.weights:
        return False
    low, high = first.attrs.get("max_value"), second.attrs.get("max_value")
    return high is None or (low is not None and low <= high)


class MergeDuplicates:
    """f(x) computed twice, with the same weights  ->  once.

    A nested model called twice on one tensor leaves such pairs.
    """

    name = "merge duplicates"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind in ("input", "opaque"):
            return None
        for other in graph.consumers(node.inputs[0]):
            if other.name == node.name:
                break
            if _same(other, node):
                return Match(node, {"first": other})
        return None

    def check(self, graph: Graph, match: Match) -> str | None:
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node, first = match.anchor, match["first"]
        return Rewrite([node.name], [], {node.name: first.name})


def _same(one: Node, two: Node) -> bool:
    if (one.kind, one.inputs) != (two.kind, two.inputs) or set(one.weights) != set(two.weights):
        return False
    if dict(one.attrs) != dict(two.attrs):
        return False
    # Equal by chance is not enough where weights will be trained apart.
    if one.weights and (one.share is None or one.share != two.share):
        return False
    return all(np.array_equal(value, two.weights[key]) for key, value in one.weights.items())
