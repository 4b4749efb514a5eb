"""Observers: what range should the integers of an activation cover?

An observer is shown batches of float activations, (n, ..., c), and keeps a small summary. From it
come the extremes (`ranges`) and the clipping range r of a format (`range`), in the units of the
activations. The format that covers r has

    frac = value_bits - ceil(log2 r)        value_bits = bits - 1 if signed, bits otherwise

and a range that is no power of two is used in full when the ratio to the next power of two goes
into the weights of the layer that reads the activation.

| kind | spec | range |
|---|---|---|
| minmax | "minmax" | the largest magnitude seen |
| moving average | "moving_average:0.9" | batch extremes averaged with a momentum, as in training |
| percentile | "percentile:99.99" | the magnitude that 99.99 % of the values do not exceed |
| mse | "mse" | the range with the least expected squared error, for the bits asked for |
| sqnr | "sqnr:3" | the same, with errors of clipping counted three times |

All but the moving average are functions of the multiset of values: the size of the batches and
their order do not change the result. All summarise every value seen; nothing is subsampled.
"""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantkeras.calibration.histogram import Histogram
from quantkeras.calibration.observer import FloatArray, Observer, Ranges, magnitude
from quantkeras.calibration.range_search import search_range
from quantkeras.errors import NonFiniteError, QuantizationError

__all__ = [
    "HistogramObserver",
    "MinMaxObserver",
    "MovingAverageObserver",
    "MseObserver",
    "Observer",
    "OBSERVER_KINDS",
    "PercentileObserver",
    "Ranges",
    "make_observer",
    "observer_template",
]


class MinMaxObserver(Observer):
    """The extremes of everything seen."""

    _low: FloatArray
    _high: FloatArray

    def fresh(self, *, per_channel: bool, label: str) -> "MinMaxObserver":
        return MinMaxObserver(per_channel=per_channel, label=label)

    def _observe(self, rows: NDArray[Any], low: FloatArray, high: FloatArray) -> None:
        first = self.batches == 0
        self._low = low if first else np.minimum(self._low, low)
        self._high = high if first else np.maximum(self._high, high)

    def _extremes(self) -> tuple[FloatArray, FloatArray]:
        return self._low, self._high

    def _clipping(self, bits: int, signed: bool, power_of_two: bool) -> FloatArray:
        return magnitude(*self._extremes(), signed)


class MovingAverageObserver(Observer):
    """Batch extremes averaged: value = momentum * value + (1 - momentum) * batch.

    The first batch sets the value. Depends on the size and order of the batches, on purpose: it
    forgets, which suits ranges that move during training.

    Args:
        momentum: 0 <= momentum < 1.
        per_channel: see Observer.
        label: see Observer.

    Raises:
        QuantizationError: for a momentum out of range.
    """

    _low: FloatArray
    _high: FloatArray

    def __init__(
        self, momentum: float = 0.9, *, per_channel: bool = False, label: str = "activations"
    ) -> None:
        super().__init__(per_channel=per_channel, label=label)
        if not 0.0 <= momentum < 1.0:
            raise QuantizationError(f"momentum is {momentum}; it must be in [0, 1).")
        self.momentum = momentum

    def fresh(self, *, per_channel: bool, label: str) -> "MovingAverageObserver":
        return MovingAverageObserver(self.momentum, per_channel=per_channel, label=label)

    def _observe(self, rows: NDArray[Any], low: FloatArray, high: FloatArray) -> None:
        first, keep = self.batches == 0, self.momentum
        self._low = low if first else keep * self._low + (1.0 - keep) * low
        self._high = high if first else keep * self._high + (1.0 - keep) * high

    def _extremes(self) -> tuple[FloatArray, FloatArray]:
        return self._low, self._high

    def _clipping(self, bits: int, signed: bool, power_of_two: bool) -> FloatArray:
        return magnitude(*self._extremes(), signed)


class HistogramObserver(Observer):
    """Base of the observers that look at the whole distribution."""

    def _observe(self, rows: NDArray[Any], low: FloatArray, high: FloatArray) -> None:
        if max(-low.min(), high.max()) > np.finfo(np.float32).max:
            raise NonFiniteError(f"{self.label}: values beyond the range of float32.")
        if not self.batches:
            self.histogram = Histogram(rows.shape[1])
        self.histogram.update(
            rows.astype(np.float32, copy=False), low.astype(np.float32), high.astype(np.float32)
        )

    def _extremes(self) -> tuple[FloatArray, FloatArray]:
        return self.histogram.extremes()


