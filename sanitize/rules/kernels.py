"""Convolutions and dense layers in the plainest form that computes the same."""

from __future__ import annotations

import numpy as np

from ..graph import Graph, Node
from ..match import Match, Rewrite
from ..shapes import window_of, window_pads
from .linear import explicit_pads, same_or_explicit


class GroupsToDepthwise:
    """conv2d with as many groups as input channels  ->  depthwise_conv2d.

    kernel (kh, kw, 1, c * m) -> (kh, kw, c, m): output channel i * m + j reads input channel i in
    both.
    """

    name = "groups to depthwise"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind != "conv2d" or node.attrs["groups"] == 1:
            return None
        return Match(node) if node.weights["kernel"].shape[2] == 1 else None

    def check(self, graph: Graph, match: Match) -> str | None:
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        kernel, groups = node.weights["kernel"], node.attrs["groups"]
        new = node.with_(kind="depthwise_conv2d").with_attrs(groups=None)
        shape = (*kernel.shape[:2], groups, kernel.shape[3] // groups)
        return Rewrite(add=[new.with_weights(kernel=kernel.reshape(shape))])


class DepthwiseOfOne:
    """depthwise_conv2d on one channel  ->  conv2d; the kernel (kh, kw, 1, m) is the same."""

    name = "depthwise of one channel to convolution"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        one = node.kind == "depthwise_conv2d" and node.weights["kernel"].shape[2] == 1
        return Match(node) if one else None

    def check(self, graph: Graph, match: Match) -> str | None:
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        return Rewrite(add=[match.anchor.with_(kind="conv2d").with_attrs(groups=1)])


class DenseToConv:
    """dense on a map (h, w, c)  ->  conv2d with a 1x1 kernel."""

    name = "dense on a map to convolution"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        on_map = node.kind == "dense" and len(graph.shape_of(node.inputs[0])) == 3
        return Match(node) if on_map else None

    def check(self, graph: Graph, match: Match) -> str | None:
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        attrs = {"strides": (1, 1), "padding": "valid", "dilation": (1, 1), "groups": 1}
        new = node.with_(kind="conv2d").with_attrs(**attrs)
        return Rewrite(add=[new.with_weights(kernel=node.weights["kernel"][None, None])])


class OddKernels:
    """A padded convolution with an even kernel  ->  the same with a row or column of zeros.

    The zeros go in front, with one more pad in front, or behind, with one more pad behind:
    whichever makes the padding 'same', else in front.
    """

    name = "odd kernels"
    hardware_only = True

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind not in ("conv2d", "depthwise_conv2d"):
            return None
        if all(size % 2 for size in node.weights["kernel"].shape[:2]):
            return None
        return Match(node) if node.attrs["padding"] != "valid" else None

    def check(self, graph: Graph, match: Match) -> str | None:
        if explicit_pads(graph, match.anchor) is None:
            return "its input size is not known, and so is what 'same' means for it"
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        shapes = {key: value.shape for key, value in node.weights.items()}
        _, size, strides, dilation = window_of(node.kind, node.attrs, shapes)
        pads = explicit_pads(graph, node)
        area = graph.shape_of(node.inputs[0])[:2]
        odd = (size[0] + 1 - size[0] % 2, size[1] + 1 - size[1] % 2)
        same = window_pads("same", area, odd, strides, dilation)
        fill, wider = [], []
        for axis in (0, 1):
            before, after = pads[axis]
            step = dilation[axis] if size[axis] % 2 == 0 else 0
            behind = same is not None and same[axis] == (before, after + step)
            fill.append((0, 1) if step and behind else (1, 0) if step else (0, 0))
            wider.append((before, after + step) if behind else (before + step, after))
        kernel = np.pad(node.weights["kernel"], [*fill, (0, 0), (0, 0)])
        padding = same_or_explicit(tuple(wider), area, odd, strides, dilation)
        return Rewrite(add=[node.with_attrs(padding=padding).with_weights(kernel=kernel)])
