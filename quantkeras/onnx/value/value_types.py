"""Number types of QuantizeLinear, and how steps are laid along the axes of a tensor.

A format of any width goes into the smallest type that holds it: 4, 8 or 16 bits, signed or not.
Formats wider than 16 bits have none; such tensors stay float32.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ..layer_builder import Shape, Tensor

Floats = npt.NDArray[np.float64]

TYPES: tuple[tuple[int, npt.DTypeLike, npt.DTypeLike], ...] = (
    (4, ml_dtypes.int4, ml_dtypes.uint4),
    (8, np.int8, np.uint8),
    (16, np.int16, np.uint16),
)
"""(bits, signed type, unsigned type), narrow ones first."""

OPSET = 13
"""The first with QuantizeLinear along an axis, for 8 bits."""
MIDDLE = 128
"""Zero point of signed integers in unsigned bytes."""
WIDE_OPSET = 21
"""The first with QuantizeLinear of 4 and 16 bits."""


class Limits(NamedTuple):
    """The integers that a tensor may hold."""

    low: int
    high: int

    def cover(self, others: Limits) -> bool:
        """Whether the others are among these."""
        return self.low <= others.low and others.high <= self.high


class Container(NamedTuple):
    """A type of QuantizeLinear and the integers it holds, with the zero point added."""

    dtype: Any
    low: int
    high: int
    zero: int = 0

    @property
    def opset(self) -> int:
        """The operator set it takes."""
        return OPSET if self.dtype in (np.int8, np.uint8) else WIDE_OPSET

    def holds_exactly(self, limits: Limits) -> bool:
        """Whether the type saturates where the format does."""
        return (self.low, self.high) == tuple(limits)


def container(limits: Limits, fewest: int = 4, unsigned_bytes: bool = False) -> Container | None:
    """The smallest type for integers within limits; None beyond 16 bits.

    fewest: bits of the smallest type to choose from. unsigned_bytes: signed bytes are stored with
    the zero point 128.
    """
    for bits, signed, unsigned in TYPES:
        low, high = (
            (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if limits.low < 0 else (0, 2**bits - 1)
        )
        if bits >= fewest and low <= limits.low and limits.high <= high:
            if limits.low < 0 and bits == 8 and unsigned_bytes:
                return Container(np.dtype(np.uint8), low, high, MIDDLE)
            return Container(np.dtype(signed if limits.low < 0 else unsigned), low, high)
    return None


def zero_point(dtype: npt.DTypeLike, limits: Limits | None) -> int:
    """What has been added to the integers of a stored tensor."""
    return MIDDLE if np.dtype(dtype) == np.uint8 and limits is not None and limits.low < 0 else 0


class AxisSteps(NamedTuple):
    """Steps of a tensor as QuantizeLinear takes them: one number, or one per index of an axis.

    axis: of the stored tensor, batch included; None for one number.
    """

    steps: Floats
    axis: int | None


def axis_steps(step: npt.ArrayLike, shape: Shape) -> AxisSteps | None:
    """The steps of a tensor of that unbatched shape; None if they vary along several axes.

    step: broadcastable to shape.
    """
    array = np.asarray(step, np.float64)
    if (array == array.reshape(-1)[0]).all():
        return AxisSteps(array.reshape(-1)[0], None)
    full = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    varying = [axis for axis, size in enumerate(full.shape) if size > 1]
    for axis in range(len(shape)):
        line = np.moveaxis(full, axis, 0).reshape(full.shape[axis], -1)
        if axis in varying and (line == line[:, :1]).all():
            placed = Tensor("", np.float32, shape).stored_axis(axis)
            return AxisSteps(line[:, 0], placed + 1)
    return None


def uniform(step: npt.ArrayLike) -> float | None:
    """The one step of a tensor, None if there are several."""
    array = np.asarray(step, np.float64).reshape(-1)
    return float(array[0]) if (array == array[0]).all() else None
