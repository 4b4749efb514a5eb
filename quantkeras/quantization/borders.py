"""Values that layers put around a tensor: its format must hold them, too.

A batch normalization or an offset that is folded forward into a zero-padded convolution makes the
padding stand at another value than zero. Those values are integers of the convolution's input like
all others, so the quantizer of that input, which may lie some movements of data before it, is told
of them: a sign where one is negative, and a range that reaches to all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sanitize.graph import Graph, Node, producer_of
from sanitize.rules.linear import constant_response

from .movement_steps import carry_through
from .moving import only_moves

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Border:
    """Lowest and highest value that stands around each channel of a tensor, (c,) each."""

    lowest: Array
    highest: Array

    @property
    def negative(self) -> bool:
        """Whether an unsigned format cannot hold it."""
        return bool((self.lowest < 0).any())

    def scaled(self, factor: Array | float) -> Border:
        """Around the tensor times ``factor`` > 0, a number or (c,)."""
        return Border(self.lowest * factor, self.highest * factor)


def folded_padding(node: Node) -> Array | None:
    """(c_in,) the padding of a node of a float graph, None if it is zero."""
    value = node.weights.get("pad_value")
    return None if value is None else np.asarray(value, np.float64)


def layer_padding(node: Node) -> Array | None:
    """The same of a node of a quantized model's graph."""
    layer = node.attrs.get("layer")
    if layer is None or not getattr(layer, "has_pad_value", False):
        return None
    return np.asarray(layer.pad_value, np.float64)


def find_borders(graph: Graph, padding: Callable[[Node], Array | None]) -> dict[str, Border]:
    """Name of each value around which layers put something but zeros -> what they put there.

    The values are those that something computes: of a tensor that was only moved, the border
    belongs to what it was moved from.
    """
    found: dict[str, Border] = {}
    for node in graph:
        values = padding(node)
        if values is None:
            continue
        path: list[Node] = []
        name = producer_of(node.inputs[0])
        while only_moves(graph[name]) and graph[name].inputs:
            path.insert(0, graph[name])
            name = producer_of(graph[name].inputs[0])
        border = _border(graph, name, path, values)
        found[name] = join_borders([found[name], border]) if name in found else border
    return found


def join_borders(borders: Iterable[Border]) -> Border:
    """What stands around a tensor that has several readers."""
    return reduce(
        lambda a, b: Border(np.minimum(a.lowest, b.lowest), np.maximum(a.highest, b.highest)),
        borders,
    )


def _border(graph: Graph, name: str, path: list[Node], values: Array) -> Border:
    """values: (c_in,) around what ``path`` makes of the value ``name``."""
    shape = graph.shape_of(name)
    channels = shape[-1]
    assert channels is not None
    lowest, highest = np.zeros(channels), np.zeros(channels)
    origin: Any = np.arange(channels)
    if path and (values != values[:1]).any():
        for node in path:
            origin, shape = carry_through(origin, node, shape, node.shape), node.shape
    elif path:
        values = np.broadcast_to(values[:1], (channels,))
    np.minimum.at(lowest, origin, np.broadcast_to(values, origin.shape))
    np.maximum.at(highest, origin, np.broadcast_to(values, origin.shape))
    return Border(lowest, highest)


def unfold_borders(graph: Graph, limits: Mapping[str, tuple[float, float]]) -> Graph:
    """The graph with padding by zeros wherever an input cannot hold what was folded into it.

    limits: name of each input of fixed format -> its smallest and largest value. A layer of its own
    takes the padding value v off such an input, so that 0 stands for it: f(x, padded with v) =
    f((x - v) + v, padded with 0), the last term a constant for the bias.
    """
    result = graph
    for node in graph:
        values = folded_padding(node)
        if values is None:
            continue
        name = producer_of(node.inputs[0])
        while only_moves(graph[name]) and graph[name].inputs:
            name = producer_of(graph[name].inputs[0])
        low, high = limits.get(name, (-np.inf, np.inf))
        if values.min() < low - 0.5 or values.max() > high + 0.5:
            result = result.replace(add=_unfolded(result, node, values))
    return result


def _unfolded(graph: Graph, node: Node, values: Array) -> list[Node]:
    shape = graph.shape_of(node.inputs[0])
    attrs = {"strides": (1, 1), "padding": "valid", "dilation": (1, 1)}
    weights = {
        "kernel": np.ones((1, 1, len(values), 1), np.float32),
        "bias": -values.astype(np.float32),
    }
    name = graph.unique_name(f"{node.name}/offset")
    first = Node(name, "depthwise_conv2d", node.inputs, attrs, weights, shape, node.source)
    constant = constant_response(graph, node, values)
    assert constant is not None  # only plain and depthwise convolutions have such a padding
    bias = constant + node.weights.get("bias", np.zeros(len(constant)))
    changed = node.with_(inputs=(name,), share=None).with_weights(bias=bias, pad_value=None)
    return [first, changed]
