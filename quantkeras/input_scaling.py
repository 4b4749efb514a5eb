"""Float inputs that are far from zero, or whose channels are of unlike scales.

One power-of-two format serves features of scale 1 and 1000, or values of 300 +- 5, badly. Where
layers with weights alone read an input, each channel becomes ``(x - offset) / scale`` before it is
quantized, and these layers undo it in their weights and biases: the function stays the same. It is
done only where it is worth it; pictures stay as they are.

What counts is not how small the numbers of a channel are but how much of it arrives: a channel of
small numbers with weights like those of the others says little, and the samples say little of it.
Its scale becomes no smaller than that a quarter of the strongest contribution fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from keras import ops
from numpy.typing import NDArray

from sanitize.graph import Graph, Node
from sanitize.input_maps import (
    OTHER,
    Reader,
    largest_weights,
    map_before,
    map_inputs,
    readers_of_inputs,
)
from sanitize.match import Keep
from sanitize.rules.linear import constant_response

from .borders import layer_padding
from .calibration.batches import Batch
from .calibration.filling import divide_readers, moved_along, weighted_readers
from .calibration.samples import SampleStream
from .numerics.shapes import fixed_shape

Array = NDArray[np.float64]

SAMPLES, BYTES = 1024, 2**26
"""So many of the first samples are looked at, at most."""
FEWEST = 8
"""Values of a channel without which nothing is said of where it lies."""
SPREAD = 4.0
"""Scales that differ less are left to the formats of the channels."""
FAR, ASIDE = 2.0, 0.5
"""A channel is far from zero when its middle is this many times half its width away; one beside
channels with negative values, which cost it a sign in any case, when it is so many times."""
NOISE = 2.0**-20
"""A channel that varies less, relative to its magnitude, is constant."""


@dataclass(frozen=True)
class InputMap:
    """What an input becomes before it is quantized: ``(x - offset) / scale``; (c,) each, float32,
    scale powers of two.
    """

    scale: Array
    offset: Array


@dataclass(frozen=True)
class _Ranges:
    """Lowest and highest value of each channel, (c,) each; count: how many were seen of each."""

    low: Array
    high: Array
    count: int


def fitting_maps(
    raw: Graph, graph: Graph, names: Sequence[str], stream: SampleStream, keep: Keep | None = None
) -> tuple[Graph, dict[str, InputMap]]:
    """Maps of the inputs that need one, and the network that expects them.

    raw, graph: as it was read, and sanitized. names: its float inputs that will be quantized by
    channel. stream: samples, not begun to read. keep: see :func:`sanitize.sanitize_graph`.
    """
    fitting = [name for name in names if graph[name].shape and graph[name].channels]
    if not fitting:
        return graph, {}
    readers, blocked = readers_of_inputs(graph, fitting)
    ranges = _observed(stream.peek(SAMPLES, BYTES), fitting)
    for offsets in (True, False):
        maps = _wanted(fitting, ranges, readers, offsets)
        maps = {name: found for name, found in maps.items() if name not in blocked}
        pairs = {name: (found.scale, found.offset) for name, found in maps.items()}
        mapped, done = map_inputs(graph, pairs)
        if len(done) == len(maps):
            break
    if done:
        mapped = map_before(raw, mapped, {name: pairs[name] for name in done}, keep)
    return mapped, {name: maps[name] for name in done}


def open_maps(graph: Graph, names: Sequence[str]) -> dict[str, InputMap]:
    """Maps that change nothing, where :func:`take_maps` may put others later."""
    counts = {name: graph[name].channels for name in names if graph[name].shape}
    return {name: InputMap(np.ones(n), np.zeros(n)) for name, n in counts.items() if n}


def take_maps(graph: Graph, names: Sequence[str], stream: SampleStream) -> None:
    """Give float inputs of a quantized model the maps that :func:`fitting_maps` finds for them.

    graph: of the model, not calibrated with samples before. names: of inputs that one quantizer
    reads. stream: samples, not begun to read. Inputs that are read joined to others stay as they
    are, and none gets an offset where one cannot: it takes a quantizer that can subtract it, and
    layers behind that have a bias and no padding.
    """
    if not names:
        return
    quantizers = {name: graph.consumers(name)[0] for name in names}
    behind: dict[str, list[Reader]] = {}
    start = 0
    for name, quantizer in quantizers.items():
        behind[name] = list(_layers_behind(graph, quantizer, start))
        start += fixed_shape(quantizer.shape)[-1]
    readers = [reader for found in behind.values() for reader in found]
    observed = _observed(stream.peek(SAMPLES, BYTES), names)
    for offsets in (True, False):
        maps = _wanted(names, observed, readers, offsets)
        maps = {name: found for name, found in maps.items() if behind[name]}
        if all(
            quantizers[name].attrs["layer"].has_offset and all(map(_takes_offset, behind[name]))
            for name, found in maps.items()
            if found.offset.any()
        ):
            break
    for name, found in maps.items():
        _take_map(graph, quantizers[name], behind[name], found)


def _take_map(graph: Graph, quantizer: Node, readers: Sequence[Reader], found: InputMap) -> None:
    layer = quantizer.attrs["layer"]
    if found.offset.any():
        layer.offset.assign(found.offset)
        first = min(int(reader.sources.min()) for reader in readers)
        for reader in readers:
            response = constant_response(graph, reader.node, found.offset[reader.sources - first])
            assert response is not None
            bias = reader.node.attrs["layer"].bias
            bias.assign((ops.convert_to_numpy(bias) + response).astype(np.float32))
    layers = weighted_readers(graph, quantizer.name)
    assert layers is not None
    divide_readers(layers, layer.scale_output(1 / found.scale), quantizer)


def _takes_offset(reader: Reader) -> bool:
    """Whether a layer's bias can take what an offset in front of it adds everywhere."""
    layer = reader.node.attrs["layer"]
    window = layer.core_spec().window
    plain = window is None or (window.padding == "valid" and window.input_dilation == (1, 1))
    return plain and layer.bias is not None and not reader.node.attrs["padded"]


