"""The contract of an observer, and the checks that all observers share.

An observer is shown batches of float activations, (n, ..., c), keeps a small summary, and answers
with their extremes and with the clipping range of a format. The kinds are in `observers`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantkeras.calibration.histogram import fold_rows
from quantkeras.errors import NonFiniteError, QuantizationError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Ranges:
    """The extremes of an activation, in its own units.

    Attributes:
        minimum: float64 of shape () or (c,).
        maximum: likewise.
    """

    minimum: FloatArray
    maximum: FloatArray

    @property
    def max_abs(self) -> FloatArray:
        """The largest magnitude, >= 0."""
        return np.asarray(np.maximum(np.abs(self.minimum), np.abs(self.maximum)))


class Observer(ABC):
    """Base of the observers: checks what comes in, and shapes what goes out.

    A subclass says what it keeps of a batch (`_observe`), its extremes (`_extremes`), its clipping
    range (`_clipping`), and how to make an empty one with the same settings (`fresh`).

    Args:
        per_channel: one range per channel of the last axis, (c,); otherwise one for the tensor, ().
        label: what is observed, for messages (a layer's name).
    """

    def __init__(self, *, per_channel: bool = False, label: str = "activations") -> None:
        self.per_channel = per_channel
        self.label = label
        self.batches = 0
        self.samples = 0
        self._channels = 0

    @abstractmethod
    def fresh(self, *, per_channel: bool, label: str) -> "Observer":
        """Make an observer of the same kind and settings that has seen nothing.

        Args:
            per_channel: as in the class.
            label: as in the class.

        Returns:
            The observer.
        """

    @abstractmethod
    def _observe(self, rows: NDArray[Any], low: FloatArray, high: FloatArray) -> None:
        """Takes in rows (n, c) of finite numbers; low, high: (c,), their extremes."""

    @abstractmethod
    def _extremes(self) -> tuple[FloatArray, FloatArray]:
        """(minimum, maximum), each (c,)."""

    @abstractmethod
    def _clipping(self, bits: int, signed: bool, power_of_two: bool) -> FloatArray:
        """The clipping ranges (c,), >= 0; 0 where nothing but 0 was seen."""

    def update(self, batch: ArrayLike) -> None:
        """Take in a batch.

        Args:
            batch: (n, ..., c) real numbers, all finite, n > 0, the same c every time.

        Raises:
            QuantizationError: for another number of channels.
            NonFiniteError: for NaN and infinity.
        """
        array = np.asarray(batch)
        rows = self._rows(array)
        if self._channels and rows.shape[1] != self._channels:
            raise QuantizationError(
                f"{self.label}: got {rows.shape[1]} channels after batches of {self._channels}. "
                "One observer serves one tensor."
            )
        low, high = _extremes_of(rows)
        bad = ~(np.isfinite(low) & np.isfinite(high))
        if np.any(bad):
            where = f" in channel {int(np.flatnonzero(bad)[0])}" if self.per_channel else ""
            raise NonFiniteError(
                f"{self.label}: NaN or infinity{where}. Check the samples and the float model: "
                "ranges can't be taken from such values."
            )
        self._observe(rows, low, high)
        self._channels = rows.shape[1]
        self.batches += 1
        self.samples += len(array)

    def ranges(self) -> Ranges:
        """The extremes seen (of the moving average: the averaged ones)."""
        self._require_data()
        low, high = self._extremes()
        return Ranges(self._shaped(low), self._shaped(high))

    def range(self, bits: int, signed: bool, *, power_of_two: bool = False) -> FloatArray:
        """Choose the clipping range for integers of a format.

        A channel that was 0 throughout has no range of its own and takes the largest of the
        other channels, so that it asks for no shift; if all were 0, the range is 1.

        Args:
            bits: width of the integers, sign included.
            signed: whether they have one; for an unsigned format only values above 0 count.
            power_of_two: choose the power of two that suits best, for activations whose ratio can't
                be folded into weights: 2**ceil(log2 r), except that mse and sqnr weigh powers of
                two against each other.

        Returns:
            The range r > 0, float64 of shape () or (c,).

        Raises:
            QuantizationError: for bits that hold no value, and where nothing was seen.
        """
        self._require_data()
        if bits < 1 + signed:
            raise QuantizationError(
                f"{self.label}: a range for {bits} {'signed' if signed else 'unsigned'} bits was "
                f"asked for; at least {1 + signed} can hold a value."
            )
        clipping = self._clipping(bits, signed, power_of_two)
        largest = clipping.max()
        clipping = np.where(clipping > 0, clipping, largest if largest > 0 else 1.0)
        if power_of_two:
            clipping = np.exp2(np.ceil(np.log2(clipping)))
        return self._shaped(clipping)

    def _rows(self, array: NDArray[Any]) -> NDArray[Any]:
        """The batch as rows (n, c); c = 1 for a per-tensor observer."""
        if array.dtype.name == "bfloat16":
            array = array.astype(np.float32)
        if array.dtype.kind not in "fiub":
            raise QuantizationError(
                f"{self.label}: expected numbers, got an array of dtype {array.dtype}."
            )
        if array.ndim < 1 + self.per_channel or array.size == 0:
            axes = "(n, ..., c)" if self.per_channel else "(n, ...)"
            raise QuantizationError(
                f"{self.label}: expected a batch {axes} with n > 0, got shape {array.shape}."
            )
        if array.dtype.kind == "b":
            array = array.astype(np.uint8)
        return array.reshape(-1, array.shape[-1] if self.per_channel else 1)

    def _shaped(self, values: FloatArray) -> FloatArray:
        return np.asarray(values if self.per_channel else values[0], dtype=np.float64)

    def _require_data(self) -> None:
        if not self.batches:
            raise QuantizationError(
                f"{self.label}: no batch was observed, so there is no range. "
                "Calibrate with at least one batch of samples."
            )


def magnitude(low: FloatArray, high: FloatArray, signed: bool) -> FloatArray:
    """The largest magnitude that a format must hold: of both signs, or of values above 0 only."""
    top = np.maximum(high, 0.0)
    return np.asarray(np.maximum(top, -low) if signed else top, dtype=np.float64)


def _extremes_of(rows: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Smallest and largest value of each column of rows (n, c); NaN where a column has one."""
    channels = rows.shape[1]
    folded = fold_rows(rows)
    low = folded.min(axis=0).reshape(-1, channels).min(axis=0)
    high = folded.max(axis=0).reshape(-1, channels).max(axis=0)
    return low.astype(np.float64), high.astype(np.float64)
