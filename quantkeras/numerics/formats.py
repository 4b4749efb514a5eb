"""Fixed-point formats of activations: value = integer * 2**-frac.

`bits` counts the sign: an unsigned integer is in 0 .. 2**bits - 1, a signed one in
-2**(bits-1) .. 2**(bits-1) - 1. `frac` is one integer per tensor or an array broadcastable to the
tensor's unbatched shape, usually (channels,); it may be negative or larger than `bits`.
The step between neighbours, 2**-frac, is called lsb.

    frac = value_bits - ceil(log2(range)),   value_bits = bits - 1 if signed else bits          (1)

so a range of 2**e maps to 2**value_bits: the largest integer is one lsb below it, and saturates it.
A format says what numbers *can* be; a movement of data changes its frac in step with the data, see
``carry.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import FormatError, QuantizationError
from .rounding import (
    Floats,
    Ints,
    as_finite,
    as_int64,
    ceil_log2,
    pow2,
    round_half_up,
)

MIN_BITS, MAX_BITS = 2, 32
MAX_FRAC = 126
"""Finest lsb: 2**-126 is the smallest normal float32, and floats carry these values."""
EXACT_FLOAT32_BITS = 24
"""Up to this many bits, every value of a format is a float32; beyond, a float64."""


def frac_for_range(max_abs: ArrayLike, value_bits: int, min_frac: int, max_frac: int) -> Ints:
    """Applies equation (1) to ranges >= 0 of any shape.

    A range that is zero, or too small for `max_frac`, belongs to a channel that was never seen
    alive. It takes the largest range of the others, or 1.0 if all are dead: should it wake up, it
    saturates no earlier than they do, and aligning it with them costs no extra bits.
    Raises QuantizationError for negative, non-finite or too large ranges.
    """
    ranges = as_finite(max_abs, "ranges").astype(np.float64)
    if ranges.size and ranges.min() < 0:
        raise QuantizationError(f"ranges must be >= 0, got {ranges.min()}; pass max(|x|)")
    dead = ranges <= pow2(max(value_bits - max_frac - 1, -1022))
    fill = ranges.max() if ranges.size and not dead.all() else 1.0
    frac = value_bits - ceil_log2(np.where(dead, fill, ranges))
    if frac.size and frac.min() < min_frac:
        raise QuantizationError(f"a range of {ranges.max():g} is too large for {value_bits} bits")
    return np.asarray(frac)


@dataclass(frozen=True, eq=False)
class Format:
    """A fixed-point format: value = integer * 2**-frac.

    Two formats are equal when bits, signedness and frac (with its shape) are; see `compact`.

    Attributes:
        bits: 2 .. 32, sign included.
        signed: whether the integers have a sign.
        frac: fractional bits, a read-only int64 array, () for per tensor, else broadcastable to the
            unbatched shape; value_bits - 127 .. 126, so that floats carry lsb and the ends.

    Raises:
        FormatError: for bits or fractional bits out of these ranges.
    """

    bits: int
    signed: bool
    frac: Ints

    def __init__(self, bits: int, signed: bool, frac: ArrayLike) -> None:
        if not MIN_BITS <= bits <= MAX_BITS:
            raise FormatError(f"a format has {MIN_BITS} to {MAX_BITS} bits, got {bits}")
        fractions = as_int64(frac, "fractional bits").copy()
        fractions.setflags(write=False)
        object.__setattr__(self, "bits", int(bits))
        object.__setattr__(self, "signed", bool(signed))
        object.__setattr__(self, "frac", fractions)
        if fractions.size == 0:
            raise FormatError("a format needs at least one number of fractional bits")
        lowest, highest = int(fractions.min()), int(fractions.max())
        if lowest < self.min_frac or highest > MAX_FRAC:
            raise FormatError(
                f"fractional bits in [{lowest}, {highest}] leave what float32 can carry: "
                f"{self.min_frac} .. {MAX_FRAC} for {self.value_bits} value bits"
            )

    @classmethod
    def for_range(cls, max_abs: ArrayLike, bits: int, signed: bool) -> "Format":
        """Choose the finest format that holds |x| <= max_abs up to one lsb.

        For ranges of zero see `frac_for_range`.

        Args:
            max_abs: >= 0, a number or an array broadcastable to the unbatched shape.
            bits: 2 .. 32, sign included.
            signed: whether the integers have a sign.

        Returns:
            The format, frac of the shape of max_abs.

        Raises:
            QuantizationError: for ranges that are negative, not finite or too large.
            FormatError: for bits out of range.
        """
        value_bits = bits - 1 if signed else bits
        return cls(bits, signed, frac_for_range(max_abs, value_bits, value_bits - 127, MAX_FRAC))

    # -- what it says -------------------------------------------------------------------------

    @property
    def value_bits(self) -> int:
        """Bits without the sign."""
        return self.bits - 1 if self.signed else self.bits

    @property
    def min_frac(self) -> int:
        """Coarsest frac: 2**value_bits * lsb is still a finite float32."""
        return self.value_bits - 127

    @property
    def qmin(self) -> int:
        """Smallest integer."""
        return -(2**self.value_bits) if self.signed else 0

    @property
    def qmax(self) -> int:
        """Largest integer."""
        return int(2**self.value_bits) - 1

    @property
    def lsb(self) -> NDArray[np.float64]:
        """Step between neighbouring values, 2**-frac, of the shape of frac."""
        return pow2(-self.frac)

    @property
    def per_tensor(self) -> bool:
        """Whether one frac serves the whole tensor, in whatever shape it is written."""
        return bool((self.frac == self.frac.flat[0]).all())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Format):
            return NotImplemented
        return (self.bits, self.signed) == (other.bits, other.signed) and np.array_equal(
            self.frac, other.frac
        )

    def __hash__(self) -> int:
        return hash((self.bits, self.signed, self.frac.shape, self.frac.tobytes()))

    def __str__(self) -> str:
        if self.per_tensor:
            frac = str(int(self.frac.flat[0]))
        else:
            frac = f"{int(self.frac.min())}..{int(self.frac.max())}"
        return f"{'int' if self.signed else 'uint'}{self.bits}.{frac}"

    # -- numbers in and out -------------------------------------------------------------------

    def quantize(self, x: ArrayLike) -> Ints:
        """Round finite floats half up to integers in qmin .. qmax.

        Clipping first changes nothing, as the limits are integers, and keeps int64 from overflow.

        Args:
            x: (..., unbatched shape).

        Returns:
            Int64 of the same shape.

        Raises:
            NonFiniteError: for NaN and infinity.
        """
        with np.errstate(over="ignore", under="ignore"):
            scaled = np.ldexp(as_finite(x).astype(np.float64, copy=False), self.frac)
        return round_half_up(np.clip(scaled, self.qmin, self.qmax)).astype(np.int64)

    def dequantize(self, integers: ArrayLike) -> Floats:
        """Turn integers into values, integers * lsb, exactly.

        Args:
            integers: (..., unbatched shape).

        Returns:
            Float32 up to 24 bits, float64 beyond.

        Raises:
            QuantizationError: for integers outside qmin .. qmax.
        """
        values = self.check(integers)
        exact = np.asarray(np.ldexp(values.astype(np.float64), -self.frac))
        return exact.astype(np.float32) if self.bits <= EXACT_FLOAT32_BITS else exact

    def check(self, integers: ArrayLike) -> Ints:
        """Look whether integers are in range.

        Args:
            integers: of any shape.

        Returns:
            The integers as int64.

        Raises:
            QuantizationError: if one is outside qmin .. qmax.
        """
        values = as_int64(integers)
        if values.size and (values.min() < self.qmin or values.max() > self.qmax):
            raise QuantizationError(
                f"integers in [{values.min()}, {values.max()}] do not fit {self}: "
                f"{self.qmin} .. {self.qmax}"
            )
        return values

    # -- movement of data ---------------------------------------------------------------------

    def with_frac(self, frac: ArrayLike) -> "Format":
        """Take the same integers' range, on other steps.

        Args:
            frac: fractional bits, as in the class.

        Returns:
            The other format.

        Raises:
            FormatError: for fractional bits out of range.
        """
        return Format(self.bits, self.signed, frac)

    def broadcast_to(self, shape: Sequence[int]) -> "Format":
        """Write frac out for every element of an unbatched shape.

        Args:
            shape: one that frac broadcasts to.

        Returns:
            The format with a frac of that shape.

        Raises:
            FormatError: where it does not.
        """
        return self.with_frac(_broadcast(self.frac, shape))

    def compact(self) -> "Format":
        """The same format with the smallest frac: () if uniform, else without the leading axes
        along which it does not vary.
        """
        frac = self.frac
        if self.per_tensor:
            return self.with_frac(frac.flat[0])
        while frac.ndim > 1 and (frac == frac[:1]).all():
            frac = frac[0]
        return self.with_frac(frac)

    # -- files --------------------------------------------------------------------------------

    def to_config(self) -> dict[str, Any]:
        """A JSON-able dict; frac is an int, or nested lists of them."""
        return {"bits": self.bits, "signed": self.signed, "frac": self.frac.tolist()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Format":
        """Make a format of its config, the inverse of `to_config`.

        Args:
            config: bits, signed and frac.

        Returns:
            The format.

        Raises:
            FormatError: for values that cannot be.
        """
        if not isinstance(config["signed"], bool):
            raise FormatError(f"signed is {config['signed']!r}, neither true nor false")
        return cls(index(config["bits"]), config["signed"], np.asarray(config["frac"]))


def _broadcast(frac: Ints, shape: Sequence[int]) -> Ints:
    """np.broadcast_to, with an error that speaks of formats."""
    try:
        return np.broadcast_to(frac, tuple(shape))
    except ValueError as error:
        raise FormatError(
            f"fractional bits of shape {frac.shape} do not fit a tensor of shape {tuple(shape)}"
        ) from error
