"""Going down to few bits step by step while a model trains."""

from __future__ import annotations

from typing import Any

import keras

from ..errors import QuantizationError
from ..layers import (
    OutputQuantizer,
    WeightedLayer,
    choose_carriers,
    forget_compiled,
    hardware_layers_of,
    layers_of,
)


class ProgressiveBits(keras.callbacks.Callback):
    """Begins a training with more bits than the model has and goes down to them.

    For the first ``epochs`` epochs each weight and activation has at least as many bits as a line
    from ``start`` down says, and its own from then on; the model is what it was meant to be at the
    end of the training in any case. A network that is far from its float original at once learns
    less than one that is led there (Zhuang et al. 2018, arXiv:1711.00205).

    Args:
        start: bits of the first epoch, 3 to 8.
        epochs: so many the line takes, at least 1.

    Raises:
        QuantizationError: if start is not between 3 and 8, or epochs is not positive.
    """

    def __init__(self, start: int = 8, epochs: int = 3) -> None:
        super().__init__()
        if not 3 <= start <= 8:
            raise QuantizationError(f"start has {start} bits: must be 3 to 8")
        if epochs < 1:
            raise QuantizationError(f"epochs is {epochs}: must be positive")
        self.start = start
        self.epochs = epochs
        self._targets: list[tuple[Any, int]] = []

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Note the bits that the model is meant to have."""
        layers = hardware_layers_of(self.model)
        quantizers: list[Any] = [
            layer.output_quantizer
            for layer in layers
            if isinstance(layer.output_quantizer, OutputQuantizer)
        ]
        quantizers += [layer.weight_quantizer for layer in layers if hasattr(layer, "kernel")]
        self._targets = [(quantizer, quantizer.bits) for quantizer in quantizers]
        self._lowest = min(bits for _, bits in self._targets)

    def least_bits(self, epoch: int) -> int:
        """Work out the bits that everything has at least in an epoch.

        Args:
            epoch: counted from 0.

        Returns:
            The bits, not below the fewest that the model is meant to have.
        """
        lowest = self._lowest
        if epoch >= self.epochs or self.start <= lowest:
            return lowest
        return self.start - (self.start - lowest) * epoch // self.epochs

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Set the bits of this epoch."""
        self._set(self.least_bits(epoch))

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Set the bits that the model is meant to have."""
        self._set(self._lowest)

    def _set(self, least: int) -> None:
        wanted = [(quantizer, max(bits, least)) for quantizer, bits in self._targets]
        if all(quantizer.bits == bits for quantizer, bits in wanted):
            return
        for quantizer, bits in wanted:
            quantizer.bits = bits
        layers = layers_of(self.model)
        for layer in layers:
            if isinstance(layer, WeightedLayer):
                layer.fit_weights()
        choose_carriers(layers)
        forget_compiled(self.model)
        self.model.make_train_function(force=True)
