"""Batch normalizations and affine maps go into the weights of a neighbour, or become weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph, Node
from ..kinds import Trait
from ..match import Match, Rewrite
from ..shapes import Shape, element_count
from .linear import (
    AFFINE,
    LINEAR,
    constant_response,
    explicit_pads,
    only_use,
    pad_values,
    scale_inputs,
    scale_outputs,
    used_elsewhere,
)
from .maps import Map, map_of, to_inputs, to_output

Array = NDArray[np.float64]

_PER_CHANNEL = "it is not one scale and offset per channel"


@dataclass(frozen=True)
class _End:
    """A node with weights, and the map (scale, offset), (c,) each, as it arrives there."""

    node: Node
    scale: Array
    offset: Array


@dataclass(frozen=True)
class _Stop:
    """Where a map does not get any further, and why."""

    node: Node
    sentence: str


class FoldIntoProducer:
    """linear(W, b) > [movements] > x * s + t  ->  linear(W * s, b * s + t) > [movements].

    s and t are per output channel: s = gamma / sqrt(variance + epsilon), t = beta - mean * s for a
    batch normalization. On the way back the map may cross average pools and upsampling, max pools
    (no s negative), ReLU (t = 0, every s positive), reshape, flatten and permute, zero padding
    (t = 0), concatenations (each input takes its own channels) and additions (every input takes s,
    one takes t); each value on the way must have no other reader.
    """

    name = "fold into producer"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind not in AFFINE:
            return None
        found = _producers(graph, node)
        ends = [found.node] if isinstance(found, _Stop) else [end.node for end in found]
        return Match(node, {f"source {i}": end for i, end in enumerate(ends)})

    def check(self, graph: Graph, match: Match) -> str | None:
        found = _producers(graph, match.anchor)
        return found.sentence if isinstance(found, _Stop) else None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        found = _producers(graph, node)
        assert not isinstance(found, _Stop)
        folded = [
            scale_outputs(end.node, end.scale, end.offset).with_(
                source=(*end.node.source, *node.source)
            )
            for end in found
        ]
        return Rewrite([node.name], folded, {node.name: node.inputs[0]})


def _producers(graph: Graph, node: Node) -> list[_End] | _Stop:
    """All nodes with weights that the map reaches against the stream."""
    ends: list[_End] = []
    waiting = [(node.inputs[0], map_of(node))]
    while waiting:
        value, after = waiting.pop()
        source = graph[value]
        if source.kind in LINEAR:
            if "activation" in source.attrs:
                return _Stop(
                    source, f"there is an activation between it and the weights of '{source.name}'"
                )
            here = after.per_channel(source.channels)
            if here is None:
                return _Stop(source, _PER_CHANNEL)
            ends.append(_End(source, *here))
        else:
            parts = to_inputs(graph, source, after)
            if isinstance(parts, str):
                return _Stop(source, parts)
            waiting += reversed(parts)
        if not only_use(graph, source.name):
            return _Stop(source, used_elsewhere(graph, source))
    return ends


class FoldIntoConsumer:
    """x * s + t > [movements] > linear(W, b)  ->  [movements] > linear(W * s, b + W(t)).

    s and t are per input channel. Where the convolution is padded, its padding value becomes
    (p - t) / s, so that the border stays exact. The map may cross what it may cross backwards, but
    for additions; beside it in a concatenation other channels have s = 1 and t = 0. All readers of
    the value must be able to take the map in; then the affine node is gone.
    """

    name = "fold into consumer"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind not in AFFINE or graph.is_output(node.name):
            return None
        found = _readers(graph, node)
        if isinstance(found, _Stop):
            # A place next to no weights at all is nothing to talk about.
            near = any(reader.kind in LINEAR for reader in graph.consumers(node.name))
            return Match(node) if near else None
        return Match(node, {f"reader {i}": end.node for i, end in enumerate(found)})

    def check(self, graph: Graph, match: Match) -> str | None:
        found = _readers(graph, match.anchor)
        if isinstance(found, _Stop):
            return found.sentence
        problems = (_cannot_take(graph, end) for end in found)
        return next((problem for problem in problems if problem is not None), None)

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        found = _readers(graph, node)
        assert not isinstance(found, _Stop)
        added = []
        for end in found:
            constant = constant_response(graph, end.node, end.offset)
            assert constant is not None
            padded = _is_padded(graph, end.node)
            folded = scale_inputs(end.node, end.scale, end.offset, constant, padded)
            inputs = tuple(node.inputs[0] if v == node.name else v for v in folded.inputs)
            added.append(folded.with_(inputs=inputs, source=(*node.source, *folded.source)))
        return Rewrite([node.name], added, {node.name: node.inputs[0]})


def _readers(graph: Graph, node: Node) -> list[_End] | _Stop:
    """All nodes with weights that the map reaches with the stream."""
    ends: list[_End] = []
    waiting: list[tuple[Node, Map]] = [(node, map_of(node))]
    seen: set[str] = set()
    while waiting:
        here, before = waiting.pop()
        if graph.is_output(here.name):
            return _Stop(here, used_elsewhere(graph, here))
        for reader in graph.consumers(here.name):
            if reader.name in seen:
                return _Stop(reader, f"its value reaches '{reader.name}' on two ways")
            seen.add(reader.name)
            if reader.kind in LINEAR:
                arriving = before.per_channel(here.channels)
                if arriving is None:
                    return _Stop(reader, _PER_CHANNEL)
                ends.append(_End(reader, *arriving))
                continue
            behind = to_output(graph, reader, here.name, before)
            if isinstance(behind, str):
                return _Stop(reader, behind)
            waiting.append((reader, behind))
    return ends


def _is_padded(graph: Graph, node: Node) -> bool:
    if Trait.CONVOLVES not in node.traits:
        return False
    return bool(explicit_pads(graph, node) != ((0, 0), (0, 0)))


def _cannot_take(graph: Graph, end: _End) -> str | None:
    node = end.node
    if constant_response(graph, node, end.offset) is None:
        return (
            f"its offset in front of the transposed convolution '{node.name}' is not the same"
            " number everywhere behind it"
        )
    if _is_padded(graph, node):
        outside = pad_values(node, end.scale.size) - end.offset
        if np.any((end.scale == 0) & (outside != 0)):
            return f"a scale is zero and '{node.name}' is padded, so no padding value is right"
    return None


class NormToDepthwise:
    """x * s + t, and nothing to fold into  ->  depthwise 1x1 convolution, W = s, b = t.

    What is not a map (h, w, c) becomes one between two reshapes: (c,) is (1, 1, c), (t, c) is
    (1, t, c). Where s and t differ between pixels, every element counts as a channel.
    """

    name = "normalization to depthwise"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        return Match(node) if node.kind in AFFINE else None

    def check(self, graph: Graph, match: Match) -> str | None:
        if _as_map(match.anchor) is None:
            return f"the size of its value {match.anchor.shape} is not known"
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        found = _as_map(node)
        assert found is not None
        shape, scale, offset = found
        attrs = {"strides": (1, 1), "padding": "valid", "dilation": (1, 1)}
        new = node.with_(kind="depthwise_conv2d", attrs=attrs, weights={}, share=None)
        new = new.with_weights(kernel=scale.reshape(1, 1, -1, 1), bias=offset)
        if shape == node.shape:
            return Rewrite(add=[new])
        names = [graph.unique_name(f"{node.name}/{part}") for part in ("map", "depthwise")]
        source = node.source
        first = Node(names[0], "reshape", node.inputs, {"shape": shape}, source=source)
        back = Node(node.name, "reshape", (names[1],), {"shape": node.shape}, source=source)
        if len(node.shape) == 1:
            back = back.with_(kind="flatten", attrs={})
        return Rewrite(add=[first, new.with_(name=names[1], inputs=(names[0],)), back])


def _as_map(node: Node) -> tuple[Shape, Array, Array] | None:
    """A shape (h, w, c) for the value of an affine node, and its scale and offset per channel."""
    crossing, shape = map_of(node), node.shape
    channels = crossing.per_channel(node.channels)
    if channels is not None:
        if len(shape) == 3:
            return shape, *channels
        if len(shape) <= 2:
            return ((1,) * (3 - len(shape)) + shape), *channels
    count = element_count(shape)
    if count is None:
        return None
    if channels is not None:
        return (1, count // len(channels[0]), len(channels[0])), *channels
    sizes = tuple(size for size in shape if size is not None)
    scale, offset = (
        np.broadcast_to(array, sizes).reshape(-1) for array in (crossing.scale, crossing.offset)
    )
    return (1, 1, count), scale, offset
