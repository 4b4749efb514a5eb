"""Activations: one node each, known by name, and behind the max pool."""

from __future__ import annotations

from ..functions import is_monotonic
from ..graph import Graph, Node
from ..kinds import Trait
from ..match import Match, Rewrite
from .linear import only_use, used_elsewhere


class SplitActivation:
    """conv(x, activation=f)  ->  f(conv(x)), for every layer that has an activation argument."""

    name = "split activation"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        return Match(node) if "activation" in node.attrs else None

    def check(self, graph: Graph, match: Match) -> str | None:
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        spec = dict(node.attrs["activation"])
        kind = spec.pop("kind")
        name = graph.unique_name(f"{node.name}/{spec.get('function', kind)}")
        split = Node(name, kind, (node.name,), spec, source=node.source)
        return Rewrite(add=[node.with_attrs(activation=None), split], redirect={node.name: name})


class ReluBehindMaxPool:
    """max_pool(f(x))  ->  f(max_pool(x)) for every f that never decreases.

    Padding counts as minus infinity on both sides, and every window holds at least one real value.
    A ReLU with a ceiling per channel works on each channel alone, so it commutes as well.
    """

    name = "activation behind max pool"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if Trait.MAXIMA not in node.traits:
            return None
        before = graph[node.inputs[0]]
        return Match(node, {"f": before}) if before.kind in ("relu", "activation") else None

    def check(self, graph: Graph, match: Match) -> str | None:
        f = match["f"]
        if f.kind == "activation" and not is_monotonic(f.attrs, f.weights):
            return f"the function of '{f.name}' also decreases, so the maximum is not kept"
        if not only_use(graph, f.name):
            return used_elsewhere(graph, f)
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        pool, f = match.anchor, match["f"]
        return Rewrite(
            add=[pool.with_(inputs=f.inputs), _behind(pool, f)], redirect={pool.name: f.name}
        )


def _behind(pool: Node, f: Node) -> Node:
    """``f`` reading the pool. A slope per channel loses its axes of size 1 with the map."""
    weights = dict(f.weights)
    if pool.kind == "global_max_pool" and not pool.attrs["keepdims"]:
        weights = {key: value.reshape(-1) for key, value in weights.items()}
    return f.with_(inputs=(pool.name,), weights=weights)
