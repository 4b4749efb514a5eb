"""What training needs to know of a model that is, or contains, a quantized model."""

from __future__ import annotations

from typing import Any

import keras

from ..layers import HardwareLayer, check_quantized


def layers_of(model: keras.Model) -> list[Any]:
    """All layers of a model, those of models inside it in their place."""
    found: list[Any] = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += layers_of(layer)
        else:
            found.append(layer)
    return found


def hardware_layers_of(model: keras.Model) -> list[HardwareLayer]:
    """The quantized layers of a model; QuantizationError if there are none."""
    check_quantized(model)
    return [layer for layer in layers_of(model) if isinstance(layer, HardwareLayer)]
