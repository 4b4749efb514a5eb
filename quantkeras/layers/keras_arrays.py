"""keras.ops array namespaces for :func:`~quantkeras.numerics.layer.run_layer`, with gradients.

Tensors hold *values*, integers times a power of two, and so do accumulators: as a power of two
moves no mantissa bit, float arithmetic on them is exact where it is exact on the integers, and
``x << input_shift`` is nothing to do at all. The caller proves that the integers fit.

A graph compiler may turn ``1 / x`` and a division by a constant into a product with an approximate
reciprocal. So nothing here is divided but by a tensor, and no reciprocal is taken.

Rounding passes gradients straight through inside the clipping range and stops them outside
(Bengio, Leonard, Courville 2013; arXiv:1308.3432).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ..numerics.layer import LayerParams, Pads, Pool, Window

Tensor = Any

_EXPONENTS = np.arange(-126, 128)
_POWERS = np.ldexp(np.float32(1), _EXPONENTS)


def float64_available() -> bool:
    """Whether the backend computes in float64 (JAX does not unless told to)."""
    return keras.backend.backend() != "jax"


def power_of_two(exponent: Tensor) -> Tensor:
    """``2**exponent``, exact, for integers -126..127 stored in floats (values beyond are clipped).

    A table, because ``pow`` and ``exp2`` are not promised to be exact on every backend.
    """
    index = ops.cast(ops.clip(exponent, -126, 127), "int32") + 126
    return ops.take(ops.convert_to_tensor(_POWERS), index)


def power_of_two_below(x: Tensor) -> Tensor:
    """The largest power of two that is at most x, exact, for x in 2**-126..2**127."""
    flat = ops.reshape(x, (-1,))
    index = ops.searchsorted(ops.convert_to_tensor(_POWERS), flat, side="right") - 1
    found = ops.take(ops.convert_to_tensor(_POWERS), ops.maximum(index, 0))
    return ops.reshape(found, ops.shape(x))


def round_half_up(x: Tensor) -> Tensor:
    """Exact half up: ``floor(x) + (x - floor(x) >= 1/2)``; ``floor(x + 1/2)`` can round twice."""
    low = ops.floor(x)
    return low + ops.cast(x - low >= 0.5, x.dtype)


def round_through(x: Tensor, low: float, high: float) -> Tensor:
    """Round half up and saturate to low..high; the gradient is 1 inside the range, 0 outside."""

    @ops.custom_gradient
    def quantize(x: Tensor) -> tuple[Tensor, Any]:
        def grad(*args: Tensor, upstream: Tensor | None = None) -> Tensor:
            g = args[0] if upstream is None else upstream
            inside = ops.logical_and(x >= low - 0.5, x < high + 0.5)
            return g * ops.cast(inside, g.dtype)

        return ops.clip(round_half_up(x), low, high), grad

    return quantize(x)


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """x unchanged; its gradient times ``factor``."""

    @ops.custom_gradient
    def scaled(x: Tensor) -> tuple[Tensor, Any]:
        def grad(*args: Tensor, upstream: Tensor | None = None) -> Tensor:
            return (args[0] if upstream is None else upstream) * factor

        return ops.copy(x), grad

    return scaled(ops.copy(x))  # x may be a variable, which a custom gradient refuses


def ceil_through(x: Tensor) -> Tensor:
    """Round up to an integer; the gradient is 1 (Jain et al. 2020, arXiv:1903.08066, eq. 6)."""

    @ops.custom_gradient
    def ceil(x: Tensor) -> tuple[Tensor, Any]:
        def grad(*args: Tensor, upstream: Tensor | None = None) -> Tensor:
            return args[0] if upstream is None else upstream

        return ops.ceil(x), grad

    return ceil(x)


def power_of_two_through(exponent: Tensor) -> Tensor:
    """:func:`power_of_two` with the gradient of ``2**exponent``."""

    @ops.custom_gradient
    def power(exponent: Tensor) -> tuple[Tensor, Any]:
        result = power_of_two(exponent)

        def grad(*args: Tensor, upstream: Tensor | None = None) -> Tensor:
            return (args[0] if upstream is None else upstream) * result * float(np.log(2))

        return result, grad

    return power(exponent)


def rescale(acc: Tensor, multiplier: Tensor, qmin: int, qmax: int) -> Tensor:
    """``saturate(floor(acc * multiplier + 1/2))`` exactly, with gradients to both arguments.

    acc: integers times a power of two; multiplier: scalar or (c,), such that the products are
    multiples of some 2**-e. In float64 they are exact below 2**53 steps. In float32 the caller
    promises ``e <= 24 - b`` for an output of b value bits (:func:`float32_unit`): then a product
    inside the output range has at most 24 bits and is exact, as is the sum with 1/2; one outside
    may be rounded, but rounding keeps the order, so it saturates to the same end.
    """

    @ops.custom_gradient
    def saturating(acc: Tensor, multiplier: Tensor) -> tuple[Tensor, Any]:
        rounded = ops.cast(ops.floor(acc * ops.cast(multiplier, acc.dtype) + 0.5), "float32")
        # An unsigned output has no negative accumulators: one comparison is enough.
        result = ops.minimum(rounded, qmax) if qmin == 0 else ops.clip(rounded, qmin, qmax)

        def grad(*args: Tensor, upstream: Tensor | None = None) -> tuple[Tensor, Tensor]:
            g = args[0] if upstream is None else upstream
            inside = g * ops.cast(ops.equal(rounded, result), g.dtype)
            to_acc = ops.cast(inside * multiplier, acc.dtype)
            return to_acc, _sum_to(inside * ops.cast(acc, g.dtype), multiplier)

        return result, grad

    return saturating(acc, multiplier)


def float32_unit(value_bits: int) -> float:
    """The multiplier of integers must be a multiple of this for :func:`rescale` in float32."""
    return 2.0 ** (value_bits - 24)


def _sum_to(gradient: Tensor, like: Tensor) -> Tensor:
    """Sum a gradient over the axes along which ``like`` was broadcast."""
    rank = len(like.shape)
    leading = tuple(range(len(gradient.shape) - rank))
    summed = ops.sum(gradient, axis=leading) if leading else gradient
    ones = tuple(i for i, n in enumerate(like.shape) if n == 1 and summed.shape[i] != 1)
    return ops.sum(summed, axis=ones, keepdims=True) if ones else summed


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
        x, padding = self._padded(x, window, pad_value)
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
        height_stride, width_stride = window.strides
        if height_stride != width_stride:  # TensorFlow has no such kernel
            dense = Window(window.size, (1, 1), window.pads(x.shape[1:3]), window.dilation)
            result = self.depthwise_conv2d(x, weights, dense, pad_value)
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
        return ops.matmul(x, weights)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y

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
        return self._window_sum(x, pool.window) / float(pool.window.area)

    def relu(self, x: Tensor, max_value: Tensor | None) -> Tensor:
        rectified = ops.relu(x)
        return rectified if max_value is None else ops.minimum(rectified, max_value)

    def rescale(self, acc: Tensor, params: LayerParams) -> Tensor:
        return acc

    def lookup(self, y: Tensor, table: Tensor, qmin: int) -> Tensor:
        return ops.take(table, ops.cast(y, "int32") - qmin)

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

    def _window_sum(self, x: Tensor, window: Window) -> Tensor:
        """Sum under each window position: a depthwise convolution with ones."""
        ones = ops.ones((*window.size, x.shape[-1], 1), dtype=x.dtype)
        return FloatArrays.depthwise_conv2d(self, x, ones, window, None)


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

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return super().add(self._carry(x), self._carry(y))

    def relu(self, x: Tensor, max_value: Tensor | None) -> Tensor:
        return super().relu(x, None if max_value is None else self._carry(max_value))

    def sum_pool(self, x: Tensor, pool: Pool) -> Tensor:
        x = ops.cast(x, self.pool_carrier)
        if pool.window is None:
            return ops.sum(x, axis=(1, 2), keepdims=pool.keepdims)
        return self._window_sum(x, pool.window)

    def rescale(self, acc: Tensor, params: LayerParams) -> Tensor:
        if self.rescale_carrier == "float64":
            acc = ops.cast(acc, "float64")
        return rescale(acc, params.scale, params.qmin, params.qmax)

    def _carry(self, x: Tensor) -> Tensor:
        return ops.cast(x, self.carrier)
