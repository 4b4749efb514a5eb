"""Convolutions and dense layers in the plainest form that computes the same."""

from __future__ import annotations

from ..graph import Graph, Node
from ..match import Match, Rewrite


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
