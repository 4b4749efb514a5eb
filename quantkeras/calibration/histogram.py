"""A streaming histogram of activations with bins of constant relative width.

The bins follow the floating-point format: the octave of |x| (its binary exponent) and the first
`mantissa_bits` bits of its mantissa, so that every octave [2**e, 2**(e + 1)) is cut into
2**mantissa_bits equal bins. Finding a bin is a shift of the bits of a float32; nothing is
multiplied or rounded. A channel keeps the OCTAVES octaves below its largest |x|; anything smaller
joins the "zero" bin, which lies below 2**-19 of the largest value and counts as exactly 0.

When a larger value arrives the window of that channel moves up and the bins that fall out of it
join the zero bin: whole bins move, none is ever split. The final counts are therefore a function
of the multiset of values alone, whatever the batches and their order. Linear bins would need to
be re-cut, and a single outlier a thousand times larger than the rest would leave the rest in two
or three of them; here it leaves the rest as finely divided as before.

Memory: at most about 2**18 bins of 8 bytes per sign, whatever the number of samples, as long as
there are fewer than 1,600 channels, and 161 bins per channel and sign beyond. The negative half
is only kept once a negative value is seen (never, after a ReLU).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

OCTAVES = 20
"""Octaves kept below the largest |x| of a channel: twice what a 16-bit range search looks at."""
_MAX_CELLS = 2**18
_CHUNK = 2**17
_FLOAT32_MANTISSA = 23


def mantissa_bits_for(channels: int) -> int:
    """How finely an octave is cut: 2**6 bins for up to 204 channels, down to 2**3 for many."""
    bits = 6
    while bits > 3 and channels * OCTAVES * 2**bits > _MAX_CELLS:
        bits -= 1
    return bits


@dataclass(frozen=True)
class Density:
    """One sign of a histogram: `counts[c, j]` magnitudes in [edges[c, j], edges[c, j + 1]).

    counts: (channels, bins) float64. edges: (channels, bins + 1) float64, rising from 0. Bin 0 is
    the zero bin. The bin of the largest value ends there, and so do the empty ones above it.
    """

    counts: NDArray[np.float64]
    edges: NDArray[np.float64]

    def rows(self, start: int, stop: int) -> "Density":
        """The channels start to stop - 1."""
        return Density(self.counts[start:stop], self.edges[start:stop])


class Histogram:
    """Counts of the values of `channels` channels, split by sign.

    `update` takes float32 rows (n, channels), all finite. `density(sign)` reads one half.
    """

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.mantissa_bits = mantissa_bits_for(channels)
        self.cells = 1 + OCTAVES * 2**self.mantissa_bits
        self._shift = _FLOAT32_MANTISSA - self.mantissa_bits
        # The bin number that a float32 has by its bits; cell 1 holds bin _base, cell 0 all below.
        self._base = np.ones(channels, dtype=np.int32)
        self._counts = np.zeros((1, channels, self.cells), dtype=np.int64)
        self._low = np.full(channels, np.inf, dtype=np.float32)
        self._high = np.full(channels, -np.inf, dtype=np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes held by the counts."""
        return self._counts.nbytes

    def update(
        self, rows: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]
    ) -> None:
        """Adds rows (n, channels); low, high: (channels,) their smallest and largest values."""
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
        self._move_windows()
        signed = bool(np.any(low < 0))
        if signed and len(self._counts) == 1:
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        # A power of two, so that chunks fold.
        step = 1 << max(0, (_CHUNK // self.channels).bit_length() - 1)
        for start in range(0, len(rows), step):
            self._count(rows[start : start + step], signed)
        if len(self._counts) == 2:  # the zero bin has no sign
            self._counts[0, :, 0] += self._counts[1, :, 0]
            self._counts[1, :, 0] = 0

    def extremes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The smallest and the largest value of each channel, (channels,) each."""
        return self._low.astype(np.float64), self._high.astype(np.float64)

    def density(self, sign: int) -> Density:
        """One half, as magnitudes: x >= 0 with the zero bin (sign = 1), or x < 0 (sign = -1)."""
        half = 0 if sign > 0 else 1
        bins = self._base[:, None] + np.arange(-1, self.cells, dtype=np.int32)
        peak = np.maximum(self._high if sign > 0 else -self._low, 0.0).astype(np.float64)[:, None]
        # The upper edge of the topmost octave of float32 is infinity; the peak bounds it.
        edges = np.minimum((bins << self._shift).view(np.float32).astype(np.float64), peak)
        edges[:, 0] = 0.0
        if half < len(self._counts):
            return Density(self._counts[half].astype(np.float64), edges)
        return Density(np.zeros((self.channels, self.cells)), edges)

    def _move_windows(self) -> None:
        """Moves the window of each channel up to the octave of its largest value."""
        peak = np.maximum(np.abs(self._low), np.abs(self._high))
        octave = peak.view(np.int32) >> _FLOAT32_MANTISSA
        base = np.maximum((octave + 1 - OCTAVES) << self.mantissa_bits, 1).astype(np.int32)
        moved = np.flatnonzero(base > self._base)
        if not len(moved):
            return
        # Cells beyond the last one are empty: `padded` answers for them with its zero column.
        source = np.arange(1, self.cells) + (base[moved] - self._base[moved])[:, None]
        source = np.minimum(source, self.cells)
        for counts in self._counts:
            old = counts[moved]
            padded = np.concatenate([old, np.zeros((len(moved), 1), dtype=np.int64)], axis=1)
            kept = np.take_along_axis(padded, source, axis=1)
            fallen = old.sum(axis=1) - kept.sum(axis=1)
            counts[moved] = np.concatenate([fallen[:, None], kept], axis=1)
        self._base = base

    def _count(self, rows: NDArray[np.float32], signed: bool) -> None:
        """Counts a chunk of rows whose values fit the windows."""
        folded = fold_rows(rows)
        repeat = folded.shape[1] // self.channels
        flat = (folded.view(np.int32) & 0x7FFFFFFF) >> self._shift
        flat -= np.tile(self._base - 1, repeat)
        np.maximum(flat, 0, out=flat)
        flat += np.tile(np.arange(self.channels, dtype=np.int32) * self.cells, repeat)
        halves = 1
        if signed:
            halves = 2
            flat += (folded < 0) * np.int32(self.channels * self.cells)
        size = self.channels * self.cells
        found = np.bincount(flat.ravel(), minlength=halves * size)
        self._counts[:halves] += found.reshape(halves, self.channels, self.cells)


def fold_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows (n, c) -> the same numbers as (n / k, k * c): long inner loops where c is small.

    k is the largest power of two that divides n with k * c <= 1024, or 1.
    """
    count, channels = rows.shape
    factor = 1
    while count % (2 * factor) == 0 and 2 * factor * channels <= 1024:
        factor *= 2
    return np.ascontiguousarray(rows).reshape(count // factor, factor * channels)
