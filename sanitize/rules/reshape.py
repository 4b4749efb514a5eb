"""Reshape, flatten and permute: as few as possible."""

from __future__ import annotations

from ..graph import Graph, Node
from ..match import Match, Rewrite
from .linear import only_use, used_elsewhere

_SHAPERS = frozenset({"reshape", "flatten"})


class MergeReshapes:
    """reshape(reshape(x))  ->  reshape(x) with the last shape; flatten counts as a reshape.

    All of them keep the order of the elements, so only the last shape matters. The first one stays
    for its other readers.
    """

    name = "merge reshapes"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind not in _SHAPERS:
            return None
        first = graph[node.inputs[0]]
        return Match(node, {"first": first}) if first.kind in _SHAPERS else None

    def check(self, graph: Graph, match: Match) -> str | None:
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node, first = match.anchor, match["first"]
        source = tuple(dict.fromkeys((*first.source, *node.source)))
        return Rewrite(add=[node.with_(inputs=first.inputs, source=source)])


class FlattenIsEnough:
    """reshape to (n,)  ->  flatten."""

    name = "reshape to flatten"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        flat = node.kind == "reshape" and len(node.shape) == 1
        return Match(node) if flat and len(graph.shape_of(node.inputs[0])) != 1 else None

    def check(self, graph: Graph, match: Match) -> str | None:
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        return Rewrite(add=[match.anchor.with_(kind="flatten", attrs={})])


class MergePermutes:
    """permute(permute(x, p), q)  ->  permute(x, r) with r[i] = p[q[i]]."""

    name = "merge permutes"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind != "permute":
            return None
        first = graph[node.inputs[0]]
        return Match(node, {"first": first}) if first.kind == "permute" else None

    def check(self, graph: Graph, match: Match) -> str | None:
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node, first = match.anchor, match["first"]
        dims = tuple(first.attrs["dims"][axis] for axis in node.attrs["dims"])
        source = tuple(dict.fromkeys((*first.source, *node.source)))
        return Rewrite(add=[node.with_attrs(dims=dims).with_(inputs=first.inputs, source=source)])


class ReshapeBehindElementwise:
    """f(reshape(x))  ->  reshape(f(x)), for a reshape that only takes out an axis of size 1.

    Layers along one axis come as (1, t, c) with a reshape on either side. Behind the element-wise
    node the reshape meets the one of the next layer, and both vanish. f works per element or per
    channel, and the channel axis stays the last.
    """

    name = "reshape behind element-wise"
    hardware_only = False
    _kinds = frozenset({"relu", "activation", "batchnorm", "affine"})

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind not in self._kinds:
            return None
        shaper = graph[node.inputs[0]]
        if shaper.kind != "reshape":
            return None
        before = graph.shape_of(shaper.inputs[0])
        return Match(node, {"reshape": shaper}) if before == (1, *shaper.shape) else None

    def check(self, graph: Graph, match: Match) -> str | None:
        node, shaper = match.anchor, match["reshape"]
        if any(array.size not in (1, node.channels) for array in node.weights.values()):
            return "its weights are not one number per channel"
        return None if only_use(graph, shaper.name) else used_elsewhere(graph, shaper)

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node, shaper = match.anchor, match["reshape"]
        # A slope keeps the rank of the map; everything else is per channel, (c,).
        shape = (1, 1, -1) if node.attrs.get("function") == "prelu" else (-1,)
        weights = {key: value.reshape(shape) for key, value in node.weights.items()}
        moved = node.with_(inputs=shaper.inputs, weights=weights)
        return Rewrite(
            add=[moved, shaper.with_(inputs=(node.name,))], redirect={node.name: shaper.name}
        )
