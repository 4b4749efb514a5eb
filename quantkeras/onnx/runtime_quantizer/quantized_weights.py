"""Constants of a model as integers, with one scale per tensor or per channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .number_types import SMALLEST_SCALE, NumberType


@dataclass(frozen=True)
class WeightFormat:
    """How weights become integers.

    per_channel: one scale per output channel; they are symmetric then. symmetric: the zero point
    is 0, or 128 of an unsigned type. reduce_range: one bit less, for processors whose 8-bit
    products saturate at 16 bits.
    """

    kind: NumberType
    per_channel: bool = False
    symmetric: bool = True
    reduce_range: bool = False


@dataclass(frozen=True, eq=False)
class QuantizedWeights:
    """values = scale * (integers - zero_point).

    scale: float32 of shape () or (channels,), along `axis`. zero_point: one for the tensor.
    """

    integers: NDArray[Any]
    scale: NDArray[np.float32]
    zero_point: np.integer[Any]
    axis: int | None


def quantize_weights(
    array: NDArray[Any], form: WeightFormat, axis: int | None = None
) -> QuantizedWeights:
    """Rounded half up. axis: that of the channels, if there are any."""
    kind, values = form.kind, array.astype(np.float64)
    channels = axis if form.per_channel else None
    bits = kind.bits - form.reduce_range
    if form.symmetric or channels is not None:
        top, zero = 2 ** (bits - 1) - 1, 0 if kind.signed else 2 ** (kind.bits - 1)
        others = tuple(a for a in range(values.ndim) if channels is None or a != channels)
        reach = np.abs(values).max(axis=others, initial=0.0)
        scale = np.where(reach > 0, np.maximum(reach / top, SMALLEST_SCALE), 1.0)
        low, high = zero - top, zero + top
    else:
        narrow = NumberType(bits, kind.signed)
        params = narrow.params(values.min(initial=0.0), values.max(initial=0.0))
        scale, zero = np.asarray(params.scale, np.float64), int(params.zero_point)
        low, high = narrow.qmin, narrow.qmax
    scale = scale.astype(np.float32)
    wide = scale.astype(np.float64)
    if channels is not None:
        wide = wide.reshape([-1 if a == channels else 1 for a in range(values.ndim)])
    integers = np.clip(np.floor(values / wide + 0.5) + zero, low, high).astype(kind.dtype)
    return QuantizedWeights(integers, scale, kind.dtype.type(zero), channels)
