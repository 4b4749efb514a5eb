"""What each step of a hardware layer can reach.

:class:`IntervalArrays` is the array namespace of :func:`~quantkeras.numerics.layer.run_layer` whose
tensors are intervals (``interval.py``), so a bound follows the steps of a layer by construction.
Inputs are one interval per tensor (what its format can hold); the steps inside a layer are bounded
per channel, from the actual integers of the layer. Engines choose their carriers by these bounds,
and a report shows them to whoever builds the accumulator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from ..errors import AccumulatorTooWide, QuantizationError
from .carry import carry
from .interval import (
    Interval,
    carrier,
    conv_interval,
    cover_intervals,
    depthwise_interval,
    elementwise_interval,
    join_intervals,
)
from .layer import LayerParams, LayerSpec, Slices, run_layer
from .layer_shapes import Shape, ShapeArrays, output_shape
from .layer_windows import NO_PADS, Pads, Pool, Window

INT64_LIMIT = 2**63


@dataclass(frozen=True)
class LayerBounds:
    """Intervals of the steps of one layer, per channel or for the whole tensor.

    Attributes:
        inputs: after alignment, one for the tensor or per channel.
        accumulator: core plus bias, with its partial sums.
        total: after pooling and ReLU, what the rescale starts from.
        output: what leaves the layer, one interval for the whole tensor.
        rescale_bits: the bits of magnitude that ``|acc * scale| + 2**(shift - 1)`` takes, 0 without
            a rescale.
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
        return int(self.total.largest.max())


class Bounded(NamedTuple):
    """A tensor of this namespace: its interval, per tensor, channel or element, and its unbatched
    shape.
    """

    interval: Interval
    shape: tuple[Any, ...]

    def by_channel(self) -> Interval:
        """One interval per channel, around those of all positions; per tensor if it is so."""
        x = self.interval
        if x.lo.ndim == 0:
            return x
        ends = (np.broadcast_to(end, (*end.shape[:-1], self.shape[-1])) for end in (x.lo, x.hi))
        low, high = (end.reshape(-1, self.shape[-1]) for end in ends)
        return Interval(low.min(axis=0), high.max(axis=0))


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
    stages: dict[str, list[Interval]] = {}

    def note(stage: str, tensors: Sequence[Bounded]) -> None:
        stages[stage] = [x.interval for x in tensors]
        for interval in stages[stage]:  # before anything is computed from numbers without a bound
            carrier(interval, name)

    arrays = IntervalArrays(name, shapes)
    read = [Bounded(x, tuple(shape)) for x, shape in zip(inputs, shapes, strict=True)]
    output = run_layer(spec, params, read, arrays, note)
    (accumulator,), (total,) = stages["accumulator"], stages["total"]
    aligned = tuple(stages["inputs"])
    return LayerBounds(aligned, accumulator, total, hull(output.interval), arrays.rescale_bits)


def hull(x: Interval) -> Interval:
    """The smallest interval () around all elements."""
    return Interval(int(x.lo.min()), int(x.hi.max()))


