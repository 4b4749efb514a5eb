"""Reshape, flatten and permute: as few as possible."""

from __future__ import annotations

from ..graph import Graph, Node
from ..kinds import MERGES, Trait
from ..match import Match, Rewrite
from ..shapes import Shape
from .linear import only_use, used_elsewhere


class MergeReshapes:
    """reshape(reshape(x))  ->  reshape(x) with the last shape; flatten counts as a reshape.

    All of them keep the order of the elements, so only the last shape matters. The first one stays
    for its other readers.
    """

    name = "merge reshapes"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if Trait.RESHAPES not in node.traits:
            return None
        first = graph[node.inputs[0]]
        return Match(node, {"first": first}) if Trait.RESHAPES in first.traits else None

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


class PermuteIsReshape:
    """permute that moves nothing but axes of size 1  ->  reshape, which moves no data."""

    name = "permute to reshape"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind != "permute":
            return None
        before = graph.shape_of(node.inputs[0])
        order = [axis for axis in node.attrs["dims"] if before[axis] != 1]
        return Match(node) if order == sorted(order) and before.count(None) < 2 else None

    def check(self, graph: Graph, match: Match) -> str | None:
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        return Rewrite(add=[node.with_(kind="reshape", attrs={"shape": node.shape})])


def _only_unit_axes(before: Shape, after: Shape) -> bool:
    """Whether a reshape only adds and drops axes of size 1, and keeps the channels last."""
    if len(before) == len(after) or not before or not after or before[-1] != after[-1]:
        return False
    return [size for size in before if size != 1] == [size for size in after if size != 1]


class ReshapeBehindElementwise:
    """f(reshape(x))  ->  reshape(f(x)), for a reshape that only adds or drops axes of size 1.

    Layers along one axis come as (1, t, c) with a reshape on either side, and so do those along
    three of which one has size 1. Behind the element-wise node the reshape meets the one of the
    next layer, and both vanish. f works per element or per channel; the channel axis stays last.
    """

    name = "reshape behind element-wise"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if Trait.ELEMENTWISE not in node.traits:
            return None
        shaper = graph[node.inputs[0]]
        if shaper.kind != "reshape":
            return None
        before = graph.shape_of(shaper.inputs[0])
        return Match(node, {"reshape": shaper}) if _leads_to_a_map(before, shaper.shape) else None

    def check(self, graph: Graph, match: Match) -> str | None:
        node, shaper = match.anchor, match["reshape"]
        if any(array.size not in (1, node.channels) for array in node.weights.values()):
            return "its weights are not one number per channel"
        return None if only_use(graph, shaper.name) else used_elsewhere(graph, shaper)

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node, shaper = match.anchor, match["reshape"]
        rank = len(graph.shape_of(shaper.inputs[0]))
        # A slope keeps the rank of the map; everything else is per channel, (c,).
        tall = (1,) * (rank - 1) + (-1,)
        shape = tall if node.attrs.get("function") == "prelu" else (-1,)
        weights = {key: value.reshape(shape) for key, value in node.weights.items()}
        moved = node.with_(inputs=shaper.inputs, weights=weights)
        return Rewrite(
            add=[moved, shaper.with_(inputs=(node.name,))], redirect={node.name: shaper.name}
        )


def _leads_to_a_map(before: Shape, after: Shape) -> bool:
    """Whether the value in front of the reshape is a map (h, w, c), and the one behind is not."""
    return len(before) == 3 and _only_unit_axes(before, after)


class ReshapeBehindMerge:
    """f(reshape(x), reshape(y))  ->  reshape(f(x, y)), for two reshapes from one shape to another.

    They may only add or drop axes of size 1. f is an element-wise operation of several tensors, or
    the concatenation of their channels.
    """

    name = "reshape behind merge"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind not in MERGES:
            return None
        shapers = [graph[value] for value in node.inputs]
        if any(shaper.kind != "reshape" for shaper in shapers):
            return None
        if node.kind == "concat" and node.attrs["axis"] != len(node.shape) - 1:
            return None
        pairs = [(graph.shape_of(shaper.inputs[0]), shaper.shape) for shaper in shapers]
        if not all(_leads_to_a_map(*pair) for pair in pairs):
            return None
        if len({(before[:-1], after[:-1]) for before, after in pairs}) > 1:
            return None
        return Match(node, {f"reshape {i}": shaper for i, shaper in enumerate(shapers)})

    def check(self, graph: Graph, match: Match) -> str | None:
        for shaper in match.roles.values():
            if {reader.name for reader in graph.consumers(shaper.name)} != {match.anchor.name}:
                return used_elsewhere(graph, shaper)
            if graph.is_output(shaper.name):
                return used_elsewhere(graph, shaper)
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        shapers = [graph[value] for value in node.inputs]
        merged = node.with_(inputs=tuple(shaper.inputs[0] for shaper in shapers))
        if node.kind == "concat":
            merged = merged.with_attrs(axis=2)
        back = shapers[0].with_(inputs=(node.name,)).with_attrs(shape=node.shape)
        return Rewrite(
            [shaper.name for shaper in shapers[1:]], [merged, back], {node.name: back.name}
        )
