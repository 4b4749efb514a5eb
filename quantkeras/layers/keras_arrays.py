"""keras.ops array namespaces for :func:`~quantkeras.numerics.layer.run_layer`, with gradients.

Tensors hold *values*, integers times a power of two, and so do accumulators: as a power of two
moves no mantissa bit, float arithmetic on them is exact where it is exact on the integers, and
``x << input_shift`` is nothing to do at all. The caller proves that the integers fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from ..numerics.layer import LayerParams, Slices
from ..numerics.layer_windows import Pads, Pool, Window
from . import exact_ops as exact

Tensor = Any


def widen(x: Tensor, window: Window) -> Tensor:
    """Zeros between the pixels of (n, h, w, c), as the window's input_dilation asks."""
    sh, sw = window.input_dilation
    if sh == sw == 1:
        return x
    _, h, w, c = x.shape
    apart = ops.reshape(x, (-1, h, 1, w, 1, c))
    apart = ops.pad(apart, ((0, 0), (0, 0), (0, sh - 1), (0, 0), (0, sw - 1), (0, 0)))
    wide = ops.reshape(apart, (-1, h * sh, w * sw, c))
    return wide[:, : window.widened(0, h), : window.widened(1, w)]


class FloatArrays:
    """What a layer means without quantization: float weights, true averages, no rescale."""

    def align(self, x: Tensor, shift: Tensor) -> Tensor:
        """Nothing: values need no alignment."""
        del shift
        return x

    def conv2d(
        self, x: Tensor, weights: Tensor, window: Window, groups: int, pad_value: Tensor | None
    ) -> Tensor:
        del groups  # keras.ops.conv reads it off the shapes
        x, padding = self._padded(widen(x, window), window, pad_value)
        return ops.conv(
            x,
            weights,
            strides=window.strides,
            padding=padding,
            data_format="channels_last",
            dilation_rate=window.dilation,
        )

    def depthwise_conv2d(
        self, x: Tensor, weights: Tensor, window: Window, pad_value: Tensor | None
    ) -> Tensor:
        x = widen(x, window)
        height_stride, width_stride = window.strides
        if height_stride != width_stride:  # TensorFlow has no such kernel
            dense = Window(window.size, (1, 1), window.pads(x.shape[1:3]), window.dilation)
            result = FloatArrays.depthwise_conv2d(self, x, weights, dense, pad_value)
            return result[:, ::height_stride, ::width_stride]
        x, padding = self._padded(x, window, pad_value)
        return ops.depthwise_conv(
            x,
            weights,
            strides=window.strides,
            padding=padding,
            data_format="channels_last",
            dilation_rate=window.dilation,
        )

    def dense(self, x: Tensor, weights: Tensor) -> Tensor:
        return exact.matmul(x, weights)

    def elementwise(self, kind: str, x: Tensor, y: Tensor) -> Tensor:
        of_exact = {"minimum": exact.minimum, "maximum": exact.maximum}
        operation = of_exact.get(kind) or getattr(ops, kind)
        return operation(x, y)

    def add_bias(self, acc: Tensor, bias: Tensor, shift: Tensor | None) -> Tensor:
        del shift  # a bias here is already aligned
        return ops.add(acc, ops.cast(bias, acc.dtype))

    def concat(self, xs: Sequence[Tensor], axis: int) -> Tensor:
        return ops.concatenate(xs, axis=axis + 1 if axis >= 0 else axis)

    def max_pool(self, x: Tensor, window: Window) -> Tensor:
        padding = window.padding
        if not isinstance(padding, str):
            lowest = -float(np.finfo("float32").max)
            x = ops.pad(x, ((0, 0), *padding, (0, 0)), constant_values=lowest)
            padding = "valid"
        return ops.max_pool(
            x, window.size, strides=window.strides, padding=padding, data_format="channels_last"
        )

    def sum_pool(self, x: Tensor, pool: Pool) -> Tensor:
        if pool.window is None:
            return ops.mean(x, axis=(1, 2), keepdims=pool.keepdims)
        return self._window_sum(x, pool) * (1 / pool.area(x.shape[1:3]))

    def relu(self, x: Tensor, max_value: Tensor | None) -> Tensor:
        rectified = ops.relu(x)
        return rectified if max_value is None else exact.minimum(rectified, max_value)

    def rescale(self, acc: Tensor, params: LayerParams) -> Tensor:
        return acc

    def lookup(self, y: Tensor, table: Callable[[Tensor], Tensor], qmin: int) -> Tensor:
        del qmin  # the function itself stands for its table
        return table(y)

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        return ops.reshape(x, (ops.shape(x)[0], *shape))

    def permute(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        return ops.transpose(x, (0, *(d + 1 for d in dims)))

    def pad(self, x: Tensor, pads: Pads) -> Tensor:
        return ops.pad(x, ((0, 0), *pads, (0, 0)))

    def _padded(self, x: Tensor, window: Window, pad_value: Tensor | None) -> tuple[Tensor, str]:
        """Pad explicitly where the convolution itself cannot; returns the padding left for it."""
        if pad_value is None and isinstance(window.padding, str):
            return x, window.padding
        pads = window.pads(x.shape[1:3])
        if pads == ((0, 0), (0, 0)):
            return x, "valid"
        widths = ((0, 0), *pads, (0, 0))
        if pad_value is None:
            return ops.pad(x, widths), "valid"
        value = ops.cast(pad_value, x.dtype)
        return ops.pad(x - value, widths) + value, "valid"

    def slice(self, x: Tensor, slices: Slices) -> Tensor:
        return x[(slice(None), *(slice(*limits) for limits in slices))]

    def upsample(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return ops.repeat(ops.repeat(x, size[0], axis=1), size[1], axis=2)

    def _window_sum(self, x: Tensor, pool: Pool) -> Tensor:
        """Sums under the window, a depthwise convolution with ones, times the border factors."""
        assert pool.window is not None
        ones = ops.ones((*pool.window.size, x.shape[-1], 1), dtype=x.dtype)
        total = FloatArrays.depthwise_conv2d(self, x, ones, pool.window, None)
        factors = pool.border_factors(x.shape[1:3])
        return total if factors is None else total * ops.cast(factors, x.dtype)


class SimArrays(FloatArrays):
    """The integers of :class:`~quantkeras.numerics.arrays.IntArrays`, as values, carried in floats.

    ``params.weights`` are integers, ``bias`` and ``max_value`` accumulator integers times the
    accumulator's step, ``scale`` the whole multiplier from accumulator values to output integers.
    """

    def __init__(self, carrier: str, pool_carrier: str, rescale_carrier: str) -> None:
        """The types that carry the convolution or product, a pooled sum, and the rescale."""
        self.carrier = carrier
        self.pool_carrier = pool_carrier
        self.rescale_carrier = rescale_carrier

    def conv2d(
        self, x: Tensor, weights: Tensor, window: Window, groups: int, pad_value: Tensor | None
    ) -> Tensor:
        return super().conv2d(self._carry(x), self._carry(weights), window, groups, pad_value)

    def depthwise_conv2d(
        self, x: Tensor, weights: Tensor, window: Window, pad_value: Tensor | None
    ) -> Tensor:
        return super().depthwise_conv2d(self._carry(x), self._carry(weights), window, pad_value)

    def dense(self, x: Tensor, weights: Tensor) -> Tensor:
        return super().dense(self._carry(x), self._carry(weights))

    def elementwise(self, kind: str, x: Tensor, y: Tensor) -> Tensor:
        return super().elementwise(kind, self._carry(x), self._carry(y))

    def relu(self, x: Tensor, max_value: Tensor | None) -> Tensor:
        return super().relu(x, None if max_value is None else self._carry(max_value))

    def sum_pool(self, x: Tensor, pool: Pool) -> Tensor:
        x = ops.cast(x, self.pool_carrier)
        if pool.window is None:
            return ops.sum(x, axis=(1, 2), keepdims=pool.keepdims)
        return self._window_sum(x, pool)

    def lookup(self, y: Tensor, table: Tensor, qmin: int) -> Tensor:
        return exact.look_up(y, table, qmin)

    def rescale(self, acc: Tensor, params: LayerParams) -> Tensor:
        if self.rescale_carrier == "float64":
            acc = ops.cast(acc, "float64")
        return exact.rescale(acc, params.scale, params.qmin, params.qmax)

    def _carry(self, x: Tensor) -> Tensor:
        return ops.cast(x, self.carrier)


class MagnitudeArrays(FloatArrays):
    """The largest magnitudes that sums of products come to, whatever their order.

    ``params.weights`` are magnitudes, and tensors those of each channel, (c,), or of all, (1,);
    what differs by position or between groups counts with the largest. The sums are the ``partial``
    of :class:`~quantkeras.numerics.interval.Interval`, of weights that training moves.
    """

    def conv2d(
        self, x: Tensor, weights: Tensor, window: Window, groups: int, pad_value: Tensor | None
    ) -> Tensor:
        return ops.sum(weights * self._inputs(x, groups), axis=(0, 1, 2))

    def depthwise_conv2d(
        self, x: Tensor, weights: Tensor, window: Window, pad_value: Tensor | None
    ) -> Tensor:
        return ops.reshape(ops.sum(weights * self._inputs(x, 1), axis=(0, 1)), (-1,))

    def dense(self, x: Tensor, weights: Tensor) -> Tensor:
        return ops.sum(weights * self._inputs(x, 1), axis=0)

    def _inputs(self, x: Tensor, groups: int) -> Tensor:
        return ops.max(x) if len(x.shape) > 1 or groups > 1 else ops.reshape(x, (-1, 1))
