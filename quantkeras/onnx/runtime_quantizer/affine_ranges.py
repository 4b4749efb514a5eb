"""Ranges (low, high) of activations for integers with a zero point, from streaming summaries.

The observers of `quantkeras.calibration` collect: they keep extremes, or a histogram of bounded
size that does not depend on the batches. What their own ranges leave open is the zero point: here
low and high are chosen apart, and both signs share one step.

| method | range |
|---|---|
| minmax | the extremes |
| percentile:99.9 | without the 0.05 % smallest and the 0.05 % largest values |
| mse | the least expected squared error |
| entropy | the least Kullback-Leibler divergence between the values before and after |
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ...calibration.histogram import Density, Histogram
from ...calibration.observers import (
    HistogramObserver,
    MinMaxObserver,
    MseObserver,
    Observer,
    PercentileObserver,
)
from ...calibration.range_search import expected_error
from ...errors import QuantizationError
from .number_types import NumberType

METHODS = ("minmax", "percentile", "entropy", "mse")

_PER_OCTAVE, _OCTAVES = 4, 10
"""Candidates for an end of a range: 2**(-i / 4) of the extreme, down to a thousandth."""

_MOST_CLIPPED = 0.05
"""Share of the values beyond a threshold up to which their divergence says something."""

Range = tuple[float, float]
Ends = NDArray[np.float64]


def make_collector(method: str, label: str) -> Observer:
    """An empty observer of one tensor for a method, "name" or "percentile:number".

    Raises QuantizationError for a method that there is not.
    """
    name, colon, number = method.partition(":")
    if name not in METHODS:
        near = get_close_matches(name, METHODS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise QuantizationError(
            f"There is no calibration method {name!r}; there are {', '.join(METHODS)}.{hint}"
        )
    if colon and name != "percentile":
        raise QuantizationError(f"Calibration method {name!r} takes no number, got {method!r}.")
    if name == "minmax":
        return MinMaxObserver(label=label)
    if name != "percentile":
        return MseObserver(label=label)
    try:
        return PercentileObserver(float(number) if colon else 99.99, label=label)
    except ValueError as error:
        raise QuantizationError(f"Calibration method {method!r}: {error}") from error


def affine_range(collector: Observer, method: str, kind: NumberType, symmetric: bool) -> Range:
    """The range (low <= 0, high >= 0) that integers of the type should cover.

    symmetric: the zero point will lie in the middle of the type, so only the larger end counts.
    """
    extremes = collector.ranges()
    low, high = min(float(extremes.minimum), 0.0), max(float(extremes.maximum), 0.0)
    if not isinstance(collector, HistogramObserver) or low == high:
        return low, high
    if method == "entropy":
        return _least_divergence(collector.histogram, low, high, kind, symmetric)
    if symmetric:
        reach = float(collector.range(kind.bits, signed=True))
        return -reach, reach
    if isinstance(collector, PercentileObserver):
        return _between_percentiles(collector.histogram, low, high, collector.percentile)
    return _least_error(collector.histogram, low, high, kind)


def _between_percentiles(histogram: Histogram, low: float, high: float, percentile: float) -> Range:
    """Without (100 - percentile) / 2 per cent of the values at each end."""
    halves = [histogram.density(sign) for sign in (1, -1)]
    cut = (1.0 - percentile / 100.0) / 2.0 * sum(float(half.counts.sum()) for half in halves)

    def end(half: Density, extreme: float) -> float:
        """The magnitude that `cut` values exceed, counted from the largest down."""
        counts, edges = half.counts[0], half.edges[0]
        beyond = np.cumsum(counts[::-1])[::-1]  # values in this bin and above
        inside = np.flatnonzero(beyond > cut)
        # Nearly all of them 0: the percentile says nothing about the few that are not.
        if not len(inside) or inside[-1] == 0:
            return extreme
        cell = inside[-1]
        share = (beyond[cell] - cut) / counts[cell]
        return min(float(edges[cell] + share * (edges[cell + 1] - edges[cell])), extreme)

    return -end(halves[1], -low), end(halves[0], high)


def _least_error(histogram: Histogram, low: float, high: float, kind: NumberType) -> Range:
    """Ends in turn, each searched with the other held, until neither moves."""
    positive, negative = (_without_empty(histogram.density(sign)) for sign in (1, -1))

    def costs(lower: Ends, upper: Ends) -> Ends:
        """The expected error of each pair of ends; of one side there is but one."""
        pairs = [kind.params(*pair) for pair in np.broadcast(lower, upper)]
        step = np.array([float(pair.scale) for pair in pairs])
        zero = np.array([float(pair.zero_point) for pair in pairs])
        above = expected_error(positive, step, kind.qmax - zero)
        return above + expected_error(negative, step, zero - kind.qmin)

    lower, upper = low, high
    for _ in range(4):
        before = lower, upper
        lower = _cheapest(lower, low, partial(costs, upper=np.array([upper])))
        upper = _cheapest(upper, high, partial(costs, np.array([lower])))
        if (lower, upper) == before:
            break
    return lower, upper


def _without_empty(half: Density) -> Density:
    """The same, its empty bins joined with their neighbours: most bins of most tensors are."""
    counts, edges = half.counts[0], half.edges[0]
    joins = np.flatnonzero((counts[:-1] > 0) | (counts[1:] > 0)) + 1
    starts = np.concatenate([[0], joins])
    return Density(np.add.reduceat(counts, starts)[None], np.append(edges[starts], edges[-1])[None])


def _cheapest(current: float, extreme: float, costs: Callable[[Ends], Ends]) -> float:
    """The end with the least cost: of all candidates, and then between those around it."""
    if extreme == 0.0:
        return extreme
    octaves = -np.arange(_OCTAVES * _PER_OCTAVE + 1) / _PER_OCTAVE
    candidates = np.append(current, extreme * 2.0**octaves)
    best = candidates[costs(candidates).argmin()]
    for reach in (1.0 / _PER_OCTAVE, 0.25 / _PER_OCTAVE):
        around = best * 2.0 ** np.linspace(reach, -reach, 9)
        candidates = np.append(best, around[np.abs(around) <= abs(extreme)])
        best = candidates[costs(candidates).argmin()]
    return float(best)


def _least_divergence(
    histogram: Histogram, low: float, high: float, kind: NumberType, symmetric: bool
) -> Range:
    """One threshold for both signs, with the least divergence of what clipping and rounding leave.

    P: the values, those beyond the threshold moved into the last bin. Q: the values within it, each
    level's spread over its bins that are not empty. The zero bin takes no part: 0 stays 0 whatever
    the scale, and its weight after a ReLU would hide everything else. Where next to all is clipped,
    P and Q agree on the little that is left: such thresholds are not looked at.
    """
    centres, counts, widths = _signed_bins(histogram)
    peak = max(-low, high)
    best, least = peak, np.inf
    steps = np.arange(2 * _OCTAVES * _PER_OCTAVE + 1) / (2 * _PER_OCTAVE)
    for threshold in peak * 2.0**-steps:
        lower, upper = max(low, -threshold), min(high, threshold)
        params = kind.params(lower, upper, symmetric)
        divergence = _divergence(centres, counts, widths, lower, upper, float(params.scale))
        if divergence < least:
            best, least = threshold, divergence
    return max(low, -best), min(high, best)


def _signed_bins(
    histogram: Histogram,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(centres, counts, widths) of the bins with values in them, rising, the zero bin left out."""
    parts = []
    for sign in (-1, 1):
        half = histogram.density(sign)
        edges, counts = half.edges[0], half.counts[0]
        # Values that are all equal have a bin without width: any small width will do.
        widths = np.maximum(np.diff(edges), edges[1:] * 2.0**-30)
        part = np.stack([sign * (edges[:-1] + edges[1:]) / 2, counts, widths])[:, 1:]
        parts.append(part[:, part[1] > 0][:, ::sign])
    centres, counts, widths = np.concatenate(parts, axis=1)
    return centres, counts, widths


def _divergence(
    centres: NDArray[np.float64],
    counts: NDArray[np.float64],
    widths: NDArray[np.float64],
    lower: float,
    upper: float,
    step: float,
) -> float:
    inside = np.flatnonzero((centres >= lower) & (centres <= upper))
    within, shares = counts[inside], widths[inside]
    if within.sum() < (1.0 - _MOST_CLIPPED) * counts.sum():
        return float(np.inf)
    first, last = inside[0], inside[-1] + 1
    clipped = within.copy()
    clipped[0] += counts[:first].sum()
    clipped[-1] += counts[last:].sum()
    _, level = np.unique(np.floor(centres[inside] / step + 0.5), return_inverse=True)
    spread = (np.bincount(level, within) / np.bincount(level, shares))[level] * shares
    p, q = clipped / clipped.sum(), spread / spread.sum()
    return float((p * np.log(p / q)).sum())
