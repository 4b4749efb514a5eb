"""What training does with the ranges of a quantized model."""

from __future__ import annotations

import keras

from .errors import QuantizationError
from .layers import RANGE_MODES, choose_carriers, quantizers_of


def set_ranges(model: keras.Model, mode: str) -> keras.Model:
    """Choose what ``fit`` does with the ranges of weights and activations; returns the model.

    mode: ``"frozen"`` keeps them as calibrated; ``"moving"`` lets activations follow a moving
    average and weights their largest magnitude; ``"learned"`` trains them (learned step sizes,
    arXiv:1902.08153). Compile the model afterwards: what is trainable changes. What the model
    computes does not.

    Raises QuantizationError for an unknown mode or a model without quantized layers.
    """
    if mode not in RANGE_MODES:
        raise QuantizationError(f"ranges {mode!r}: must be one of {', '.join(RANGE_MODES)}")
    quantizers = quantizers_of(model.layers)
    if not quantizers:
        raise QuantizationError(
            f"model {model.name!r} has no quantized layers; call quantize first"
        )
    for quantizer in quantizers:
        quantizer.range_mode = mode
    choose_carriers(model.layers)
    for compiled in ("train_function", "test_function", "predict_function"):
        setattr(model, compiled, None)
    return model
