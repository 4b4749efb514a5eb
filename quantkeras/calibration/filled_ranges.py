"""Filling the integer range although activation steps are powers of two.

A channel whose range is r < 2**k would leave part of its integers unused. Where all its readers are
layers with weights, the channel is multiplied by ``ratio = HEADROOM * 2**k / r`` (in the
producer's weights or gain) and divided out of the readers' weights: the float function stays the
same, and nearly the whole range is used. The ratio is at least 1 and below 2; beyond the spread a
quantizer allows, a channel is left as it is. The headroom is for values that the samples did not
show: a range that is filled to the last integer saturates more on new data than it gains.

Ratios that differ from channel to channel make the readers' weights uneven, and those of an output
channel share a step. Where two layers or more with weights of few bits read a value, all of them
would lose by that, more than the value gains: it is left as it is, unless it joins tensors of
unlike ranges.

Where tensors of unlike ranges were joined (a concatenation), one scale of the reader's weights has
to serve all of them: the weights of a small tensor are large, and those of a large one would be
rounded away. Then all channels of a small one are multiplied by a power of two as well, by which
ranges and weights come half of the way to each other, as cross-layer equalization has it.

The same division removes the gain error of an average pooling that stands alone, whose 1/n has to
be rounded to ``scale_bits`` bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from keras import ops

from sanitize.graph import Graph, Node

from ..layers import PART_SPREAD, InputQuantizer, OutputQuantizer, WeightedLayer
from ..numerics.layer_shapes import fixed_shape
from ..quantization import moving
from ..quantization.borders import Border
from ..quantization.movement_steps import carry_through

HEADROOM = 0.85
"""Part of the integer range that the observed range fills."""

BITS_TO_SPARE = 8
"""Weights of so many bits may become uneven."""

MOVEMENTS = moving.MOVEMENTS - {"slice", "upsample"}
"""Through which ratios go to the readers."""


class Reader(NamedTuple):
    """A layer with weights that reads a value, and the movements on the way."""

    layer: WeightedLayer
    path: list[Node]


def weighted_readers(graph: Graph, name: str) -> list[Reader] | None:
    """All that reads a value, if factors of its channels can go into the weights of all of it."""
    source = graph[name]
    if source.share is not None:
        return None
    channels = np.arange(fixed_shape(source.shape, name)[-1])
    readers: list[Reader] = []
    waiting: list[tuple[Node, list[Node]]] = [(source, [])]
    while waiting:
        node, path = waiting.pop()
        users = graph.consumers(node.name)
        if not users or graph.is_output(node.name):
            return None
        for user in users:
            layer = user.attrs.get("layer")
            if user.kind in MOVEMENTS:
                waiting.append((user, [*path, user]))
            elif isinstance(layer, WeightedLayer) and user.share is None:
                readers.append(Reader(layer, path))
            else:
                return None
    if any(moved_along(channels, source, reader.path) is None for reader in readers):
        return None
    return readers


def may_fill(graph: Graph, name: str, quantizer: OutputQuantizer) -> bool:
    """Whether factors may go from a value into the weights of all that reads it, and should."""
    readers = weighted_readers(graph, name)
    if readers is None or quantizer.parts or not quantizer.per_channel:
        return readers is not None
    # Depthwise convolutions do not mind: each of their output channels reads one channel.
    minding = [reader.layer for reader in readers if reader.layer.input_weights() is not None]
    return len(minding) < 2 or all(
        layer.weight_quantizer.bits >= BITS_TO_SPARE for layer in minding
    )


def fill_range(
    graph: Graph, name: str, largest: np.ndarray, border: Border | None = None
) -> np.ndarray:
    """Scale the value ``name`` to fill its format; returns by what it changed, (c,).

    largest: clipping range of the value as it is, (c,) or scalar, > 0; border: what stands around
    it. Call only where :func:`may_fill` allows it.
    """
    readers = weighted_readers(graph, name)
    assert readers is not None
    layer = graph[name].attrs["layer"]
    quantizer = layer if isinstance(layer, InputQuantizer) else layer.output_quantizer
    before = np.asarray(quantizer.ratio)
    wanted = np.asarray(largest, np.float64) / HEADROOM
    if border is not None:
        reach = quantizer.range_of_border(border.lowest, border.highest)
        wanted = np.maximum(wanted, reach)
    balance = _balance(quantizer, wanted, _weights_of(readers, graph[name]))
    factor = balance * _wanted_factor(quantizer, wanted * balance)
    factor = np.broadcast_to(factor, before.shape)
    change = layer.scale_output(factor)
    divide_readers(readers, np.asarray(quantizer.ratio) / before, graph[name])
    return np.asarray(change)


def normalize_integers(graph: Graph, name: str) -> None:
    """Let the integer input ``name`` stand for values of magnitude 1 if only weights read it.

    Raw pixels of 0..255 make the weights of their layer 256 times smaller than others, and any
    optimizer with steps of one size for all weights (Adam) destroys them. The integers, their
    products and the function stay the same: both factors are the same power of two.
    """
    readers = weighted_readers(graph, name)
    if readers is not None:
        divide_readers(readers, graph[name].attrs["layer"].take_range_of_one(), graph[name])


def divide_readers(readers: list[Reader], factor: np.ndarray, source: Node) -> None:
    """Take the factor (c,) by which ``source`` grew off the weights of its readers."""
    for reader in readers:
        moved = moved_along(factor, source, reader.path)
        assert moved is not None
        reader.layer.divide_input(moved)


def _wanted_factor(quantizer: OutputQuantizer, wanted: np.ndarray) -> np.ndarray:
    """What stretches the ranges ``wanted``, (c,) or scalar, to those of their formats."""
    exponents = np.ceil(np.log2(wanted) - 1e-6)
    if quantizer.per_channel:
        least = quantizer.least_exponents(exponents.astype(np.float32))
        exponents = np.maximum(exponents, ops.convert_to_numpy(least))
    return np.asarray(np.minimum(np.exp2(exponents) / wanted, 2.0))


def _weights_of(readers: list[Reader], source: Node) -> np.ndarray | None:
    """(c,) the largest weight that each channel of ``source`` meets, in parts of the largest of
    its output channel; None where no reader has a use for balance.
    """
    channels = fixed_shape(source.shape, source.name)[-1]
    found = np.zeros(channels)
    for reader in readers:
        weights = reader.layer.input_weights()
        origin = moved_along(np.arange(channels), source, reader.path)
        if weights is not None and origin is not None:
            np.maximum.at(found, np.broadcast_to(origin, weights.shape), weights)
    return found if found.any() else None


def _balance(
    quantizer: OutputQuantizer, wanted: np.ndarray, weights: np.ndarray | None
) -> np.ndarray | float:
    """Powers of two (c,) that bring the parts of a joined tensor nearer to the largest of them.

    wanted: the ranges, (c,) or scalar; weights: by which the channels are multiplied.
    """
    if not quantizer.parts or weights is None:
        return 1.0
    starts = np.cumsum((0, *quantizer.parts[:-1]))
    ranges = np.maximum.reduceat(wanted, starts)
    largest = ranges.argmax()
    apart = ranges[largest] / ranges
    if apart.max() <= 2.0**PART_SPREAD:
        return 1.0
    heavy = np.maximum.reduceat(weights, starts)
    heavy = np.maximum(heavy, np.finfo(np.float32).tiny)
    shares = np.sqrt(apart * heavy / heavy[largest])
    return np.repeat(np.exp2(np.round(np.log2(np.clip(shares, 1.0, apart)))), quantizer.parts)


def moved_along(ratio: np.ndarray, source: Node, path: list[Node]) -> np.ndarray | None:
    """A per-channel array of ``source`` as it lies behind the movements of ``path``.

    (c,) for the last axis there; None if it would differ by position.
    """
    if not path:
        return ratio
    if (ratio == ratio[0]).all():
        return ratio[:1]  # whatever becomes of the channels
    array, shape = ratio, source.shape
    for node in path:
        if array.ndim > 1 and node.kind in ("max_pool", "pad"):
            return None
        array, shape = carry_through(array, node, shape, node.shape), node.shape
    return array if array.ndim == 1 else None
