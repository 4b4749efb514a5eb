"""What each step of a hardware layer can reach: interval arithmetic along `run_layer`.

:func:`layer_bounds` follows the steps of :func:`~quantkeras.numerics.layer.run_layer` with the
intervals of ``interval.py``. Inputs are one interval per tensor (what its format can hold); the
steps inside a layer are bounded per channel, from the actual integers of the layer. Engines choose
their carriers by these bounds, and a report shows them to whoever builds the accumulator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import product

import numpy as np

from ..errors import AccumulatorTooWide, QuantizationError
from .interval import (
    Interval,
    PyInts,
    add_interval,
    carrier,
    conv_interval,
    cover_intervals,
    dense_interval,
    depthwise_interval,
    elementwise_interval,
    sum_pool_interval,
)
from .kinds import Trait
from .layer import LayerParams, LayerSpec
from .shapes import output_shape
from .windows import NO_PADS

INT64_LIMIT = 2**63


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
    hold a number exactly, and QuantizationError where a look-up table has no entry for one.
    """
    shifts = params.input_shifts or (None,) * len(inputs)
    aligned = tuple(x.shifted(s) for x, s in zip(inputs, shifts, strict=True))
    for interval in aligned:  # before anything is computed from numbers without a bound
        carrier(interval, name)
    accumulator = _accumulator(spec, params, aligned, shapes)
    total = _pooled(spec, params, accumulator, shapes)
    for interval in (accumulator, total):
        carrier(interval, name)
    output, bits = total, 0
    if params.scale is not None:
        bits = _rescale_bits(params, total, name)
        output = total.rescaled(params.scale, params.shift, params.qmin, params.qmax)
    if params.table is not None:
        output = _looked_up(params, output, name)
    return LayerBounds(aligned, accumulator, total, hull([output]), bits)


def hull(intervals: Sequence[Interval]) -> Interval:
    """The smallest interval () around all channels of all of them."""
    lowest = min(int(x.lo.min()) for x in intervals)
    return Interval(lowest, max(int(x.hi.max()) for x in intervals))


def _looked_up(params: LayerParams, entering: Interval, name: str) -> Interval:
    """All entries of the table: what reaches it is what a rescale saturates to, mostly all."""
    found = hull([entering])
    if found.lo < params.qmin or found.hi > params.qmax:
        raise QuantizationError(
            f"layer {name!r}: integers in [{found.lo}, {found.hi}] enter a table for "
            f"{params.qmin} .. {params.qmax}; give it a rescale that saturates"
        )
    table = np.asarray(params.table)
    return Interval(int(table.min()), int(table.max()))


def _accumulator(
    spec: LayerSpec,
    params: LayerParams,
    aligned: Sequence[Interval],
    shapes: Sequence[tuple[int, ...]],
) -> Interval:
    x, bias, shift = aligned[0], params.bias, params.bias_shift
    if Trait.WINDOWED in spec.traits:
        return _convolved(spec, params, x, shapes[0])
    if spec.kind == "dense":
        return dense_interval(_per_channel(x, shapes[0]), params.weights, bias, shift)
    if spec.kind == "add":
        return add_interval(aligned, bias, shift)
    if Trait.ELEMENTWISE in spec.traits:
        found = reduce(partial(elementwise_interval, spec.kind), aligned)
        return add_interval([found], bias, shift)
    moved = hull(aligned) if Trait.MIXES in spec.traits else x
    if spec.kind == "pad" and spec.pads != NO_PADS:
        moved = moved.including(0)
    return add_interval([moved], bias, shift)


def _convolved(
    spec: LayerSpec, params: LayerParams, x: Interval, shape: tuple[int, ...]
) -> Interval:
    """Of a convolution or depthwise one. Where the input is widened by zeros, an output position
    sees pixels through some taps of the kernel only; the rest of the kernel adds zeros.
    """
    assert spec.window is not None
    each, kernels = _per_channel(x, shape), [np.asarray(params.weights)]
    padding = None if spec.window.pads(shape[:2]) == NO_PADS else 0
    if params.pad_value is None:
        groups = (spec.window.tap_groups(axis) for axis in (0, 1))
        kernels = [kernels[0][rows, columns] for rows, columns in product(*groups)]
    else:
        padding = None if padding is None else params.pad_value
        each = each if spec.window.input_dilation == (1, 1) else each.including(0)
    step: Callable[..., Interval] = depthwise_interval
    if spec.kind == "conv2d":
        step = partial(conv_interval, groups=spec.groups)
    found = [
        step(each, kernel, params.bias, params.bias_shift, pad_value=padding) for kernel in kernels
    ]
    return cover_intervals(found)


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
    return sum_pool_interval(result, spec.pool_area(size))


def _map_size(spec: LayerSpec, shapes: Sequence[tuple[int, ...]]) -> tuple[int, int]:
    """Height and width of the map that the pooling at the end of a layer sees."""
    height, width = output_shape(replace(spec, pool=None), shapes, None)[:2]
    assert height is not None and width is not None
    return height, width


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
