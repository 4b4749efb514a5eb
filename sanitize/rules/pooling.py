"""Pools over the whole map: the mean is a global pool, the maximum a max pool."""

from __future__ import annotations

from ..graph import Graph, Node
from ..kinds import Trait
from ..match import Match, Rewrite
from .linear import explicit_pads, only_use, used_elsewhere


class WholeAveragePool:
    """avg_pool with a window of the size of the map, without padding  ->  global_avg_pool."""

    name = "average pool over the whole map"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind != "avg_pool" or explicit_pads(graph, node) != ((0, 0), (0, 0)):
            return None
        return Match(node) if graph.shape_of(node.inputs[0])[:2] == node.attrs["size"] else None

    def check(self, graph: Graph, match: Match) -> str | None:
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        return Rewrite(add=[match.anchor.with_(kind="global_avg_pool", attrs={"keepdims": True})])


class GlobalMaxPool:
    """global_max_pool of a map (h, w, c)  ->  max_pool with the window (h, w)  >  flatten.

    A maximum over everything is one window; unlike the mean it needs no operation of its own. Where
    the global pool keeps its axes there is nothing to flatten.
    """

    name = "global max pool to max pool"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        return Match(node) if node.kind == "global_max_pool" else None

    def check(self, graph: Graph, match: Match) -> str | None:
        known = None not in graph.shape_of(match.anchor.inputs[0])[:2]
        return None if known else "the size of its map is not known"

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        size = graph.shape_of(node.inputs[0])[:2]
        pool = node.with_(
            kind="max_pool", attrs={"size": size, "strides": size, "padding": "valid"}
        )
        if node.attrs["keepdims"]:
            return Rewrite(add=[pool])
        name = graph.unique_name(f"{node.name}/window")
        flat = Node(node.name, "flatten", (name,), source=node.source)
        return Rewrite(add=[pool.with_(name=name), flat])


class FlattenIntoGlobalPool:
    """flatten(global_pool(x, keepdims))  ->  global_pool(x)."""

    name = "flatten into global pool"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind != "flatten":
            return None
        pool = graph[node.inputs[0]]
        whole = Trait.GLOBAL in pool.traits and pool.attrs["keepdims"]
        return Match(node, {"pool": pool}) if whole else None

    def check(self, graph: Graph, match: Match) -> str | None:
        pool = match["pool"]
        return None if only_use(graph, pool.name) else used_elsewhere(graph, pool)

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node, pool = match.anchor, match["pool"]
        flat = pool.with_attrs(keepdims=False)
        return Rewrite([node.name], [flat], {node.name: pool.name})


class ReshapeIntoGlobalPool:
    """reshape(global_pool(x), (1, 1, c))  ->  global_pool(x, keepdims): squeeze-and-excite."""

    name = "reshape into global pool"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind != "reshape" or len(node.shape) != 3 or node.shape[:2] != (1, 1):
            return None
        pool = graph[node.inputs[0]]
        flat = Trait.GLOBAL in pool.traits and not pool.attrs["keepdims"]
        return Match(node, {"pool": pool}) if flat else None

    def check(self, graph: Graph, match: Match) -> str | None:
        pool = match["pool"]
        return None if only_use(graph, pool.name) else used_elsewhere(graph, pool)

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node, pool = match.anchor, match["pool"]
        tall = pool.with_attrs(keepdims=True)
        return Rewrite([node.name], [tall], {node.name: pool.name})
