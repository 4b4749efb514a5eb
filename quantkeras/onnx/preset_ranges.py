"""Ranges of an encodings file as observers, to quantize a model by."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..calibration.observer import FloatArray, Observer, magnitude
from ..errors import QuantizationError
from .encodings import Encoding, read_encodings


def encoding_observers(
    source: str | os.PathLike[str] | Mapping[str, Any], names: Mapping[str, str] | None = None
) -> dict[str, Observer]:
    """Make observers that answer with the ranges of an encodings file: for `quantize`.

    ``quantize(model, qparams, samples, observer=encoding_observers(path))`` takes the formats of
    the activations from the file; layers that it does not name are observed on the samples.

    Args:
        source: the file, or its contents.
        names: layer of the quantized model -> tensor of the file, where they are called
            differently; None: alike.

    Returns:
        Layer -> observer.

    Raises:
        QuantizationError: where ``names`` has a tensor that is not in the file.
        ModelFileError: for a file that is missing or no such file.
    """
    found = {k: e for k, e in read_encodings(source).items() if not e.is_param}
    wanted = dict(names or {}) or {name: name for name in found}
    missing = sorted(set(wanted.values()) - set(found))
    if missing:
        raise QuantizationError(f"no encodings of {', '.join(map(repr, missing))} in the file")
    return {layer: EncodedRange(found[tensor]) for layer, tensor in wanted.items()}


class EncodedRange(Observer):
    """Sees activations and answers with the range of an encoding all the same."""

    def __init__(
        self, encoding: Encoding, *, per_channel: bool = False, label: str = "activations"
    ) -> None:
        super().__init__(per_channel=per_channel, label=label)
        self.encoding = encoding
        self._count = 1

    def fresh(self, *, per_channel: bool, label: str) -> EncodedRange:
        """For another layer, or by channel."""
        return EncodedRange(self.encoding, per_channel=per_channel, label=label)

    def _observe(self, rows: npt.NDArray[Any], low: FloatArray, high: FloatArray) -> None:
        channels = np.atleast_1d(self.encoding.step).size
        if self.per_channel and channels not in (1, len(low)):
            raise QuantizationError(
                f"{self.label}: {len(low)} channels, and the encoding {self.encoding.name!r} has "
                f"{channels}"
            )
        self._count = len(low)

    def _extremes(self) -> tuple[FloatArray, FloatArray]:
        low, high = np.atleast_1d(self.encoding.low), np.atleast_1d(self.encoding.high)
        if not self.per_channel:
            low, high = low.min(keepdims=True), high.max(keepdims=True)
        return np.broadcast_to(low, (self._count,)), np.broadcast_to(high, (self._count,))

    def _clipping(self, bits: int, signed: bool, power_of_two: bool) -> FloatArray:
        from ..calibration.filled_ranges import HEADROOM

        largest = magnitude(*self._extremes(), signed)
        # Values are clipped where the file says, without the headroom that observed ranges get.
        return largest if power_of_two else largest * HEADROOM
