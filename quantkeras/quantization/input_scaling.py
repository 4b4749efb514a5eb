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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sanitize.graph import Graph
from sanitize.input_maps import (
    OTHER,
    Reader,
    map_before,
    map_inputs,
    open_readers,
    readers_of_inputs,
)
from sanitize.match import Keep

from ..calibration.batches import Batch
from ..calibration.samples import SampleStream

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
MOVED = 8.0
"""A normalization that adds more than this takes values far from zero there."""
TOGETHER = 2.0
"""Inputs of one layer have the same map where together they are at most so many times as wide."""


@dataclass(frozen=True)
class InputMap:
    """What an input becomes before it is quantized: ``(x - offset) / scale``; (c,) each, float32,
    scale powers of two.
    """

    scale: Array
    offset: Array


@dataclass(frozen=True)
class Ranges:
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
    ranges = observed_ranges(stream.peek(SAMPLES, BYTES), fitting)
    for offsets in (True, False):
        maps = wanted_maps(ranges, readers, offsets)
        maps = {name: found for name, found in maps.items() if name not in blocked}
        pairs = {name: (found.scale, found.offset) for name, found in maps.items()}
        mapped, done = map_inputs(graph, pairs)
        if len(done) == len(maps):
            break
    if done:
        mapped = map_before(raw, mapped, {name: pairs[name] for name in done}, keep)
    return mapped, {name: maps[name] for name in done}


def open_maps(
    raw: Graph, graph: Graph, names: Sequence[str], keep: Keep | None = None
) -> tuple[Graph, dict[str, InputMap]]:
    """Maps for inputs of which there are no samples yet, and the network that expects them, whose
    layers can take others later (``take_maps``).

    They change nothing but where a normalization moves an input from far away: in a bias, float32
    would lose what is left there. raw, graph, names, keep: as of :func:`fitting_maps`.
    """
    counts = {name: graph[name].channels for name in names if graph[name].shape}
    maps = {name: InputMap(np.ones(n), _center(raw, name, n)) for name, n in counts.items() if n}
    _, blocked = readers_of_inputs(graph, list(maps))
    pairs = {
        name: (found.scale, found.offset)
        for name, found in maps.items()
        if found.offset.any() and name not in blocked
    }
    mapped, done = map_inputs(graph, pairs)
    if done:
        graph = map_before(raw, mapped, {name: pairs[name] for name in done}, keep)
    maps = {
        name: found if name in done else InputMap(found.scale, np.zeros(found.offset.shape))
        for name, found in maps.items()
    }
    readers, _ = readers_of_inputs(graph, list(maps))
    return open_readers(graph, readers), maps


def _center(raw: Graph, name: str, channels: int) -> Array:
    """(c,) what a normalization of an input takes to zero, of channels that it moves by more than
    MOVED times what it makes of their unit; 0 for others.
    """
    centers = np.zeros(channels)
    for node in raw.consumers(name):
        weights = {key: np.asarray(array, np.float64) for key, array in node.weights.items()}
        if node.kind == "affine":
            scale, offset = weights["scale"], weights["offset"]
        elif node.kind == "batchnorm":
            scale = weights.get("gamma", np.ones(()))
            scale = scale / np.sqrt(weights["variance"] + node.attrs["epsilon"])
            offset = -weights["mean"] * scale
        else:
            continue
        scale, offset = (array.reshape(-1) for array in np.broadcast_arrays(scale, offset))
        if scale.size in (1, channels):
            far = (np.abs(offset) > MOVED) & (scale != 0)
            center = np.divide(-offset, scale, out=np.zeros(scale.shape), where=far)
            centers = np.where(far, center, centers)
    return centers.astype(np.float32).astype(np.float64)


def observed_ranges(batches: Sequence[Batch], names: Sequence[str]) -> dict[str, Ranges]:
    """What the samples hold in each input."""
    found = {}
    for name in names:
        rows = [np.asarray(batch[name], np.float32) for batch in batches]
        flat = [array.reshape(-1, array.shape[-1]) for array in rows]
        low = np.min([array.min(axis=0) for array in flat], axis=0).astype(np.float64)
        high = np.max([array.max(axis=0) for array in flat], axis=0).astype(np.float64)
        found[name] = Ranges(low, high, sum(len(array) for array in flat))
    return found


def wanted_maps(
    observed: Mapping[str, Ranges], readers: Sequence[Reader], offsets: bool
) -> dict[str, InputMap]:
    """The maps that are worth it. offsets: whether there may be any.

    observed: by input, in the order in which the readers count their channels.
    """
    ranges = [_with_padding(observed[name], readers, start) for name, start in _starts(observed)]
    ranges = _alike(ranges, readers)
    middles = [_middles(found) if offsets else np.zeros(found.low.shape) for found in ranges]
    sizes = [_sizes(found, middle) for found, middle in zip(ranges, middles, strict=True)]
    scales = _scales(np.concatenate(sizes), readers)
    maps = {}
    for (name, start), middle in zip(_starts(observed), middles, strict=True):
        scale = scales[start : start + len(middle)]
        if (scale != 1).any() or middle.any():
            maps[name] = InputMap(scale, middle)
    return maps


def _alike(ranges: Sequence[Ranges], readers: Sequence[Reader]) -> list[Ranges]:
    """The ranges, the same for channels that one layer reads in several places, one by one, where
    they lie that near to each other that one map is good for all.
    """
    low = np.concatenate([found.low for found in ranges])
    high = np.concatenate([found.high for found in ranges])
    places: dict[str, list[NDArray[np.int64]]] = {}
    for reader in readers:
        if reader.node.share is not None and (reader.sources != OTHER).all():
            places.setdefault(reader.node.share, []).append(reader.sources)
    for found in places.values():
        lows, highs = np.array([low[s] for s in found]), np.array([high[s] for s in found])
        width = (highs - lows).max(axis=0)
        lowest, highest = lows.min(axis=0), highs.max(axis=0)
        if (highest - lowest <= TOGETHER * width).all():
            for sources in found:
                np.minimum.at(low, sources, lowest)
                np.maximum.at(high, sources, highest)
    ends = np.cumsum([len(found.low) for found in ranges])
    parts = zip(np.split(low, ends[:-1]), np.split(high, ends[:-1]), ranges, strict=True)
    return [Ranges(lows, highs, found.count) for lows, highs, found in parts]


def _starts(observed: Mapping[str, Ranges]) -> list[tuple[str, int]]:
    """Each input with the number of its first channel."""
    counts = [len(found.low) for found in observed.values()]
    return list(zip(observed, np.cumsum([0, *counts]).tolist(), strict=False))


def _with_padding(found: Ranges, readers: Sequence[Reader], start: int) -> Ranges:
    """The ranges with what convolutions see around the input."""
    low, high = found.low.copy(), found.high.copy()
    for reader in readers:
        own = (reader.sources >= start) & (reader.sources < start + len(low))
        if reader.outside is not None:
            np.minimum.at(low, reader.sources[own] - start, reader.outside[own])
            np.maximum.at(high, reader.sources[own] - start, reader.outside[own])
    return Ranges(low, high, found.count)


def _middles(found: Ranges) -> Array:
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


def _sizes(found: Ranges, middle: Array) -> Array:
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
    return np.asarray(np.minimum(needed, sizes.max()))
