"""Exact operations in keras.ops, with the gradients that training needs.

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

from ..errors import AccumulatorTooWide

Tensor = Any

_MANTISSA_BITS, _EXPONENT_BIAS = 23, 127  # of an IEEE float32


def float64_available() -> bool:
    """Whether the backend computes in float64 (JAX does not unless told to)."""
    return bool(keras.backend.backend() != "jax")


def check_carriers(layer: str, carriers: Sequence[str]) -> None:
    """Raises AccumulatorTooWide, naming the layer, for a carrier that the backend does not have."""
    if "float64" in carriers and not float64_available():
        backend = keras.backend.backend()
        raise AccumulatorTooWide(
            f"layer {layer!r}: its sums can reach 2**24 and more, and Keras computes in float32 on "
            f"{backend}, which is exact below that only. Run the program, convert(model).predict; "
            "use the TensorFlow or PyTorch backend (KERAS_BACKEND); or quantize the float model "
            f"anew on {backend}"
        )


# Some functions of Keras turn float64 into float32 on PyTorch. Here they keep the type that they
# are given, whatever the backend.


def _narrowed(x: Tensor) -> bool:
    wide = keras.backend.standardize_dtype(x.dtype) == "float64"
    return bool(wide and keras.backend.backend() == "torch")


def floor(x: Tensor) -> Tensor:
    """The largest integer up to x; of a float64 magnitudes below 2**63. No gradient."""
    if not _narrowed(x):
        return ops.floor(x)
    towards_zero = ops.cast(ops.cast(x, "int64"), x.dtype)
    return towards_zero - ops.cast(x < towards_zero, x.dtype)


def minimum(x: Tensor, y: Tensor) -> Tensor:
    """The smaller one, element by element."""
    return ops.where(x < y, x, y) if _narrowed(x) else ops.minimum(x, y)


def maximum(x: Tensor, y: Tensor) -> Tensor:
    """The larger one, element by element."""
    return ops.where(x > y, x, y) if _narrowed(x) else ops.maximum(x, y)


def matmul(x: Tensor, weights: Tensor) -> Tensor:
    """Product of (..., i) and (i, o)."""
    if not _narrowed(x):
        return ops.matmul(x, weights)
    return ops.einsum("...i,io->...o", x, weights)


def power_of_two(exponent: Tensor, less: int = 0) -> Tensor:
    """``2**(exponent - less)``, exact, for integers in floats; clipped to 2**-126..2**127.

    Written into the bits of the float, as ``pow`` and ``exp2`` are not promised to be exact. It
    has no gradient.
    """
    biased = ops.clip(exponent + float(_EXPONENT_BIAS - less), 1.0, 254.0)
    return ops.view(ops.cast(biased * 2.0**_MANTISSA_BITS, "int32"), "float32")


def power_of_two_below(x: Tensor) -> Tensor:
    """The largest power of two that is at most x, exact, for x in 2**-126..2**127."""
    bits = ops.view(x, "int32")
    return ops.view(ops.bitwise_and(bits, -(2**_MANTISSA_BITS)), "float32")


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
    """x unchanged; its gradient times ``factor``, 0 where that is no number.

    The inverse squares of tiny steps leave float32: such a range stays where it is.
    """

    @ops.custom_gradient
    def scaled(x: Tensor) -> tuple[Tensor, Any]:
        def grad(*args: Tensor, upstream: Tensor | None = None) -> Tensor:
            g = (args[0] if upstream is None else upstream) * factor
            return ops.where(ops.isfinite(g), g, ops.zeros_like(g))

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


def power_of_two_through(exponent: Tensor, less: int = 0) -> Tensor:
    """:func:`power_of_two` with the gradient of ``2**(exponent - less)``."""

    @ops.custom_gradient
    def power(exponent: Tensor) -> tuple[Tensor, Any]:
        result = power_of_two(exponent, less)

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
        rounded = ops.cast(floor(acc * ops.cast(multiplier, acc.dtype) + 0.5), "float32")
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


def look_up(y: Tensor, table: Tensor, qmin: int) -> Tensor:
    """``table[y - qmin]``; table (n,), or per channel (n, c). NaN stays NaN. No gradient."""
    index = ops.clip(ops.cast(y, "int32") - qmin, 0, table.shape[0] - 1)
    if len(table.shape) == 1:
        found = ops.take(table, index)
    else:
        channels = table.shape[1]
        found = ops.take(ops.reshape(table, (-1,)), index * channels + ops.arange(channels))
    return ops.where(ops.isnan(y), ops.cast(y, found.dtype), found)


def look_up_through(x: Tensor, y: Tensor, table: Tensor, slopes: Tensor, qmin: int) -> Tensor:
    """``table[y - qmin]``, with the gradient ``slopes[y - qmin]`` to x, the value of integer y."""

    @ops.custom_gradient
    def entries(x: Tensor) -> tuple[Tensor, Any]:
        del x

        def grad(*args: Tensor, upstream: Tensor | None = None) -> Tensor:
            return (args[0] if upstream is None else upstream) * look_up(y, slopes, qmin)

        return look_up(y, table, qmin), grad

    return entries(x)
