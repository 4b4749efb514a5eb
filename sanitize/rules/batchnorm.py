"""Batch normalizations and affine maps go into the weights of a neighbour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph, Node
from ..match import Match, Rewrite
from .linear import (
    AFFINE,
    LINEAR,
    channel_map,
    explicit_pads,
    only_use,
    pad_values,
    scale_inputs,
    scale_outputs,
    used_elsewhere,
)

Array = NDArray[np.float64]

#: Kinds that an affine map per channel may cross in either direction, as the mean of affine values
#: is the affine value of the mean; max_pool too, where every scale is positive.
_TRANSPARENT = frozenset({"avg_pool", "global_avg_pool", "upsample", "identity"})
_MAXIMA = frozenset({"max_pool", "global_max_pool"})


class FoldIntoProducer:
    """linear(W, b) > [pooling] > x * s + t  ->  linear(W * s, b * s + t) > [pooling].

    s and t are per output channel: s = gamma / sqrt(variance + epsilon), t = beta - mean * s for a
    batch normalization. Average pooling commutes with any affine map, max pooling with those whose
    s are all positive.
    """

    name = "fold into producer"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind not in AFFINE:
            return None
        source = graph[node.inputs[0]]
        while source.kind in _TRANSPARENT | _MAXIMA:
            source = graph[source.inputs[0]]
        return Match(node, {"source": source})

    def check(self, graph: Graph, match: Match) -> str | None:
        node, source = match.anchor, match["source"]
        if source.kind not in LINEAR:
            return f"its input comes from '{source.name}' ({source.kind}), which has no weights"
        if "activation" in source.attrs:
            return f"there is an activation between it and the weights of '{source.name}'"
        maps = channel_map(node)
        if maps is None:
            return "it is not one scale and offset per channel"
        for step in _upstream(graph, node, source):
            if step.kind in _MAXIMA and not (maps[0] > 0).all():
                return f"a scale is not positive, so it cannot cross the maximum of '{step.name}'"
            if not only_use(graph, step.name):
                return used_elsewhere(graph, step)
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node, source = match.anchor, match["source"]
        maps = channel_map(node)
        assert maps is not None
        folded = scale_outputs(source, *maps).with_(source=(*source.source, *node.source))
        return Rewrite([node.name], [folded], {node.name: node.inputs[0]})


def _upstream(graph: Graph, node: Node, source: Node) -> list[Node]:
    """The nodes from the input of ``node`` up to ``source``, both ends of the way included."""
    steps = [graph[node.inputs[0]]]
    while steps[-1].name != source.name:
        steps.append(graph[steps[-1].inputs[0]])
    return steps


@dataclass(frozen=True)
class _Reader:
    """A node that reads an affine value, and the map as it arrives there."""

    node: Node
    scale: Array
    offset: Array


class FoldIntoConsumer:
    """x * s + t > [pooling, flatten] > linear(W, b)  ->  [...] > linear(W * s, b + W(t)).

    s and t are per input channel (repeated for each pixel across a flatten). Where the convolution
    is padded, its padding value becomes (p - t) / s, so that the border stays exact. All readers of
    the value must be able to take the map in; then the affine node is gone.
    """

    name = "fold into consumer"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind not in AFFINE or graph.is_output(node.name):
            return None
        found = _linear_readers(graph, node)
        if isinstance(found, str):
            # A place next to no weights at all is nothing to talk about.
            near = any(reader.kind in LINEAR for reader in graph.consumers(node.name))
            return Match(node) if near else None
        return Match(node, {f"reader {i}": reader.node for i, reader in enumerate(found)})

    def check(self, graph: Graph, match: Match) -> str | None:
        found = _linear_readers(graph, match.anchor)
        if isinstance(found, str):
            return found
        for reader in found:
            problem = _cannot_take(graph, reader)
            if problem is not None:
                return problem
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        found = _linear_readers(graph, node)
        assert not isinstance(found, str)
        added = []
        for reader in found:
            folded = scale_inputs(
                reader.node, reader.scale, reader.offset, _is_padded(graph, reader.node)
            )
            inputs = tuple(node.inputs[0] if v == node.name else v for v in folded.inputs)
            added.append(folded.with_(inputs=inputs, source=(*node.source, *folded.source)))
        return Rewrite([node.name], added, {node.name: node.inputs[0]})


def _linear_readers(graph: Graph, node: Node) -> list[_Reader] | str:
    """All linear nodes that the map reaches, or the sentence that says what else it reaches."""
    maps = channel_map(node)
    if maps is None:
        return "it is not one scale and offset per channel"
    found: list[_Reader] = []
    waiting = [_Reader(node, *maps)]
    while waiting:
        here = waiting.pop()
        if graph.is_output(here.node.name):
            return used_elsewhere(graph, here.node)
        for reader in graph.consumers(here.node.name):
            scale, offset = here.scale, here.offset
            if reader.kind in LINEAR:
                found.append(_Reader(reader, scale, offset))
                continue
            if reader.kind in _MAXIMA and not (scale > 0).all():
                return f"a scale is not positive, so it cannot cross the maximum of '{reader.name}'"
            if reader.kind == "flatten":
                shape = graph.shape_of(reader.inputs[0])
                if None in shape:
                    return f"the size of '{reader.name}' is not known"
                repeats = int(np.prod([size for size in shape[:-1] if size is not None]))
                scale, offset = np.tile(scale, repeats), np.tile(offset, repeats)
            elif reader.kind not in _TRANSPARENT | _MAXIMA:
                return f"its value is read by '{reader.name}' ({reader.kind}), which has no weights"
            waiting.append(_Reader(reader, scale, offset))
    return found


def _is_padded(graph: Graph, node: Node) -> bool:
    if node.kind not in ("conv2d", "depthwise_conv2d"):
        return False
    return bool(explicit_pads(graph, node) != ((0, 0), (0, 0)))


def _cannot_take(graph: Graph, reader: _Reader) -> str | None:
    node = reader.node
    if node.kind == "conv2d_transpose" and np.any(reader.offset):
        return f"an offset in front of the transposed convolution '{node.name}' is not constant"
    if _is_padded(graph, node):
        outside = pad_values(node, reader.scale.size) - reader.offset
        if np.any((reader.scale == 0) & (outside != 0)):
            return f"a scale is zero and '{node.name}' is padded, so no padding value is right"
    return None


class NormToDepthwise:
    """x * s + t on a map, and nothing to fold into  ->  depthwise 1x1 convolution, W = s, b = t."""

    name = "normalization to depthwise"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        return Match(node) if node.kind in AFFINE else None

    def check(self, graph: Graph, match: Match) -> str | None:
        node = match.anchor
        if len(node.shape) != 3:
            return f"it works on a tensor of shape {node.shape}, not on a map (h, w, c)"
        if channel_map(node) is None:
            return "it is not one scale and offset per channel"
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        maps = channel_map(node)
        assert maps is not None
        scale, offset = maps
        attrs = {"strides": (1, 1), "padding": "valid", "dilation": (1, 1)}
        new = node.with_(kind="depthwise_conv2d", attrs=attrs, weights={}, share=None)
        new = new.with_weights(kernel=scale.reshape(1, 1, -1, 1), bias=offset)
        return Rewrite(add=[new])
