"""Zero padding goes into the window that follows it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Graph, Node
from ..kinds import Trait
from ..match import Match, Rewrite
from ..semantics import LOWEST
from ..shapes import window_of
from ..signs import is_non_negative
from .linear import explicit_pads, only_use, same_or_explicit, used_elsewhere


def _sum(one: Any, two: Any) -> Any:
    """The pads ((top, bottom), (left, right)) of one padding around another."""
    return tuple((int(a[0] + b[0]), int(a[1] + b[1])) for a, b in zip(one, two, strict=True))


class MergePads:
    """pad(pad(x, p), q)  ->  pad(x, p + q)."""

    name = "merge pads"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind != "pad":
            return None
        first = graph[node.inputs[0]]
        return Match(node, {"first": first}) if first.kind == "pad" else None

    def check(self, graph: Graph, match: Match) -> str | None:
        node, first = match.anchor, match["first"]
        if node.attrs.get("value", 0.0) != first.attrs.get("value", 0.0):
            return f"it pads with another value than '{first.name}'"
        return None if only_use(graph, first.name) else used_elsewhere(graph, first)

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node, first = match.anchor, match["first"]
        merged = node.with_attrs(padding=_sum(first.attrs["padding"], node.attrs["padding"]))
        merged = merged.with_(inputs=first.inputs, source=(*first.source, *node.source))
        return Rewrite([first.name], [merged])


class PadIntoConv:
    """conv(pad(x, p), q)  ->  conv(x, p + q), q being the convolution's own padding.

    The result is called 'same' only where 'same' means exactly these pads for this input size and
    stride; a stride of 2 on an even size, for example, needs (0, 1) and not (1, 1). Other readers
    keep the padded value.
    """

    name = "padding into convolution"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if Trait.CONVOLVES not in node.traits:
            return None
        pad = graph[node.inputs[0]]
        return Match(node, {"pad": pad}) if pad.kind == "pad" else None

    def check(self, graph: Graph, match: Match) -> str | None:
        node, pad = match.anchor, match["pad"]
        if pad.attrs.get("value", 0.0) != 0.0:
            return f"'{pad.name}' pads with another value than zero"
        own = explicit_pads(graph, node)
        if own is None:
            return "its input size is not known, and so is what 'same' means for it"
        value = node.weights.get("pad_value")
        if value is not None and own != ((0, 0), (0, 0)) and np.any(value):
            return "its own padding has another value than zero"
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node, pad = match.anchor, match["pad"]
        shapes = {key: value.shape for key, value in node.weights.items()}
        _, size, strides, dilation = window_of(node.attrs, shapes)
        pads = _sum(pad.attrs["padding"], explicit_pads(graph, node))
        inner = graph.shape_of(pad.inputs[0])
        padding = same_or_explicit(pads, inner, size, strides, dilation)
        new = node.with_attrs(padding=padding).with_weights(pad_value=None)
        new = new.with_(inputs=pad.inputs, source=(*pad.source, *node.source))
        return Rewrite(add=[new])


class PadIntoMaxPool:
    """max_pool(pad(x, p), q)  ->  max_pool(x, p + q) for x >= 0.

    The pool's own padding counts as minus infinity and the pad's as zero; for values that are never
    negative the two agree as long as every window holds at least one value of x. A pad with the
    lowest float32 agrees for every x.
    """

    name = "padding into max pool"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind != "max_pool":
            return None
        pad = graph[node.inputs[0]]
        return Match(node, {"pad": pad}) if pad.kind == "pad" else None

    def check(self, graph: Graph, match: Match) -> str | None:
        node, pad = match.anchor, match["pad"]
        own = explicit_pads(graph, node)
        if own is None:
            return "its input size is not known, and so is what 'same' means for it"
        pads = _sum(pad.attrs["padding"], own)
        for sides, size in zip(pads, node.attrs["size"], strict=True):
            if max(sides) >= size:
                return "some of its windows would hold nothing but padding"
        value = pad.attrs.get("value", 0.0)
        if value > LOWEST and not (value == 0.0 and is_non_negative(graph, pad.inputs[0])):
            return f"values may be below the {value:g} that '{pad.name}' puts around them"
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node, pad = match.anchor, match["pad"]
        pads = _sum(pad.attrs["padding"], explicit_pads(graph, node))
        inner = graph.shape_of(pad.inputs[0])
        size, strides = node.attrs["size"], node.attrs["strides"]
        padding = same_or_explicit(pads, inner, size, strides, (1, 1))
        new = node.with_attrs(padding=padding)
        return Rewrite(add=[new.with_(inputs=pad.inputs, source=(*pad.source, *node.source))])
