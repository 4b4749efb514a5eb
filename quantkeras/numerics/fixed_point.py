"""FixedPoint: numbers that are integers with a known number of fractional bits.

    value = integer * 2**-frac

`bits` counts the sign bit if there is one, `frac` is one integer or one per channel of the last
axis, and both are part of the type: they depend on the operands' types, never on their values. So
one can read off an expression how wide its registers must be. Arithmetic is exact and the result
grows as far as the widest case needs; only `quantize` and `rescale` round, half up:

    operation        frac            bits of the result (signed operands)
    a + b, a - b     max(fa, fb)     max of both after aligning, + 1
    a * b            fa + fb         ba + bb
    -a               fa              ba + 1
    a >> n, a << n   fa + n, fa - n  ba: the integers stay, the point moves

An operand with fewer fractional bits is shifted left to align it, which widens it. Results wider
than 63 bits beside the sign raise IntegerOverflow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import FormatError, IntegerOverflow
from .formats import Format, frac_for_range
from .rounding import Ints, as_finite, as_int64, round_half_up, saturate, shift_round

MAX_VALUE_BITS = 63
MIN_FRAC, MAX_FRAC = -900, 900
"""So that every value is a normal float64, up to the integer's own 63 bits."""


@dataclass(frozen=True)
class Saturation:
    """How many integers sit at the ends of their range, and so may have been cut.

    Attributes:
        low: counts at the lower end, () or (channels,).
        high: counts at the upper end, likewise.
        size: how many integers were counted, per channel.
    """

    low: Ints
    high: Ints
    size: int

    @property
    def share(self) -> NDArray[np.float64]:
        """Fraction of the integers that are at either end."""
        return np.asarray((self.low + self.high) / max(self.size, 1), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """An array of fixed-point numbers.

    Comparisons are element-wise, on the numbers rather than on the integers.

    Attributes:
        values: int64 of any shape, inside the range of `bits`.
        frac: int64, () or (channels,) for the last axis of values.
        bits: width of the integers, sign included.
        signed: whether they have one.

    Raises:
        TypeError: for values or fractional bits that are no integers.
        FormatError: for a type that cannot be, or that does not fit the shape of the values.
        IntegerOverflow: for integers that the bits do not hold, and bits that int64 does not.

    Example:
        ``FixedPoint.quantize([0.5, -1.25], bits=8) * 3``
    """

    values: Ints
    frac: Ints
    bits: int
    signed: bool = True

    # Makes NumPy scalars and arrays leave mixed arithmetic to this class.
    __array_ufunc__ = None

    def __init__(self, values: ArrayLike, frac: ArrayLike, bits: int, signed: bool = True) -> None:
        integers, fractions = as_int64(values), as_int64(frac, "fractional bits")
        object.__setattr__(self, "values", integers)
        object.__setattr__(self, "frac", fractions)
        object.__setattr__(self, "bits", int(bits))
        object.__setattr__(self, "signed", bool(signed))
        self._check()

    def _check(self) -> None:
        """Holds the fields to what the class promises."""
        if not self.value_bits >= 1:
            raise FormatError(f"{self.bits} bits leave none for the value")
        if self.value_bits > MAX_VALUE_BITS:
            raise IntegerOverflow(f"{self.bits} bits are more than 64-bit integers hold")
        if self.frac.ndim > 1 or (self.frac.ndim and self.values.shape[-1:] != self.frac.shape):
            raise FormatError(
                f"frac of shape {self.frac.shape} is neither a scalar nor one per channel of "
                f"values of shape {self.values.shape}"
            )
        if self.frac.size and not MIN_FRAC <= self.frac.min() <= self.frac.max() <= MAX_FRAC:
            raise FormatError(f"fractional bits must be in {MIN_FRAC} .. {MAX_FRAC}")
        values = self.values
        if values.size and (values.min() < self.qmin or values.max() > self.qmax):
            raise IntegerOverflow(
                f"integers in [{values.min()}, {values.max()}] do not fit {self.qmin} .. "
                f"{self.qmax}"
            )

    # -- in and out ---------------------------------------------------------------------------

    @classmethod
    def quantize(
        cls,
        x: ArrayLike,
        bits: int,
        frac: ArrayLike | None = None,
        signed: bool = True,
        per_channel: bool = False,
    ) -> FixedPoint:
        """Round finite numbers half up to fixed point, saturating those out of range.

        Args:
            x: numbers of any shape.
            bits: width of the integers, sign included.
            frac: fractional bits, () or (channels,); None takes the most that hold max|x|, as
                Format.for_range does, over the whole array or, with per_channel, for each channel.
            signed: whether the integers have a sign.
            per_channel: choose frac for each channel of the last axis.

        Returns:
            The rounded numbers.

        Raises:
            NonFiniteError: for NaN and infinity.
            FormatError: for a type that cannot be.
            QuantizationError: for numbers too large for these bits.
        """
        numbers = as_finite(x).astype(np.float64)
        value_bits = bits - 1 if signed else bits
        if frac is None:
            axes = tuple(range(numbers.ndim - 1)) if per_channel else None
            ranges = np.abs(numbers).max(axis=axes, initial=0.0)
            frac = frac_for_range(ranges, value_bits, MIN_FRAC, MAX_FRAC)
        empty = cls(np.zeros(numbers.shape, np.int64), frac, bits, signed)
        with np.errstate(over="ignore", under="ignore"):
            scaled = np.ldexp(numbers, empty.frac)
        # A float64 cannot hold 2**63 - 1, so what reaches the ends is set in integers.
        low, high = float(empty.qmin), float(empty.qmax + 1)
        inside = round_half_up(np.clip(scaled, low, high))
        above = inside >= high
        integers = np.where(above, 0.0, inside).astype(np.int64)
        return cls(np.where(above, empty.qmax, integers), empty.frac, bits, signed)

    def to_float(self) -> NDArray[np.float64]:
        """The numbers as float64: exact up to 53 bits, correctly rounded beyond."""
        return np.asarray(np.ldexp(self.values.astype(np.float64), -self.frac))

    dequantize = to_float

    @property
    def format(self) -> Format:
        """The type without the numbers; for at most 32 bits."""
        return Format(self.bits, self.signed, self.frac)

    @property
    def value_bits(self) -> int:
        """Bits without the sign."""
        return self.bits - 1 if self.signed else self.bits

    @property
    def qmin(self) -> int:
        """Smallest integer of the type."""
        return -(2**self.value_bits) if self.signed else 0

    @property
    def qmax(self) -> int:
        """Largest integer of the type."""
        return int(2**self.value_bits) - 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the numbers."""
        return self.values.shape

    @property
    def per_channel(self) -> bool:
        """Whether there is one frac per channel."""
        return self.frac.ndim > 0

    def __str__(self) -> str:
        kind = "int" if self.signed else "uint"
        return f"FixedPoint {kind}{self.bits} frac={self.frac.tolist()}: {self.to_float()}"

    # -- change of type -----------------------------------------------------------------------

    def rescale(
        self, frac: ArrayLike, bits: int | None = None, signed: bool | None = None
    ) -> FixedPoint:
        """Round half up to other fractional bits, then saturate to other bits.

        Args:
            frac: fractional bits, () or (channels,).
            bits: width; None keeps it.
            signed: None keeps it.

        Returns:
            The numbers in that type.

        Raises:
            IntegerOverflow: if more fractional bits push an integer out of 64 bits.
            FormatError: for a type that cannot be.
        """
        target = FixedPoint(
            np.zeros(self.shape, np.int64),
            frac,
            self.bits if bits is None else bits,
            self.signed if signed is None else signed,
        )
        moved = shift_round(self.values, self.frac - target.frac)
        return target._with_values(saturate(moved, target.qmin, target.qmax))

    def promote(self, bits: int) -> FixedPoint:
        """Put the same numbers into a wider register.

        Args:
            bits: its width.

        Returns:
            The same numbers.

        Raises:
            FormatError: for fewer bits.
        """
        if bits < self.bits:
            raise FormatError(f"cannot promote {self.bits} bits to {bits}; use rescale")
        return FixedPoint(self.values, self.frac, bits, self.signed)

    def per_tensor(self) -> FixedPoint:
        """The same numbers with one frac for all channels, the finest; wider accordingly."""
        return self._on(self.frac.max()) if self.per_channel else self

    def align(self, other: FixedPoint) -> tuple[FixedPoint, FixedPoint]:
        """Give both the finer fractional bits of the two, exactly.

        Args:
            other: numbers whose shape broadcasts with that of these.

        Returns:
            These and the other, each wider accordingly.

        Raises:
            IntegerOverflow: where 64 bits do not hold them.
        """
        common = np.maximum(self.frac, other.frac)
        return self._on(common), other._on(common)

    def saturation(self) -> Saturation:
        """Counts the integers at the ends of the range, per channel if frac is."""
        axes = tuple(range(self.values.ndim - 1)) if self.per_channel else None
        low = np.asarray((self.values == self.qmin).sum(axis=axes), dtype=np.int64)
        high = np.asarray((self.values == self.qmax).sum(axis=axes), dtype=np.int64)
        return Saturation(low, high, self.values.size // max(low.size, 1))

    def _with_values(self, values: Ints) -> FixedPoint:
        """Other integers of the same type."""
        return FixedPoint(values, self.frac, self.bits, self.signed)

    def _on(self, frac: ArrayLike) -> FixedPoint:
        """The same numbers with fractional bits >= frac, wider by the largest shift."""
        shift = np.asarray(frac) - self.frac
        values = shift_round(self.values, -shift)
        return FixedPoint(values, frac, self.bits + int(shift.max(initial=0)), self.signed)

    # -- arithmetic ---------------------------------------------------------------------------

    def __neg__(self) -> FixedPoint:
        # The negative of the lowest signed integer needs one bit more, an unsigned one a sign.
        return FixedPoint(-self.values, self.frac, self.bits + 1, True)

    def __add__(self, other: FixedPoint | int) -> FixedPoint:
        a, b = self.align(_operand(other))
        signed = a.signed or b.signed
        bits = max(a.value_bits, b.value_bits) + 1 + signed
        _room(bits, signed)
        return FixedPoint(a.values + b.values, a.frac, bits, signed)

    __radd__ = __add__

    def __sub__(self, other: FixedPoint | int) -> FixedPoint:
        a, b = self.align(_operand(other))
        # Two unsigned numbers differ by no more than the larger of them.
        bits = max(a.value_bits, b.value_bits) + 1 + (a.signed or b.signed)
        _room(bits, True)
        return FixedPoint(a.values - b.values, a.frac, bits, True)

    def __rsub__(self, other: int) -> FixedPoint:
        return _operand(other) - self

    def __mul__(self, other: FixedPoint | int) -> FixedPoint:
        b = _operand(other)
        signed, bits = self.signed or b.signed, self.bits + b.bits
        _room(bits, signed)
        return FixedPoint(self.values * b.values, self.frac + b.frac, bits, signed)

    __rmul__ = __mul__

    def __rshift__(self, n: ArrayLike) -> FixedPoint:
        return FixedPoint(self.values, self.frac + as_int64(n, "shifts"), self.bits, self.signed)

    def __lshift__(self, n: ArrayLike) -> FixedPoint:
        return FixedPoint(self.values, self.frac - as_int64(n, "shifts"), self.bits, self.signed)

    # -- comparison ---------------------------------------------------------------------------

    # Element-wise like NumPy's: the result is an array, and so the numbers are not hashable.

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, FixedPoint | int | np.integer):
            return NotImplemented
        a, b = self.align(_operand(other))
        return np.asarray(a.values == b.values)

    def __ne__(self, other: object) -> Any:
        if not isinstance(other, FixedPoint | int | np.integer):
            return NotImplemented
        return ~(self == other)

    def __lt__(self, other: FixedPoint | int) -> NDArray[np.bool_]:
        a, b = self.align(_operand(other))
        return np.asarray(a.values < b.values)

    def __le__(self, other: FixedPoint | int) -> NDArray[np.bool_]:
        a, b = self.align(_operand(other))
        return np.asarray(a.values <= b.values)

    def __gt__(self, other: FixedPoint | int) -> NDArray[np.bool_]:
        return ~(self <= other)

    def __ge__(self, other: FixedPoint | int) -> NDArray[np.bool_]:
        return ~(self < other)


def _operand(other: FixedPoint | int | np.integer[Any]) -> FixedPoint:
    """An integer becomes the narrowest signed fixed-point number that holds it."""
    if isinstance(other, FixedPoint):
        return other
    if not isinstance(other, int | np.integer):
        raise TypeError(
            f"FixedPoint arithmetic is exact and takes FixedPoint or int, not "
            f"{type(other).__name__}; quantize it first"
        )
    number = int(other)
    length = (number if number >= 0 else ~number).bit_length()
    return FixedPoint(np.int64(number), 0, max(length, 1) + 1)


def _room(bits: int, signed: bool) -> None:
    """Refuses an exact result before NumPy would silently wrap it around."""
    if bits - signed > MAX_VALUE_BITS:
        raise IntegerOverflow(
            f"the exact result takes {bits} bits, more than 64-bit integers hold; rescale an "
            "operand first"
        )
