"""Layers of which nothing is left, because no float32 step is small enough for their weights."""

from __future__ import annotations

import warnings

import keras
import numpy as np

from ..errors import QuantizationLossWarning
from ..layers import WeightedLayer
from ..numerics.weights import SMALLEST_STEP


def warn_of_vanished_weights(model: keras.Model, stacklevel: int = 2) -> None:
    """One warning about the layers of a quantized model all of whose weights became 0.

    A channel alone is no loss: next to the others of its layer it is as good as 0 already.
    """
    lost = [
        f"{layer.name!r} (at most {_largest(layer):.3g})"
        for layer in model.layers
        if isinstance(layer, WeightedLayer) and 0 < _largest(layer) < SMALLEST_STEP / 2
    ]
    if lost:
        warnings.warn(
            f"The weights of {', '.join(lost)} are too small for any float32 scale and became 0. "
            "Multiply them by a power of two and divide those of the next layer by it, or name "
            "the layer in float_layers.",
            QuantizationLossWarning,
            stacklevel=stacklevel + 1,
        )


def _largest(layer: WeightedLayer) -> float:
    """The largest float weight, as NumPy sees it, which takes no subnormal for 0."""
    return float(np.abs(keras.ops.convert_to_numpy(layer.kernel)).max(initial=0.0))