def _layers_behind(graph: Graph, quantizer: Node, start: int) -> Iterator[Reader]:
    """The layers that read an input, whose channels are numbered from ``start`` on."""
    channels = np.arange(fixed_shape(quantizer.shape)[-1])
    for layer, path in weighted_readers(graph, quantizer.name) or ():
        sources = moved_along(channels, quantizer, path)
        assert sources is not None
        size = fixed_shape((path[-1] if path else quantizer).shape)[-1]
        sources = np.broadcast_to(sources, (size,)) + start
        spec = layer.core_spec()
        kernel = ops.convert_to_numpy(layer.core_kernel(ops.convert_to_tensor(layer.kernel)))
        padded = any(node.kind == "pad" for node in path)
        attrs = {"layer": layer, "padded": padded, "groups": spec.groups}
        node = Node(layer.name, spec.kind, attrs=attrs, weights={"kernel": kernel})
        yield Reader(node, sources, largest_weights(node, size), layer_padding(node))


def _observed(batches: Sequence[Batch], names: Sequence[str]) -> dict[str, _Ranges]:
    found = {}
    for name in names:
        rows = [np.asarray(batch[name], np.float32) for batch in batches]
        flat = [array.reshape(-1, array.shape[-1]) for array in rows]
        low = np.min([array.min(axis=0) for array in flat], axis=0).astype(np.float64)
        high = np.max([array.max(axis=0) for array in flat], axis=0).astype(np.float64)
        found[name] = _Ranges(low, high, sum(len(array) for array in flat))
    return found


