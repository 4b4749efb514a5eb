"""The clipping range that loses least: expected quantization error of a histogram, minimised.

(1) The error of one value. Magnitudes are rounded to k * step, k = 0..top, half up, so t >= 0 has
    the error t - k * step with k = min(floor(t / step + 0.5), top): rounding up to the last
    level, clipping beyond it.

(2) Its integral. E(t) = integral from 0 to t of error**2 = k * step**3 / 12 + d**3 / 3 with
    d = t - k * step: each whole period adds step**3 / 12, the last one its own cubic, and the
    same line holds beyond the last level, where the cubic just goes on.

(3) The expected error. Within a bin [a, b) the values are taken as evenly spread, so a bin of n
    values adds n * (E(b) - E(a)) / (b - a). This holds for steps finer than the bins as well as
    coarser ones, where the error at bin centres would mean nothing. A bin without width (a clipped
    activation, whose largest values are all equal) adds n * error(a)**2.

`clip_weight` multiplies the part beyond the last level: 1 gives the mean squared error, larger
values fear clipping more than rounding.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from quantkeras.calibration.histogram import Density

FloatArray = NDArray[np.float64]

_OCTAVES = 12
"""The search goes down to 2**-12 of the largest value."""
_PER_OCTAVE = 6
_REFINEMENTS = (9, 9)
_BLOCK_CELLS = 2**14
"""Bins looked at together: few enough to stay in a core's cache."""


def expected_error(
    density: Density, step: FloatArray, top: int | FloatArray, clip_weight: float = 1.0
) -> FloatArray:
    """Sum over the values of one half of their squared error, by (3). Per channel.

    step: (channels,), > 0. top: the largest level, >= 0, one for all or (channels,). Returns
    (channels,) float64. The density may be of one channel, for which many steps are compared.
    """
    edges, counts = density.edges, density.counts
    top = np.broadcast_to(np.asarray(top, dtype=np.float64), step.shape)
    step = step[:, None]
    level = np.minimum(np.floor(edges / step + 0.5), top[:, None])
    rest = edges - level * step
    weight = _weight(level, rest, top[:, None], clip_weight)
    integral = level * (step**3 / 12.0) + weight * rest**3 / 3.0
    width = np.diff(edges, axis=1)
    total = (counts * np.diff(integral, axis=1) / np.where(width > 0, width, 1.0)).sum(axis=1)
    # All the values of bins without width are equal: they equal the last edge, the peak.
    alone = np.where(width > 0, 0.0, counts).sum(axis=1)
    at_peak = _weight(level[:, -1], rest[:, -1], top, clip_weight) * rest[:, -1] ** 2
    return np.asarray(total + alone * at_peak)


def _weight(
    level: FloatArray, rest: FloatArray, top: FloatArray, clip_weight: float
) -> FloatArray | float:
    """clip_weight beyond the last level, 1 up to it."""
    if clip_weight == 1.0:
        return 1.0
    return np.where((level == top) & (rest > 0), clip_weight, 1.0)


def _clipping_error(density: Density, limit: FloatArray) -> FloatArray:
    """A lower bound of what clipping at limit (channels,) costs: bins count as their lower edge."""
    beyond = np.maximum(density.edges[:, :-1] - limit[:, None], 0.0)
    return np.asarray((density.counts * beyond * beyond).sum(axis=1))


def search_range(
    positive: Density,
    negative: Density | None,
    peak: FloatArray,
    bits: int,
    *,
    power_of_two: bool,
    clip_weight: float = 1.0,
) -> FloatArray:
    """The range, per channel, with the least expected error among many candidates.

    positive, negative: the halves of the histogram; negative is None for an unsigned format (what
    it does to negative values does not depend on the range). peak: (channels,), the largest range
    worth trying, 0 where nothing was seen. Returns (channels,) float64, 0 where peak is 0.

    With power_of_two the candidates are powers of two r and the step is r * 2**-value_bits, the
    format that `frac = value_bits - ceil(log2 r)` gives. Otherwise they are real numbers and the
    largest level stands exactly at r: step = r / (2**value_bits - 1). They start at the peak, so
    the result is never worse than clipping nothing; then 2**(-1/6) apart, then refined twice
    around the best one to about 1 %.
    """
    best = np.zeros_like(peak)
    block = max(1, _BLOCK_CELLS // positive.counts.shape[1])
    for start in range(0, len(peak), block):
        stop = start + block
        live = np.maximum(peak[start:stop], np.finfo(np.float32).smallest_subnormal)
        halves = [(positive.rows(start, stop), 2 ** (bits - (negative is not None)) - 1)]
        if negative is not None:
            halves.append((negative.rows(start, stop), 2 ** (bits - 1)))
        found = _search(halves, live, power_of_two, clip_weight)
        best[start:stop] = np.where(peak[start:stop] > 0, found, 0.0)
    return best


def _search(
    halves: list[tuple[Density, int]], peak: FloatArray, power_of_two: bool, clip_weight: float
) -> FloatArray:
    """`search_range` for one block of channels, all with peak > 0; halves: (density, top level)."""
    levels = halves[0][1] + 1

    def pick(candidates: Iterable[FloatArray]) -> FloatArray:
        """The cheapest of falling candidates; ties go to the larger one."""
        best, least = peak, np.full_like(peak, np.inf)
        for candidate in candidates:
            step = candidate / (levels if power_of_two else levels - 1)
            cost, clipped = np.zeros_like(peak), np.zeros_like(peak)
            for density, top in halves:
                cost += expected_error(density, step, top, clip_weight)
                clipped += _clipping_error(density, step * top)
            better = cost < least
            best, least = np.where(better, candidate, best), np.where(better, cost, least)
            if np.all(clipped >= least):  # and clipping only grows from here
                break
        return best

    if power_of_two:
        # One above the peak: the largest level of r is r - step, half of r with two signed bits.
        exponent = np.ceil(np.log2(peak)) + 1
        return pick(np.exp2(exponent - down) for down in range(_OCTAVES + 2))
    best = pick(peak * 2.0 ** (-i / _PER_OCTAVE) for i in range(_OCTAVES * _PER_OCTAVE + 1))
    reach = 1.0 / _PER_OCTAVE
    for count in _REFINEMENTS:
        offsets = np.linspace(reach, -reach, count)
        centre = best
        best = pick(np.minimum(centre * 2.0**offset, peak) for offset in offsets)
        reach = 2.0 * reach / (count - 1)
    return best
