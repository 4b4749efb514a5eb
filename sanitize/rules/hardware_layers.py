"""Hardware only: operations without weights that a target has no layer for, as convolutions."""

from __future__ import annotations

import numpy as np

from ..graph import Graph, Node
from ..kinds import MERGES
from ..match import Match, Rewrite
from .linear import LINEAR, explicit_pads, only_use

_PLAIN_WINDOW = {"strides": (1, 1), "padding": "valid", "dilation": (1, 1)}


def _ones(node: Node, kind: str, size: tuple[int, int], value: float = 1.0) -> Node:
    """``node`` as a depthwise convolution of this kind, its kernel ``value`` everywhere."""
    channels = node.channels
    assert channels is not None
    kernel = np.full((*size, channels, 1), value, np.float32)
    return node.with_(kind=kind, weights={"kernel": kernel})


class UpsampleToTranspose:
    """nearest upsampling by (h, w)  ->  transposed depthwise convolution, kernel of ones (h, w).

    With a stride as large as the kernel every pixel is spread over a block of its own.
    """

    name = "upsampling to depthwise transpose"
    hardware_only = True

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        return Match(node) if node.kind == "upsample" else None

    def check(self, graph: Graph, match: Match) -> str | None:
        return None if match.anchor.channels is not None else "its number of channels is not known"

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        size = tuple(node.attrs["size"])
        new = node.with_(attrs={**_PLAIN_WINDOW, "strides": size})
        return Rewrite(add=[_ones(new, "depthwise_conv2d_transpose", size)])


class AveragePoolToDepthwise:
    """average pool over h x w, without padding  ->  depthwise convolution, kernel 1 / (h * w)."""

    name = "average pool to depthwise"
    hardware_only = True

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        return Match(node) if node.kind == "avg_pool" else None

    def check(self, graph: Graph, match: Match) -> str | None:
        node = match.anchor
        if node.channels is None:
            return "its number of channels is not known"
        if explicit_pads(graph, node) != ((0, 0), (0, 0)):
            return "windows at its border hold fewer pixels, so that they have another divisor"
        if len(set(node.attrs["strides"])) > 1:
            return "not every processor runs depthwise convolutions of unequal strides"
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        size = tuple(node.attrs["size"])
        new = node.with_(attrs={**_PLAIN_WINDOW, "strides": node.attrs["strides"]})
        return Rewrite(add=[_ones(new, "depthwise_conv2d", size, 1.0 / (size[0] * size[1]))])


#: Which operation a layer does first, second ... behind its core.
_STAGE = {"max_pool": 1, "relu": 2, "activation": 2, "avg_pool": 3, "global_avg_pool": 3}


class IdentityConvolution:
    """op(x), where no layer in front can do the op  ->  op(depthwise 1x1 with weights 1 (x)).

    An op is a pool or an activation. A convolution can take a max pool, then an activation, then an
    average pool, if nobody else reads what is in between; an addition or concatenation only an
    activation. Whatever stands alone gets a convolution that changes nothing in front of it.
    """

    name = "identity convolution"
    hardware_only = True

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind not in _STAGE:
            return None
        before = graph[node.inputs[0]]
        alone = only_use(graph, before.name)
        if alone and before.kind in LINEAR:
            return None
        if alone and before.kind in MERGES and _STAGE[node.kind] == 2:
            return None
        if alone and _STAGE.get(before.kind, 9) < _STAGE[node.kind] and _has_weights(graph, before):
            return None
        return Match(node)

    def check(self, graph: Graph, match: Match) -> str | None:
        node = match.anchor
        shape = graph.shape_of(node.inputs[0])
        if len(shape) != 3:
            return f"its input has the shape {shape}; a convolution takes a map (h, w, c)"
        return None if shape[-1] is not None else "its number of channels is not known"

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        name = graph.unique_name(f"{node.name}/identity")
        shape = graph.shape_of(node.inputs[0])
        first = Node(name, "identity", node.inputs, _PLAIN_WINDOW, {}, shape, node.source)
        return Rewrite(add=[_ones(first, "depthwise_conv2d", (1, 1)), node.with_(inputs=(name,))])


def _has_weights(graph: Graph, node: Node) -> bool:
    """Whether the layer that does ``node`` starts with weights, so that a pool may follow."""
    while node.kind in _STAGE:
        node = graph[node.inputs[0]]
    return node.kind in LINEAR
