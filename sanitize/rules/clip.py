"""A ReLU with a ceiling per channel, put together again from the plain layers it was written as."""

from __future__ import annotations

import numpy as np

from ..graph import Graph, Node
from ..match import Match, Rewrite
from .linear import only_use, used_elsewhere
from .maps import map_of


class ChannelClip:
    """m - relu(m - relu(x))  ->  min(relu(x), m), a ReLU with the ceiling m of each channel.

    Keras has no such layer, so it is written as ReLU > Rescaling(-1, m) > ReLU > Rescaling(-1, m).
    """

    name = "ceiling per channel"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        ceiling = _ceiling(node)
        if ceiling is None:
            return None
        outer = graph[node.inputs[0]]
        below = graph[outer.inputs[0]] if _is_plain_relu(outer) else node
        other = None if below is node else _ceiling(below)
        if other is None:
            return None
        inner = graph[below.inputs[0]]
        if not _is_plain_relu(inner) or not np.array_equal(other, ceiling):
            return None
        return Match(node, {"outer": outer, "below": below, "inner": inner})

    def check(self, graph: Graph, match: Match) -> str | None:
        for part in match.roles.values():
            if not only_use(graph, part.name):
                return used_elsewhere(graph, part)
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node, inner = match.anchor, match["inner"]
        clip = Node(node.name, "relu", inner.inputs, {}, {}, source=node.source)
        parts = list(match.roles.values())
        source = tuple(dict.fromkeys(s for part in (*reversed(parts), node) for s in part.source))
        clip = clip.with_(source=source).with_weights(max_value=_ceiling(node))
        return Rewrite([part.name for part in parts], [clip])


def _is_plain_relu(node: Node) -> bool:
    return node.kind == "relu" and not node.weights and node.attrs.get("max_value") is None


def _ceiling(node: Node) -> np.ndarray | None:
    """(c,) m of an affine node m - x; None for any other."""
    if node.kind != "affine":
        return None
    found = map_of(node).per_channel(node.channels)
    return found[1] if found is not None and (found[0] == -1).all() else None
