"""Symmetric weight quantization with steps that integer hardware can rescale by exactly.

A weight is w = integer * step, the integer in -qmax .. qmax with qmax = 2**(bits-1) - 1, and one
step per output channel (or per tensor) on the grid

    step = s * 2**-k,   2**(scale_bits-1) <= s < 2**scale_bits                                  (1)

The step is chosen on the grid *first* and the weights are rounded to it afterwards. Activations
have power-of-two steps, so rescaling an accumulator is exactly `* s >> shift`: no gain error.
A power of two is s = 2**(scale_bits-1) with k one more, never the 2**scale_bits - 1 beside it.

    raw  = max|w| / qmax            one float32 division, correctly rounded                     (2)
    step = raw rounded up to (1)    so that the largest weight rounds to at most qmax           (3)
    q    = half up(w / step), kept in -qmax .. qmax                                             (4)

(2) and (4) divide in float32 and round the *stored* quotient. All other operations on these
numbers (maximum, comparison, splitting off the exponent, products with powers of two, s < 2**16)
are exact. IEEE division, maximum and comparison are the same everywhere, so the same formulas
written with any float32 array library give the same bits; (3) and (4) are so written in the
quantized layers. `search_steps`, which sums squared errors, is the exception: sums depend on order,
so compute it once and keep its result.

Output channels are the last axis of the weights.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import NonFiniteError, QuantizationError
from .rounding import Ints, as_int64, pow2, round_half_up, split

MIN_WEIGHT_BITS, MAX_WEIGHT_BITS = 2, 16
MIN_SCALE_BITS, MAX_SCALE_BITS = 1, 16
SMALLEST_STEP, LARGEST_STEP = 2.0**-124, 2.0**100
"""Steps, and halves of them, are normal float32 numbers: a weight that is none, which some
processors take for 0, rounds to 0 anyway by (4).
"""

MSE_FACTORS: tuple[float, ...] = tuple(float(f) for f in np.linspace(1.0, 0.2, 100))
"""Shares of max|w| that `search_steps` tries, the largest first."""

_BLOCK = 1 << 18
"""Weights treated at a time in the search: a few float64 copies of that stay in the cache."""

Float32s = NDArray[np.float32]


def weight_qmax(bits: int) -> int:
    """Largest weight integer: 127 for 8 bits, 7 for 4. Raises outside 2 .. 16 bits."""
    if not MIN_WEIGHT_BITS <= bits <= MAX_WEIGHT_BITS:
        raise QuantizationError(
            f"weights have {MIN_WEIGHT_BITS} to {MAX_WEIGHT_BITS} bits, got {bits}"
        )
    return int(2 ** (bits - 1)) - 1


def raw_steps(w: ArrayLike, bits: int, factor: float = 1.0) -> Float32s:
    """Equation (2) for weights (..., channels): max|w| * factor / qmax; float32, (channels,).

    A channel of zeros (or of steps below 2**-124) has no step of its own. It takes the largest of
    the others. Where no channel has one, all take 1.0 if all are zero, else the smallest step, with
    which few integers are left of them, or none. Raises NonFiniteError naming the channels that
    hold NaN or infinity.
    """
    qmax = np.float32(weight_qmax(bits))
    largest = np.abs(_by_channel(w)).max(axis=1, initial=0.0)
    steps = np.asarray(largest * np.float32(factor) / qmax, dtype=np.float32)
    if not (steps <= LARGEST_STEP).all():
        raise QuantizationError(f"weights too large: steps reach {steps.max():g}")
    dead = steps < SMALLEST_STEP
    fill = np.float32(SMALLEST_STEP if np.any(largest > 0) else 1.0)
    if steps.size and not dead.all():
        fill = steps.max()
    return np.where(dead, fill, steps)


def steps_on_grid(raw: ArrayLike, scale_bits: int = 8) -> tuple[Ints, Ints]:
    """Equation (3): the smallest s * 2**-k >= raw, for raw > 0 of any shape."""
    return _on_grid(raw, scale_bits, up=True)


def scale_to_grid(x: ArrayLike, scale_bits: int = 8) -> tuple[Ints, Ints]:
    """Find the nearest s * 2**-k, ties up: for factors that are given, not chosen.

    Args:
        x: > 0, of any shape.
        scale_bits: width of s, 1 to 16, its top bit set.

    Returns:
        (s, k), int64 of the same shape.

    Raises:
        QuantizationError: for an x that is not above 0, and for scale_bits out of range.
    """
    return _on_grid(x, scale_bits, up=False)


def grid_value(s: ArrayLike, k: ArrayLike) -> Float32s:
    """The steps s * 2**-k in float32, exact for steps that this module makes."""
    return (as_int64(s, "scales") * pow2(-as_int64(k, "scale shifts"))).astype(np.float32)


def search_steps(
    w: ArrayLike, bits: int, scale_bits: int = 8, factors: Sequence[float] = MSE_FACTORS
) -> tuple[Ints, Ints]:
    """Per channel, the step of least squared error among those for max|w| * factor.

    Ties keep the earlier factor. Works on blocks of channels, so that its memory does not grow
    with the kernel. Returns (s, k) as `steps_on_grid`.
    """
    if not factors or not all(0.0 < f <= 1.0 for f in factors):
        raise QuantizationError("factors must be in (0, 1], and at least one")
    channels = _by_channel(w)
    tries = [steps_on_grid(raw_steps(w, bits, f), scale_bits) for f in factors]
    all_s, all_k = (np.stack(rows) for rows in zip(*tries, strict=True))
    count = channels.shape[0]
    best = np.zeros(count, np.int64)
    size = max(1, _BLOCK // max(1, channels.shape[1]))
    for start in range(0, count, size):
        block = slice(start, start + size)
        errors = np.stack(
            [
                _squared_error(channels[block], s[block], k[block], weight_qmax(bits))
                for s, k in zip(all_s, all_k, strict=True)
            ]
        )
        best[block] = errors.argmin(axis=0)
    index = np.arange(count)
    return all_s[best, index], all_k[best, index]


def _squared_error(channels: Float32s, s: Ints, k: Ints, qmax: int) -> NDArray[np.float64]:
    """Sum over each row of (w - q(w))**2, for rows of weights and one step per row."""
    step = grid_value(s, k).reshape(-1, 1)
    integers = np.clip(round_half_up(channels / step), -qmax, qmax)
    error = (channels - integers * step).astype(np.float64)
    return np.asarray(np.einsum("cn,cn->c", error, error))


def _on_grid(x: ArrayLike, scale_bits: int, up: bool) -> tuple[Ints, Ints]:
    """Writes x = mantissa * 2**exponent and rounds mantissa * 2**scale_bits to the integer s."""
    if not MIN_SCALE_BITS <= scale_bits <= MAX_SCALE_BITS:
        raise QuantizationError(
            f"scales have {MIN_SCALE_BITS} to {MAX_SCALE_BITS} bits, got {scale_bits}"
        )
    mantissa, exponent = split(x)
    scaled = mantissa * 2.0**scale_bits
    s = (np.ceil(scaled) if up else round_half_up(scaled)).astype(np.int64)
    k = scale_bits - exponent
    # Rounding up to 2**scale_bits is the power of two of the next octave.
    over = s == 2**scale_bits
    return np.where(over, 2 ** (scale_bits - 1), s), np.where(over, k - 1, k)


def _by_channel(w: ArrayLike) -> Float32s:
    """Weights (..., channels) as float32 rows, one per channel, each in one piece of memory."""
    with np.errstate(over="ignore", under="ignore"):
        weights = np.asarray(w).astype(np.float32, copy=False)
    rows = np.ascontiguousarray(weights.reshape(-1, weights.shape[-1]).T)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        faulty = np.flatnonzero(~finite).tolist()
        shown = f"{faulty[:8]}" + (" and others" if len(faulty) > 8 else "")
        raise NonFiniteError(f"weights hold NaN or infinity in output channels {shown}")
    return rows
