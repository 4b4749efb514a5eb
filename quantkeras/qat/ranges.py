"""What training does with the ranges of a quantized model."""

from __future__ import annotations

import keras

from ..errors import QuantizationError
from ..layers import (
    RANGE_MODES,
    Dequantizer,
    check_quantized,
    choose_carriers,
    forget_compiled,
    layers_of,
    quantizers_of,
)
from ..layers.activation_ranges import keep_frozen
from ..quantization.training_traits import UNTRAINED


def set_ranges(model: keras.Model, mode: str) -> keras.Model:
    """Choose what ``fit`` does with the ranges of weights and activations.

    Compile the model afterwards: what is trainable changes. What the model computes does not.

    Args:
        model: a quantized model, which is changed.
        mode: ``"frozen"`` keeps them as calibrated; ``"moving"`` lets activations follow a moving
            average and weights their largest magnitude; ``"learned"`` trains them (learned step
            sizes, arXiv:1902.08153).

    Returns:
        The model that was given.

    Raises:
        QuantizationError: for an unknown mode or a model without quantized layers.
    """
    if mode not in RANGE_MODES:
        raise QuantizationError(f"ranges {mode!r}: must be one of {', '.join(RANGE_MODES)}")
    check_quantized(model)
    layers = layers_of(model)
    for quantizer in quantizers_of(layers):
        quantizer.range_mode = mode
    for layer in layers:
        keep_frozen(layer)
        if isinstance(layer, Dequantizer) and mode != "frozen":
            layer.hints = tuple(hint for hint in layer.hints if hint != UNTRAINED)
    choose_carriers(layers)
    forget_compiled(model)
    return model


class FreezeRanges(keras.callbacks.Callback):
    """Freezes the ranges of the model that is trained, for the end of a training.

    While ranges move, weights see other grids with each step; some epochs with fixed ones let them
    settle, and keep the formats that the user has seen.

    Args:
        at_epoch: the epoch, counted from 0, that begins with frozen ranges.

    Raises:
        QuantizationError: on JAX, where what is trainable is fixed for a whole ``fit``.
    """

    def __init__(self, at_epoch: int) -> None:
        super().__init__()
        if keras.backend.backend() == "jax":
            raise QuantizationError(
                "FreezeRanges changes what is trainable within one fit, which Keras cannot do on "
                "JAX: call fit, then set_ranges(model, 'frozen'), compile, and fit again"
            )
        self.at_epoch = at_epoch

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Freeze, once."""
        if epoch == self.at_epoch:
            set_ranges(self.model, "frozen")
            self.model.make_train_function(force=True)
