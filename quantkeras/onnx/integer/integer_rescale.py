"""The rescale of a hardware layer in the integer operators of ONNX.

    y = saturate((acc * scale + 2**(shift-1)) >> shift)                                          (1)

ONNX shifts unsigned integers only, and its division of integers drops what is behind the point, as
the shift does, only while nothing is negative. So an offset keeps the dividend from being negative:

    y = (acc' * factor + addend) / divisor - offset,   addend = 2**(shift-1) + offset * divisor  (2)

with ``acc'`` the accumulator clipped to the range in which y is not saturated yet: nothing is
saturated afterwards, and products mostly stay within 32 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import AccumulatorTooWide
from ...numerics.interval import Interval
from ...numerics.layer import LayerParams
from ..layer_builder import LayerBuilder, Tensor

PyInts = npt.NDArray[np.object_]

INT32_LIMIT, INT64_LIMIT = 2**31, 2**63


@dataclass(frozen=True, eq=False)
class Rescale:
    """The numbers of equation (2), of the common shape of accumulator bounds, scale and shift.

    low, high: clip the accumulator first. saturates: y needs a clip, too, as one step of the
    accumulator is several of y. largest: magnitude of everything formed after the first clip.
    """

    low: PyInts
    high: PyInts
    factor: PyInts
    addend: PyInts
    divisor: PyInts
    offset: PyInts
    saturates: bool
    largest: int


def rescale_numbers(params: LayerParams, total: Interval, layer: str) -> Rescale:
    """Equation (2) for accumulators within `total`.

    Raises AccumulatorTooWide, naming the layer, where 64 bits do not hold the dividend.
    """
    scale, shift, low, high = np.broadcast_arrays(
        _exact(params.scale), _exact(params.shift), *_per_channel(total)
    )
    scale, shift = scale << np.maximum(-shift, 0), np.maximum(shift, 0)
    half = (1 << shift) >> 1

    def rescaled(acc: PyInts) -> PyInts:
        quotient: PyInts = (acc * scale + half) >> shift
        return quotient

    # What does not depend on the accumulator is a constant: shifts beyond 62 end here.
    constant = np.clip(rescaled(low), params.qmin, params.qmax)
    fixed = rescaled(low) == rescaled(high)
    # The accumulators nearest to zero that reach the ends of the range, or pass them.
    step = np.where(fixed, 1, scale)
    top = -((half - (params.qmax << shift)) // step)
    bottom = (((params.qmin + 1) << shift) - half - 1) // step
    first = np.where(fixed, low, np.maximum(low, np.minimum(bottom, high)))
    last = np.where(fixed, high, np.minimum(high, np.maximum(top, low)))
    lowest = np.where(fixed, constant, rescaled(first))
    highest = np.where(fixed, constant, rescaled(last))
    offset = np.maximum(-lowest, 0)
    factor = np.where(fixed, 0, scale)
    divisor = np.where(fixed, 1, 1 << shift)
    addend = np.where(fixed, constant + offset, half + offset * divisor)
    numbers = np.stack(
        [first, last, first * factor, last * factor, addend, last * factor + addend, divisor]
    )
    largest = int(abs(numbers).max())
    if largest >= INT64_LIMIT:
        raise AccumulatorTooWide(
            f"layer {layer!r}: its rescale forms numbers of {largest.bit_length() + 1} bits, and "
            "ONNX has integers of 64; use fewer scale bits or a coarser output format"
        )
    saturates = bool((lowest < params.qmin).any() or (highest > params.qmax).any())
    return Rescale(first, last, factor, addend, divisor, offset, saturates, largest)


def emit_rescale(
    builder: LayerBuilder, acc: Tensor, params: LayerParams, total: Interval, layer: str
) -> Tensor:
    """Nodes of equation (2) for an accumulator of int32 or int64; the result is of one of them."""
    numbers = rescale_numbers(params, total, layer)
    x = acc
    lowest, highest = _per_channel(total)
    if (numbers.low > lowest).any():
        x = builder.operate("Max", x, _compact(numbers.low))
    if (numbers.high < highest).any():
        x = builder.operate("Min", x, _compact(numbers.high))
    x = builder.cast(x, np.int32 if numbers.largest < INT32_LIMIT else np.int64)
    if (numbers.factor != 1).any():
        x = builder.operate("Mul", x, _compact(numbers.factor))
    if numbers.addend.any():
        x = builder.operate("Add", x, _compact(numbers.addend))
    if (numbers.divisor != 1).any():
        x = builder.operate("Div", x, _compact(numbers.divisor))
    if numbers.offset.any():
        x = builder.operate("Sub", x, _compact(numbers.offset))
    if numbers.saturates:
        x = builder.operate("Min", builder.operate("Max", x, params.qmin), params.qmax)
    return x


def _per_channel(total: Interval) -> tuple[PyInts, PyInts]:
    """Limits () or (channels,); positions are merged."""
    places = tuple(range(total.lo.ndim - 1))
    return total.lo.min(axis=places), total.hi.max(axis=places)


def _exact(values: Any) -> PyInts:
    """As Python integers, which do not overflow."""
    return np.asarray(values).astype(object)


def _compact(values: PyInts) -> npt.NDArray[np.int64]:
    """One number where all are equal."""
    integers = values.astype(np.int64)
    return integers.reshape(-1)[0] if (integers == integers.reshape(-1)[0]).all() else integers
