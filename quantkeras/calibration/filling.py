"""Filling the integer range although activation steps are powers of two.

A channel whose range is r < 2**k would leave part of its integers unused. Where its only reader is
a layer with weights, the channel is multiplied by ``ratio = HEADROOM * 2**k / r`` (in the
producer's weights or gain) and divided out of the reader's weights: the float function stays the
same, and nearly the whole range is used. The ratio is at least 1 and below 2; beyond the spread a
quantizer allows, a channel is left as it is. The headroom is for values that the samples did not
show: a range that is filled to the last integer saturates more on new data than it gains.

The same division removes the gain error of an average pooling that stands alone, whose 1/n has to
be rounded to ``scale_bits`` bits.
"""

from __future__ import annotations

import numpy as np

from sanitize.graph import Graph, Node

from ..borders import Border
from ..layers import InputQuantizer, OutputQuantizer, WeightedLayer
from ..numerics.shapes import fixed_shape

HEADROOM = 0.85
"""Part of the integer range that the observed range fills."""

MOVEMENTS = ("flatten", "reshape", "permute", "max_pool", "pad", "identity")


def only_reader(graph: Graph, name: str) -> tuple[WeightedLayer, list[Node]] | None:
    """The weighted layer that alone reads a value, and the movements on the way; else None."""
    node = graph[name]
    path: list[Node] = []
    if node.share is not None:
        return None
    while True:
        readers = graph.consumers(node.name)
        if graph.uses(node.name) != 1 or not readers:
            return None
        node = readers[0]
        if node.kind not in MOVEMENTS:
            break
        path.append(node)
    layer = node.attrs.get("layer")
    if not isinstance(layer, WeightedLayer) or node.share is not None:
        return None
    channels = np.arange(fixed_shape(graph[name].shape, name)[-1])
    if _moved(channels, graph[name], path) is None:
        return None
    return layer, path


def fill_range(
    graph: Graph, name: str, largest: np.ndarray, border: Border | None = None
) -> np.ndarray:
    """Scale the value ``name`` to fill its format; returns by what it changed, (c,).

    largest: clipping range of the value as it is, (c,) or scalar, > 0; border: what stands around
    it. Call only where :func:`only_reader` finds one.
    """
    found = only_reader(graph, name)
    assert found is not None
    reader, path = found
    layer = graph[name].attrs["layer"]
    quantizer = layer if isinstance(layer, InputQuantizer) else layer.output_quantizer
    before = np.asarray(quantizer.ratio)
    wanted = np.asarray(largest, np.float64) / HEADROOM
    if border is not None:
        reach = quantizer.range_of_border(border.lowest, border.highest)
        wanted = np.maximum(wanted, reach)
    factor = np.broadcast_to(_wanted_factor(quantizer, wanted), before.shape)
    change = layer.scale_output(factor)
    moved = _moved(np.asarray(quantizer.ratio) / before, graph[name], path)
    assert moved is not None
    reader.divide_input(moved)
    return change


def normalize_integers(graph: Graph, name: str) -> None:
    """Let the integer input ``name`` stand for values of magnitude 1 if one layer alone reads it.

    Raw pixels of 0..255 make the weights of their layer 256 times smaller than others, and any
    optimizer with steps of one size for all weights (Adam) destroys them. The integers, their
    products and the function stay the same: both factors are the same power of two.
    """
    found = only_reader(graph, name)
    if found is None:
        return
    reader, path = found
    factor = _moved(graph[name].attrs["layer"].take_range_of_one(), graph[name], path)
    assert factor is not None  # it is the same for all channels
    reader.divide_input(factor)


def _wanted_factor(quantizer: OutputQuantizer, wanted: np.ndarray) -> np.ndarray:
    """What stretches the ranges ``wanted``, (c,) or scalar, to those of their formats."""
    exponents = np.ceil(np.log2(wanted) - 1e-6)
    if quantizer.per_channel:
        exponents = np.maximum(exponents, exponents.max() - quantizer.max_spread)
    return np.minimum(np.exp2(exponents) / wanted, 2.0)


def _moved(ratio: np.ndarray, source: Node, path: list[Node]) -> np.ndarray | None:
    """A per-channel array of ``source`` as it lies behind the movements of ``path``.

    (c,) for the last axis there; None if it would differ by position.
    """
    if not path:
        return ratio
    if (ratio == ratio[0]).all():
        return ratio[:1]  # whatever becomes of the channels
    array, shape = ratio, fixed_shape(source.shape)
    for node in path:
        moved = fixed_shape(node.shape)
        if node.kind in ("flatten", "reshape"):
            array = np.broadcast_to(array, shape).reshape(moved)
        elif node.kind == "permute":
            array = np.broadcast_to(array, shape).transpose(node.attrs["dims"])
        if array.ndim > 1:
            rows = array.reshape(-1, array.shape[-1])
            array = rows[0] if (rows == rows[0]).all() else array
        if array.ndim > 1 and node.kind in ("max_pool", "pad"):
            return None
        shape = moved
    return array if array.ndim == 1 else None
