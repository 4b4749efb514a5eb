"""Affine maps among themselves: Rescaling, Normalization, constants added and multiplied."""

from __future__ import annotations

from ..graph import Graph, Node
from ..match import Match, Rewrite
from .linear import AFFINE, affine_map, only_use, used_elsewhere


class MergeAffine:
    """(x * s1 + t1) * s2 + t2  ->  x * (s1 * s2) + (t1 * s2 + t2).

    Batch normalizations count as affine maps; shapes broadcast.
    """

    name = "merge affine"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind not in AFFINE:
            return None
        first = graph[node.inputs[0]]
        return Match(node, {"first": first}) if first.kind in AFFINE else None

    def check(self, graph: Graph, match: Match) -> str | None:
        first = match["first"]
        return None if only_use(graph, first.name) else used_elsewhere(graph, first)

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node, first = match.anchor, match["first"]
        (s1, t1), (s2, t2) = affine_map(first), affine_map(node)
        merged = Node(
            node.name,
            "affine",
            first.inputs,
            source=(*first.source, *node.source),
        ).with_weights(scale=s1 * s2, offset=t1 * s2 + t2)
        return Rewrite([first.name], [merged])