class PercentileObserver(HistogramObserver):
    """The magnitude that `percentile` per cent of the values do not exceed, zeros included.

    For a signed format the magnitude is |x|, for an unsigned one max(x, 0). Exact to the width of
    a bin, 1/64 of an octave (1/8 for layers of more than 820 channels); never above the largest
    magnitude, and exactly that for 100.

    Args:
        percentile: above 0 and at most 100.
        per_channel: see Observer.
        label: see Observer.

    Raises:
        QuantizationError: for a percentile out of range.
    """

    def __init__(
        self, percentile: float = 99.99, *, per_channel: bool = False, label: str = "activations"
    ) -> None:
        super().__init__(per_channel=per_channel, label=label)
        if not 0.0 < percentile <= 100.0:
            raise QuantizationError(f"percentile is {percentile}; it must be in (0, 100].")
        self.percentile = percentile

    def fresh(self, *, per_channel: bool, label: str) -> "PercentileObserver":
        return PercentileObserver(self.percentile, per_channel=per_channel, label=label)

    def _clipping(self, bits: int, signed: bool, power_of_two: bool) -> FloatArray:
        peak = magnitude(*self._extremes(), signed)
        positive, negative = self.histogram.density(1), self.histogram.density(-1)
        counts, edges = positive.counts, positive.edges
        total = counts.sum(axis=1)
        rank = np.ceil(self.percentile / 100.0 * (total + negative.counts.sum(axis=1)))
        if signed:
            counts = counts + negative.counts
            edges = np.maximum(edges, negative.edges)
        else:
            rank -= negative.counts.sum(axis=1)  # their magnitude is 0, the lowest
        # The answer is the rank-th smallest magnitude, so many values into its bin.
        reached = np.cumsum(counts, axis=1)
        cell = (reached >= rank[:, None]).argmax(axis=1)
        row = np.arange(len(cell))
        share = 1.0 - (reached[row, cell] - rank) / np.maximum(counts[row, cell], 1.0)
        low, high = edges[row, cell], edges[row, cell + 1]
        found = np.minimum(low + share.clip(0.0, 1.0) * (high - low), peak)
        # Nearly all 0: the percentile says nothing about the few values that there are.
        return np.asarray(np.where(cell == 0, peak, found))


class MseObserver(HistogramObserver):
    """The range with the least expected squared quantization error (see range_search).

    Args:
        clip_weight: how much more an error of clipping counts than one of rounding, >= 1.
        per_channel: see Observer.
        label: see Observer.

    Raises:
        QuantizationError: for a clip_weight out of range.
    """

    def __init__(
        self, clip_weight: float = 1.0, *, per_channel: bool = False, label: str = "activations"
    ) -> None:
        super().__init__(per_channel=per_channel, label=label)
        if not 1.0 <= clip_weight < np.inf:
            raise QuantizationError(f"clip_weight is {clip_weight}; it must be 1 or more.")
        self.clip_weight = clip_weight

    def fresh(self, *, per_channel: bool, label: str) -> "MseObserver":
        return MseObserver(self.clip_weight, per_channel=per_channel, label=label)

    def _clipping(self, bits: int, signed: bool, power_of_two: bool) -> FloatArray:
        return search_range(
            self.histogram.density(1),
            self.histogram.density(-1) if signed else None,
            magnitude(*self._extremes(), signed),
            bits,
            power_of_two=power_of_two,
            clip_weight=self.clip_weight,
        )


OBSERVER_KINDS: dict[str, Callable[[float | None], Observer]] = {
    "minmax": lambda _: MinMaxObserver(),
    "moving_average": lambda value: MovingAverageObserver(0.9 if value is None else value),
    "percentile": lambda value: PercentileObserver(99.99 if value is None else value),
    "mse": lambda _: MseObserver(),
    "sqnr": lambda value: MseObserver(3.0 if value is None else value),
}
"""Name -> how to make one from the number after the colon of a spec (None: its default)."""

_WITHOUT_NUMBER = ("minmax", "mse")


def observer_template(spec: str) -> Observer:
    """An empty observer from its spec, "name" or "name:number", as in the table above."""
    name, colon, number = spec.partition(":")
    if name not in OBSERVER_KINDS:
        near = get_close_matches(name, OBSERVER_KINDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise QuantizationError(
            f"There is no observer {name!r}; there are {', '.join(OBSERVER_KINDS)}.{hint}"
        )
    if colon and name in _WITHOUT_NUMBER:
        raise QuantizationError(f"Observer {name!r} takes no number, got {spec!r}.")
    try:
        value = float(number) if colon else None
    except ValueError:
        raise QuantizationError(
            f"Observer {spec!r}: {number!r} is not a number. Write for example 'percentile:99.9'."
        ) from None
    return OBSERVER_KINDS[name](value)


def make_observer(
    kind: str | Observer | Callable[[], Observer],
    per_channel: bool = False,
    label: str = "activations",
) -> Observer:
    """Make a new, empty observer.

    Args:
        kind: a spec ("minmax", "percentile:99.9", ...); an observer, of which the kind and settings
            are taken and which itself is left alone, so that one can serve as a pattern for many
            layers; or a function without arguments that returns one.
        per_channel: see Observer.
        label: see Observer.

    Returns:
        The observer.

    Raises:
        QuantizationError: for what makes none.
    """
    if isinstance(kind, str):
        kind = observer_template(kind)
    elif not isinstance(kind, Observer):
        if not callable(kind):
            raise QuantizationError(
                f"An observer is a name, an Observer or a function that makes one, got {kind!r}."
            )
        kind = kind()
        if not isinstance(kind, Observer):
            raise QuantizationError(f"The observer factory returned {kind!r}, not an Observer.")
    return kind.fresh(per_channel=per_channel, label=label)
