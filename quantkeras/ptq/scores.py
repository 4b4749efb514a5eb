"""Models to be judged, and scores without labels: how near they are to the float model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..calibration.ports import input_names
from ..quantization.float_network import is_onnx
from .layer_by_layer import gathered, predicted

CEILING = 100.0
"""The score in dB of outputs without any noise."""


def as_keras(model: Any) -> keras.Model:
    """A Keras model as it is, an ONNX model as one."""
    if is_onnx(model):
        from ..onnx.onnx_models import from_onnx

        return from_onnx(model)
    return model


def agreement(
    model: keras.Model, samples: Any, num_samples: int | None = None
) -> Callable[[keras.Model], float]:
    """A function that scores any model against ``model`` on unlabelled samples.

    For a single output of two or more classes: per cent of the samples on which the largest output
    is the same. For others: the signal-to-noise ratio in dB, at most 100.
    """
    data = gathered(model, samples, num_samples)
    arrays = [data[name] for name in input_names(model)]
    true = predicted(model, arrays)
    classes = len(true) == 1 and true[0].ndim == 2 and true[0].shape[1] > 1

    def score(other: keras.Model) -> float:
        found = predicted(other, arrays)
        if classes:
            return 100.0 * float(np.mean(found[0].argmax(axis=1) == true[0].argmax(axis=1)))
        return _ratio(true, found)

    return score


def _ratio(true: list[NDArray[Any]], found: list[NDArray[Any]]) -> float:
    signal = sum(float(np.square(t, dtype=np.float64).sum()) for t in true)
    noise = sum(
        float(np.square(f - t, dtype=np.float64).sum()) for t, f in zip(true, found, strict=True)
    )
    if not noise:
        return CEILING
    return min(CEILING, 10 * math.log10(max(signal, 1e-300) / noise))
