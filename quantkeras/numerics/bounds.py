"""What each step of a hardware layer can reach: interval arithmetic along `run_layer`.

:func:`layer_bounds` follows the steps of :func:`~quantkeras.numerics.layer.run_layer` with the
intervals of ``interval.py``. Inputs are one interval per tensor (what its format can hold); the
steps inside a layer are bounded per channel, from the actual integers of the layer. Engines choose
their carriers by these bounds, and a report shows them to whoever builds the accumulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from ..errors import AccumulatorTooWide
from .interval import (
    Interval,
    PyInts,
    add_interval,
    carrier,
    conv_interval,
    dense_interval,
    depthwise_interval,
    sum_pool_interval,
)
from .layer import LayerParams, LayerSpec, Pads, Window, output_shape

INT64_LIMIT = 2**63

MOVING = ("concat", "flatten", "reshape", "permute")
"""Kinds that mix positions, so that a bound per channel does not keep its place."""

NO_PADS: Pads = ((0, 0), (0, 0))


@dataclass(frozen=True)
class LayerBounds:
    """Intervals of the steps of one layer, per channel or for the whole tensor.

    inputs: after alignment, one for the tensor or per channel. accumulator: core plus bias, with
    its partial sums. total: after pooling and ReLU, what the rescale starts from. output: what
    leaves the layer, one interval for the whole tensor. rescale_bits: the bits of magnitude that
    ``|acc * scale| + 2**(shift - 1)`` takes, 0 without a rescale.
    """

    inputs: tuple[Interval, ...]
    accumulator: Interval
    total: Interval
    output: Interval
    rescale_bits: int = 0

    @property
    def peak(self) -> int:
        """The largest magnitude formed up to the bias: inputs, products and all partial sums."""
        return max(int(x.partial.max()) for x in (*self.inputs, self.accumulator))

    @property
    def total_peak(self) -> int:
        """The largest magnitude of an average pooling's sums, or of what needs no sum."""
        return int(self.total.partial.max())


def layer_bounds(
    spec: LayerSpec,
    params: LayerParams,
    inputs: Sequence[Interval],
    shapes: Sequence[tuple[int, ...]],
    name: str,
) -> LayerBounds:
    """Bounds of one layer.

    inputs: interval () of each input tensor; shapes: their unbatched shapes. Raises
    AccumulatorTooWide, naming the layer, where a float64 or the 64 bits of the rescale would not
    hold a number exactly.
    """
    shifts = params.input_shifts or (None,) * len(inputs)
    aligned = tuple(x.shifted(s) for x, s in zip(inputs, shifts, strict=True))
    accumulator = _accumulator(spec, params, aligned, shapes)
    total = _pooled(spec, params, accumulator, shapes)
    for interval in (*aligned, accumulator, total):
        carrier(interval, name)
    output, bits = total, 0
    if params.scale is not None:
        bits = _rescale_bits(params, total, name)
        output = total.rescaled(params.scale, params.shift, params.qmin, params.qmax)
    if params.table is not None:
        table = np.asarray(params.table)
        output = Interval(int(table.min()), int(table.max()))
    return LayerBounds(aligned, accumulator, total, hull([output]), bits)


def hull(intervals: Sequence[Interval]) -> Interval:
    """The smallest interval () around all channels of all of them."""
    lowest = min(int(x.lo.min()) for x in intervals)
    return Interval(lowest, max(int(x.hi.max()) for x in intervals))


def _accumulator(
    spec: LayerSpec,
    params: LayerParams,
    aligned: Sequence[Interval],
    shapes: Sequence[tuple[int, ...]],
) -> Interval:
    x, bias, shift = aligned[0], params.bias, params.bias_shift
    if spec.kind in ("conv2d", "depthwise_conv2d"):
        assert spec.window is not None
        padding = _pad_value(spec.window, params.pad_value, shapes[0])
        each = _per_channel(x, shapes[0])
        if spec.kind == "conv2d":
            return conv_interval(
                each, params.weights, bias, shift, groups=spec.groups, pad_value=padding
            )
        return depthwise_interval(each, params.weights, bias, shift, pad_value=padding)
    if spec.kind == "dense":
        return dense_interval(_per_channel(x, shapes[0]), params.weights, bias, shift)
    if spec.kind == "add":
        return add_interval(aligned, bias, shift)
    moved = hull(aligned) if spec.kind in MOVING else x
    if spec.kind == "pad" and spec.pads != NO_PADS:
        moved = moved.including(0)
    return add_interval([moved], bias, shift)


def _pooled(
    spec: LayerSpec,
    params: LayerParams,
    accumulator: Interval,
    shapes: Sequence[tuple[int, ...]],
) -> Interval:
    """After ReLU and pooling. A max pool never leaves the interval of its inputs."""
    result = Interval(accumulator.lo, accumulator.hi)
    if spec.relu:
        result = result.relu(params.max_value)
    if spec.pool is None or spec.pool.kind == "max":
        return result
    size = _map_size(spec, shapes)
    window = spec.pool.window
    padded = window is not None and window.pads(size) != NO_PADS
    return sum_pool_interval(result, spec.pool_area(size), padded)


def _map_size(spec: LayerSpec, shapes: Sequence[tuple[int, ...]]) -> tuple[int, int]:
    """Height and width of the map that the pooling at the end of a layer sees."""
    height, width = output_shape(replace(spec, pool=None), shapes, None)[:2]
    assert height is not None and width is not None
    return height, width


def _pad_value(window: Window, value: ArrayLike | None, shape: tuple[int, ...]) -> ArrayLike | None:
    """What stands around the input, or None where nothing does."""
    if window.pads(shape[:2]) == NO_PADS:
        return None
    return 0 if value is None else value


def _per_channel(x: Interval, shape: tuple[int, ...]) -> Interval:
    """One interval per input channel, the hull over the positions; () stays ()."""
    if x.lo.ndim == 0:
        return x
    channels = shape[-1]
    lo, hi = (_spread(end, channels) for end in (x.lo, x.hi))
    return Interval(lo.min(axis=0), hi.max(axis=0))


def _spread(end: PyInts, channels: int) -> PyInts:
    """Broadcast the last axis to all channels and merge the positions: (positions, channels)."""
    return np.broadcast_to(end, (*end.shape[:-1], channels)).reshape(-1, channels)


def _rescale_bits(params: LayerParams, total: Interval, name: str) -> int:
    """Bits of ``|acc * scale| + 2**(shift-1)``; refuses what int64 itself could not hold."""
    product = total.times(params.scale).largest
    shift = np.asarray(params.shift, dtype=object)
    moved = int(np.max(product << np.maximum(-shift, 0)))
    if moved >= INT64_LIMIT:
        raise AccumulatorTooWide(
            f"layer {name!r}: accumulator times scale reaches {moved:.3g}, beyond 64 bits; "
            "use fewer scale bits or a coarser output format"
        )
    half = np.where(shift > 0, 1 << np.maximum(shift - 1, 0), 0)
    return (int(np.max(product + half)) - 1).bit_length()
