"""Links: pairs of layers with weights between which a positive factor per channel can move.

With f(a * x) = a * f(x) for a > 0 (ReLU, leaky ReLU, pooling, movements), the output channel c of
one layer may be divided by s[c] and the weights of the next that read it multiplied by s[c]; the
network computes the same. A clip at m, as of ReLU6, becomes one at m / s[c]. Cross-layer
equalization (Nagel et al. 2019, arXiv:1906.04721, section 4.1) lives on such pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sanitize.graph import Graph, Node, producer_of
from sanitize.kinds import Trait, kinds_with
from sanitize.rules.linear import LINEAR, only_use, output_channels, used_elsewhere

from ..quantization.movement_steps import carry_through

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

_POOLS = kinds_with(Trait.AVERAGES) | kinds_with(Trait.MAXIMA) | {"upsample"}
_HOMOGENEOUS = frozenset({"leaky_relu", "prelu"})


OTHERS = -1


def along(values: Array, origin: Indices, other: float) -> Array:
    """(cin,) the values, (cout,), of the producer's channels behind those of a reader."""
    return np.where(origin == OTHERS, other, values[origin])


def gathered(function: np.ufunc, start: Array, origin: Indices, values: Array) -> Array:
    """(cout,) start, with the values (cin,) of all channels that read a producer's taken in."""
    result, own = start.copy(), origin != OTHERS
    function.at(result, origin[own], values[own])
    return result


@dataclass(frozen=True)
class Link:
    """Names of a producer and its only reader, and of the nodes between, in order.

    origin: (cin,) the producer's channel behind each input channel of the reader, OTHERS where it
    comes from another layer with which the producer was concatenated. clips: name of each ReLU with
    a maximum on the way -> the producer's channel behind each of its channels, the same.
    """

    producer: str
    reader: str
    path: tuple[str, ...]
    origin: Indices
    clips: dict[str, Indices]


def find_links(graph: Graph) -> tuple[list[Link], dict[str, str]]:
    """The links of a sanitized graph in topological order, and why other layers have none.

    The reasons are by name of the producer.
    """
    links: list[Link] = []
    reasons: dict[str, str] = {}
    for node in graph:
        if node.kind in LINEAR:
            found = _link_from(graph, node)
            if isinstance(found, Link):
                links.append(found)
            else:
                reasons[node.name] = found
    return links, reasons


def _link_from(graph: Graph, producer: Node) -> Link | str:
    if producer.share is not None:
        return "it is a shared layer, whose call sites may want different factors"
    if "activation" in producer.attrs:
        return "its activation is part of it; sanitize the graph first"
    origin: NDArray[Any] = np.arange(output_channels(producer))
    path: list[str] = []
    clips: dict[str, Indices] = {}
    node = producer
    while True:
        if not only_use(graph, node.name):
            return used_elsewhere(graph, node)
        before, node = node, graph.consumers(node.name)[0]
        if node.kind in LINEAR:
            if node.share is not None:
                return f"'{node.name}', which reads it, is a shared layer"
            if origin.ndim > 1:
                return f"its channels are not the channels of '{node.name}', which reads it"
            return Link(producer.name, node.name, tuple(path), origin, clips)
        problem = _obstacle(graph, node, origin)
        if problem is not None:
            return problem
        if node.kind == "relu" and _ceiling(node) is not None:
            if origin.ndim > 1:
                return f"its channels are not the channels of the clip '{node.name}'"
            clips[node.name] = origin
        if Trait.REARRANGES in node.traits or (node.kind == "pad" and origin.ndim > 1):
            if None in (*graph.shape_of(before.name), *node.shape):
                return f"the size of '{node.name}' is not known"
            origin = carry_through(origin, node, graph.shape_of(before.name), node.shape)
        if node.kind == "concat":
            origin = _joined(graph, node, before.name, origin)
        path.append(node.name)


def _obstacle(graph: Graph, node: Node, origin: NDArray[Any]) -> str | None:
    """Why factors per channel cannot cross a node; None if they can."""
    if node.kind == "concat":
        if node.attrs["axis"] not in (-1, len(node.shape) - 1):
            return f"'{node.name}' joins it with others position by position"
        if origin.ndim > 1:
            return f"its channels are not the channels of '{node.name}', which joins it with others"
        known = all(graph.shape_of(value)[-1] is not None for value in node.inputs)
        return None if known else f"the size of '{node.name}' is not known"
    if Trait.REARRANGES in node.traits or (
        node.kind == "pad" and node.attrs.get("value", 0.0) == 0.0
    ):
        return None
    if node.kind in _POOLS:
        return None if origin.ndim == 1 else f"'{node.name}' pools across its channels"
    if node.kind == "relu":
        return None
    if node.kind == "activation" and node.attrs["function"] in _HOMOGENEOUS:
        return None
    what = node.attrs.get("function", node.kind)
    return f"it is read by '{node.name}' ({what}), which no factor crosses"


def _joined(graph: Graph, node: Node, before: str, origin: Indices) -> Indices:
    """The producer's channels behind a concatenation of its value with others."""
    sizes = [int(graph.shape_of(value)[-1] or 0) for value in node.inputs]
    place = [producer_of(value) for value in node.inputs].index(before)
    joined = np.full(sum(sizes), OTHERS)
    start = sum(sizes[:place])
    joined[start : start + sizes[place]] = origin
    return joined


def _ceiling(node: Node) -> Any:
    """The maximum of a ReLU: a number or (c,); None without."""
    return node.weights.get("max_value", node.attrs.get("max_value"))


def scaled_clip(node: Node, factor: Array, shift: Array | float = 0.0) -> Node:
    """The ReLU whose maximum is (m - shift) / factor; (c,) each."""
    ceiling = np.asarray(_ceiling(node), np.float64)
    clip = np.broadcast_to((ceiling - shift) / factor, factor.shape)
    return node.with_attrs(max_value=None).with_weights(max_value=clip)


def magnitudes(node: Node) -> Array:
    """(groups, in, out): the largest |weight| between two channels, over the window.

    Flattened over groups and out it is in the order of the output channels, over groups and in in
    that of the input channels.
    """
    kernel: Array = np.abs(node.weights["kernel"].astype(np.float64))
    if node.kind == "dense":
        return kernel[None]
    window: Array = kernel.max(axis=(0, 1))
    if Trait.DEPTHWISE in node.traits:
        return window[:, None, :]
    if node.kind == "conv2d_transpose":
        return window.T[None]
    groups = node.attrs["groups"]
    return np.asarray(window.reshape(window.shape[0], groups, -1).transpose(1, 0, 2))


def output_range(magnitude: Array) -> Array:
    """(cout,) largest |weight| of each output channel."""
    return np.asarray(magnitude.max(axis=1).ravel())


def input_range(magnitude: Array) -> Array:
    """(cin,) largest |weight| that each input channel meets."""
    return np.asarray(magnitude.max(axis=2).ravel())