class IntervalArrays:
    """Tensors are intervals.

    layer: its name, for errors; inputs: unbatched shapes of what it reads. rescale_bits: of what
    the rescale has formed, see :class:`LayerBounds`.
    """

    def __init__(self, layer: str, inputs: Sequence[Shape]) -> None:
        self._layer = layer
        self._shapes = ShapeArrays(inputs)
        self.rescale_bits = 0

    def align(self, x: Bounded, shift: Any) -> Bounded:
        return x._replace(interval=x.interval.shifted(shift))

    def conv2d(
        self, x: Bounded, weights: Any, window: Window, groups: int, pad_value: Any
    ) -> Bounded:
        step = partial(conv_interval, groups=groups)
        return self._convolved(step, x, weights, window, pad_value)

    def depthwise_conv2d(self, x: Bounded, weights: Any, window: Window, pad_value: Any) -> Bounded:
        return self._convolved(depthwise_interval, x, weights, window, pad_value)

    def dense(self, x: Bounded, weights: Any) -> Bounded:
        sums = conv_interval(x.by_channel(), np.asarray(weights)[None, None])
        return Bounded(sums, self._shapes.dense(x.shape, weights.shape[1]))

    def elementwise(self, kind: str, x: Bounded, y: Bounded) -> Bounded:
        found = elementwise_interval(kind, x.interval, y.interval)
        return Bounded(found, self._shapes.elementwise(kind, x.shape, y.shape))

    def add_bias(self, acc: Bounded, bias: Any, shift: Any) -> Bounded:
        return acc._replace(interval=acc.interval.plus(bias, shift))

    def concat(self, xs: Sequence[Bounded], axis: int) -> Bounded:
        shape = self._shapes.concat([x.shape for x in xs], axis)
        each = [x.by_channel() for x in xs]
        if axis in (-1, len(shape) - 1):
            return Bounded(join_intervals(each, [x.shape[-1] for x in xs]), shape)
        return Bounded(cover_intervals(each), shape)

    def max_pool(self, x: Bounded, window: Window) -> Bounded:
        """A maximum never leaves the interval of what it is taken of."""
        return Bounded(x.by_channel(), self._shapes.max_pool(x.shape, window))

    def sum_pool(self, x: Bounded, pool: Pool) -> Bounded:
        sums = x.by_channel().times(pool.area(x.shape[:2]))
        return Bounded(sums, self._shapes.sum_pool(x.shape, pool))

    def relu(self, x: Bounded, max_value: Any) -> Bounded:
        return x._replace(interval=x.interval.relu(max_value))

    def rescale(self, acc: Bounded, params: LayerParams) -> Bounded:
        self.rescale_bits = _rescale_bits(params, acc.interval, self._layer)
        found = acc.interval.rescaled(params.scale, params.shift, params.qmin, params.qmax)
        return acc._replace(interval=found)

    def lookup(self, y: Bounded, table: Any, qmin: int) -> Bounded:
        """All entries of the table: what reaches it is what a rescale saturates to, mostly all."""
        entering, entries = hull(y.interval), np.asarray(table)
        qmax = qmin + len(entries) - 1
        if entering.lo < qmin or entering.hi > qmax:
            raise QuantizationError(
                f"layer {self._layer!r}: integers in [{entering.lo}, {entering.hi}] enter a table "
                f"for {qmin} .. {qmax}; give it a rescale that saturates"
            )
        return y._replace(interval=Interval(int(entries.min()), int(entries.max())))

    # -- movements ---------------------------------------------------------------------------

    def reshape(self, x: Bounded, shape: tuple[int, ...]) -> Bounded:
        return _moved(x, LayerSpec("reshape", shape=shape))

    def permute(self, x: Bounded, dims: tuple[int, ...]) -> Bounded:
        return _moved(x, LayerSpec("permute", dims=dims))

    def pad(self, x: Bounded, pads: Pads) -> Bounded:
        moved = _moved(x, LayerSpec("pad", pads=pads))
        return moved if pads == NO_PADS else moved._replace(interval=moved.interval.including(0))

    def slice(self, x: Bounded, slices: Slices) -> Bounded:
        return _moved(x, LayerSpec("slice", slices=slices))

    def upsample(self, x: Bounded, size: tuple[int, int]) -> Bounded:
        return _moved(x, LayerSpec("upsample", size=size))

    # -- parts -------------------------------------------------------------------------------

    def _convolved(
        self,
        step: Callable[..., Interval],
        x: Bounded,
        weights: Any,
        window: Window,
        pad_value: Any,
    ) -> Bounded:
        """Where the input is widened by zeros, an output position sees pixels through some taps of
        the kernel only; the rest of the kernel adds zeros.
        """
        each, kernels = x.by_channel(), [np.asarray(weights)]
        padding = None if window.pads(x.shape[:2]) == NO_PADS else 0
        if pad_value is None:
            groups = (window.tap_groups(axis) for axis in (0, 1))
            kernels = [kernels[0][rows, columns] for rows, columns in product(*groups)]
        else:
            padding = None if padding is None else pad_value
            each = each if window.input_dilation == (1, 1) else each.including(0)
        found = cover_intervals([step(each, kernel, pad_value=padding) for kernel in kernels])
        return Bounded(found, self._shapes.conv2d(x.shape, found.lo.size, window, 1, None))


def _moved(x: Bounded, movement: LayerSpec) -> Bounded:
    ends = (carry(end, movement, x.shape) for end in (x.interval.lo, x.interval.hi))
    return Bounded(Interval(*ends), output_shape(movement, [x.shape], None))


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
