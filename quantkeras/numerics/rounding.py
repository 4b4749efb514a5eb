"""Rounding, shifting and saturating: the only place where numbers lose bits.

One rule everywhere: **half up**, round(x) = floor(x + 1/2) taken in exact arithmetic on the number
that is stored. Ties go toward +infinity, for negative numbers too:

    x            -2.5  -1.5  -0.5   0.49999999999999994   0.5   1.5   2.5
    half up        -2    -1     0                     0     1     2     3

Evaluating `floor(x + 0.5)` in floating point is *not* that rule, since the sum itself rounds: it
gives 1 for 0.49999999999999994 and moves odd numbers above 2**52. The float version here never
forms the sum, and the integer version never forms `v + 2**(n-1)`, so neither can overflow.

Integers are int64 and are carried exactly or refused; floats must be finite.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import IntegerOverflow, NonFiniteError, QuantizationError

Ints = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]

INT64_MAX = 2**63 - 1
LARGEST_SHIFT = 63
"""Arithmetic shifts of 64 and more are undefined in C, hence in NumPy."""


def as_int64(values: ArrayLike, what: str = "values") -> Ints:
    """Returns `values` as int64. Raises TypeError unless they are integers or booleans, and
    IntegerOverflow where one does not fit. `what` names them in the message.
    """
    array = np.asarray(values)
    if array.dtype.kind == "u" and array.size and int(array.max()) > INT64_MAX:
        raise IntegerOverflow(f"{what} reach {int(array.max())}, above 2**63 - 1")
    if array.dtype.kind not in "iub":
        raise TypeError(f"{what} must be integers, not {array.dtype}")
    return array.astype(np.int64, copy=False)


def as_finite(values: ArrayLike, what: str = "values") -> Floats:
    """Returns `values` as floats: float32 and float64 are kept, the rest becomes float64. Raises
    NonFiniteError if there is a NaN or an infinity.
    """
    array = np.asarray(values)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    # The sum of finite numbers may overflow, a non-finite one always shows: one cheap pass
    # clears the usual case, and only a doubtful one is looked at element by element.
    with np.errstate(over="ignore", invalid="ignore"):
        doubtful = not np.isfinite(array.sum())
    if doubtful and not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise NonFiniteError(f"{what} hold {count} NaN or infinite elements of {array.size}")
    return array


def round_half_up(x: ArrayLike) -> Floats:
    """Round floats to the nearest integer, ties toward +infinity.

    Exact for every finite float: `x - floor(x)` is exact in floating point except for
    -1/2 < x < 0, where it rounds monotonically to a number >= 1/2, which is the right side.

    Args:
        x: finite floats of any shape.

    Returns:
        Whole numbers of the same shape and float dtype.

    Raises:
        NonFiniteError: for NaN and infinity.
    """
    values = as_finite(x)
    below = np.floor(values)
    return np.asarray(below + (values - below >= 0.5))


def shift_round(v: ArrayLike, n: ArrayLike) -> Ints:
    """Compute v * 2**-n on integers, rounded half up.

    (v + 2**(n-1)) >> n for n > 0, and the exact v << -n for n <= 0.

    Args:
        v: int64 of any shape.
        n: integer or integers broadcastable against v, any size (a right shift of 64 and more gives
            0).

    Returns:
        Int64 of the broadcast shape.

    Raises:
        IntegerOverflow: if a left shift leaves the 64 bits.
        TypeError: for what is no integer.
    """
    values, shift = as_int64(v, "shifted values"), as_int64(n, "shifts")
    if shift.size == 0 or values.size == 0:
        return np.zeros(np.broadcast_shapes(values.shape, shift.shape), np.int64)
    lowest, highest = int(shift.min()), int(shift.max())
    if lowest > 0:
        return _shift_right(values, shift, highest)
    if highest <= 0:
        return _shift_left(values, -shift, -lowest)
    right = shift > 0
    moved_right = _shift_right(values, np.where(right, shift, 1), highest)
    # Where the shift is to the right, 0 is shifted left instead: it cannot overflow.
    moved_left = _shift_left(np.where(right, 0, values), np.where(right, 0, -shift), -lowest)
    return np.where(right, moved_right, moved_left)


def _shift_right(values: Ints, shift: Ints, highest: int) -> Ints:
    """Half-up right shift, 1 <= shift: the bit just below the cut is what 2**(n-1) would carry."""
    if highest <= LARGEST_SHIFT:
        return np.asarray((values >> shift) + ((values >> (shift - 1)) & 1))
    nearest = _shift_right(values, np.minimum(shift, LARGEST_SHIFT), LARGEST_SHIFT)
    return np.where(shift > LARGEST_SHIFT, 0, nearest)


def _shift_left(values: Ints, shift: Ints, highest: int) -> Ints:
    """Exact left shift, 0 <= shift; the way back must find the same numbers."""
    count = np.minimum(shift, LARGEST_SHIFT)
    moved = np.asarray(values << count)
    if ((moved >> count) != values).any() or ((shift > LARGEST_SHIFT) & (values != 0)).any():
        raise IntegerOverflow(
            f"values in [{int(values.min())}, {int(values.max())}] shifted left by up to {highest} "
            "bits leave the 64-bit range"
        )
    return moved


def saturate(v: ArrayLike, lo: ArrayLike, hi: ArrayLike) -> Ints:
    """Clip integers to [lo, hi], both inclusive.

    Args:
        v: integers of any shape.
        lo: lower limits, broadcastable.
        hi: upper limits, broadcastable.

    Returns:
        Int64 of the broadcast shape.

    Raises:
        QuantizationError: where lo > hi.
        TypeError: for what is no integer.
    """
    values, low, high = as_int64(v), as_int64(lo, "lower limits"), as_int64(hi, "upper limits")
    if (low > high).any():
        raise QuantizationError(f"empty range: [{low}, {high}]")
    return np.asarray(np.minimum(np.maximum(values, low), high))


def pow2(n: ArrayLike) -> NDArray[np.float64]:
    """Compute 2**n exactly as float64.

    Args:
        n: integers, -1022 <= n <= 1023 (normal numbers only).

    Returns:
        Float64 of the same shape.

    Raises:
        QuantizationError: for other exponents.
        TypeError: for what is no integer.
    """
    exponent = as_int64(n, "exponents")
    if exponent.size and (exponent.min() < -1022 or exponent.max() > 1023):
        raise QuantizationError(
            f"2**n needs -1022 <= n <= 1023, got [{exponent.min()}, {exponent.max()}]"
        )
    return np.asarray(np.ldexp(np.float64(1.0), exponent))


def ceil_log2(x: ArrayLike) -> Ints:
    """Find the smallest integer e with x <= 2**e, exactly.

    Args:
        x: positive and finite, of any shape.

    Returns:
        Int64 of the same shape.

    Raises:
        QuantizationError: for zero and negative numbers.
        NonFiniteError: for NaN and infinity.
    """
    mantissa, exponent = split(x)
    # mantissa is in [1/2, 1): only 1/2 itself is a power of two, one exponent below.
    return np.asarray(exponent - (mantissa == 0.5))


def split(x: ArrayLike) -> tuple[NDArray[np.float64], Ints]:
    """Splits positive finite x into (mantissa, exponent): x = mantissa * 2**exponent exactly,
    1/2 <= mantissa < 1. Raises QuantizationError for zero and negative numbers.
    """
    values = as_finite(x, "numbers whose logarithm is taken")
    if values.size and not values.min() > 0:
        raise QuantizationError(f"a logarithm needs numbers above 0, got {values.min()}")
    mantissa, exponent = np.frexp(values.astype(np.float64, copy=False))
    return np.asarray(mantissa), np.asarray(exponent, dtype=np.int64)