def _wanted(
    names: Sequence[str],
    observed: Mapping[str, _Ranges],
    readers: Sequence[Reader],
    offsets: bool,
) -> dict[str, InputMap]:
    """The maps that are worth it. offsets: whether there may be any."""
    ranges = [_with_padding(observed[name], readers, start) for name, start in _starts(observed)]
    middles = [_middles(found) if offsets else np.zeros(found.low.shape) for found in ranges]
    sizes = [_sizes(found, middle) for found, middle in zip(ranges, middles, strict=True)]
    scales = _scales(np.concatenate(sizes), readers)
    maps = {}
    for name, start in _starts(observed):
        index = names.index(name)
        scale = scales[start : start + len(sizes[index])]
        if (scale != 1).any() or middles[index].any():
            maps[name] = InputMap(scale, middles[index])
    return maps


def _starts(observed: Mapping[str, _Ranges]) -> list[tuple[str, int]]:
    """Each input with the number of its first channel."""
    counts = [len(found.low) for found in observed.values()]
    return list(zip(observed, np.cumsum([0, *counts]).tolist(), strict=False))


def _with_padding(found: _Ranges, readers: Sequence[Reader], start: int) -> _Ranges:
    """The ranges with what convolutions see around the input."""
    low, high = found.low.copy(), found.high.copy()
    for reader in readers:
        own = (reader.sources >= start) & (reader.sources < start + len(low))
        if reader.outside is not None:
            np.minimum.at(low, reader.sources[own] - start, reader.outside[own])
            np.maximum.at(high, reader.sources[own] - start, reader.outside[own])
    return _Ranges(low, high, found.count)


def _middles(found: _Ranges) -> Array:
    """(c,) offsets: the middle of channels far from zero, 0 where there is none.

    An offset gives the integers a sign. Then non-negative channels get one as well, which keeps
    them all of their integers.
    """
    low, high = found.low, found.high
    middle, half = (high + low) / 2, (high - low) / 2
    factor = FAR if (low >= 0).all() else ASIDE
    # A few values say less of where the others lie.
    far = np.abs(middle) > factor * half * (1 + FEWEST / found.count)
    if found.count < FEWEST or not far.any():
        return np.zeros(low.shape)
    if (low >= 0).all():
        middle = np.where(far, middle, high / 2)
        far = high > 0
    return np.where(far, middle, 0.0).astype(np.float32).astype(np.float64)


def _sizes(found: _Ranges, middle: Array) -> Array:
    """(c,) largest magnitude behind the offset; 0 for a constant."""
    largest = np.maximum(np.abs(found.high - middle), np.abs(found.low - middle))
    magnitude = np.maximum(np.abs(found.low), np.abs(found.high))
    return np.where(largest > NOISE * magnitude, largest, 0.0)


def _scales(sizes: Array, readers: Sequence[Reader]) -> Array:
    """Powers of two for all channels of all inputs; 1 where they are alike as it is."""
    if not sizes.any():
        return np.ones(sizes.shape)
    wanted = _needed_sizes(sizes, readers)
    unlike = np.zeros(sizes.shape, bool)
    for reader in readers:
        read = reader.sources[reader.sources != OTHER]
        if read.size and wanted[read].max() > SPREAD * wanted[read].min():
            unlike[read] = True
    exponents = np.clip(np.ceil(np.log2(wanted)), -100, 100)
    return np.where(unlike, np.exp2(exponents), 1.0)


def _needed_sizes(sizes: Array, readers: Sequence[Reader]) -> Array:
    """The sizes, larger where a channel says little, but none above the largest; see the module."""
    strong = np.full(sizes.shape, np.inf)
    for reader in readers:
        own = np.flatnonzero(reader.sources != OTHER)
        read, weights = reader.sources[own], reader.weights[own]
        strongest = (weights * sizes[read][:, None]).max(axis=0, initial=0.0)
        counts = (weights > 0) & (strongest > 0)
        shares = np.full(weights.shape, np.inf)
        np.divide(strongest, weights, out=shares, where=counts)
        np.minimum.at(strong, read, shares.min(axis=1, initial=np.inf))
    # A constant says nothing at all: should it wake up, it may become as strong as the strongest.
    needed = np.where(sizes > 0, np.maximum(sizes, strong / SPREAD), strong)
    return np.minimum(needed, sizes.max())
