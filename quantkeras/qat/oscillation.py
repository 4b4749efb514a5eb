"""Weights that oscillate between two integers while a model trains, and how they come to rest.

The gradient that passes the rounding of a weight near the middle between two integers pushes it
over with every few steps, to and fro, so that statistics and the final weights depend on chance
(Nagel et al. 2022, arXiv:2203.08086).
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import keras
from keras import ops

from ..errors import QuantizationError
from ..layers import WeightedLayer, hardware_layers_of

Tensor = Any


class DampenOscillations(keras.callbacks.Callback):
    """Draws weights to the middle of their integers: the paper's damping loss, eq. 8.

    It adds ``strength * sum((clip(w) - stop_gradient(q(w)))**2)`` over all quantized kernels to the
    loss, q(w) being the quantized weight. The strength rises from 0 to its value along half a
    cosine, so that weights can still choose their integers before.

    Args:
        strength: above 0.
        epochs: so many epochs it takes to rise, at least 1.
        begin: the epoch, counted from 0, in which it begins to.

    Raises:
        QuantizationError: if strength or epochs is not positive.
    """

    def __init__(self, strength: float = 1e-2, epochs: int = 1, begin: int = 0) -> None:
        super().__init__()
        if strength <= 0:
            raise QuantizationError(f"strength is {strength:g}: must be positive")
        if epochs < 1:
            raise QuantizationError(f"epochs is {epochs}: must be positive")
        self.strength = strength
        self.epochs = epochs
        self.begin = begin
        self._present: Any = None
        self._former: list[tuple[Any, Any]] = []

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Put the loss on every kernel, besides a regularizer it may have."""
        self._present = keras.Variable(0.0, trainable=False, name="damping")
        self._former = []
        for layer in hardware_layers_of(self.model):
            if isinstance(layer, WeightedLayer):
                kernel = layer.kernel
                self._former.append((kernel, kernel.regularizer))
                kernel.regularizer = _Damping(layer, self._present, kernel.regularizer)
        self.model.make_train_function(force=True)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Set the strength of this epoch."""
        part = min(max((epoch + 1 - self.begin) / self.epochs, 0.0), 1.0)
        self._present.assign(self.strength * (1 - math.cos(math.pi * part)) / 2)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Leave the kernels as they were."""
        for kernel, regularizer in self._former:
            kernel.regularizer = regularizer
        self.model.make_train_function(force=True)


class _Damping(keras.regularizers.Regularizer):
    """The damping loss of one layer, plus what else its kernel is charged for."""

    def __init__(self, layer: WeightedLayer, strength: Any, other: Any) -> None:
        self.layer = layer
        self.strength = strength
        self.other = other

    def __call__(self, kernel: Tensor) -> Tensor:
        quantizer = self.layer.weight_quantizer
        step = ops.stop_gradient(self.layer.numbers(True).step)
        weights = self.layer.flat_kernel()
        resting = ops.stop_gradient(quantizer.integers(weights, step) * step)
        limit = quantizer.qmax * step
        distance = ops.sum(ops.square(ops.clip(weights, -limit, limit) - resting))
        loss = ops.convert_to_tensor(self.strength) * distance
        return loss if self.other is None else loss + self.other(kernel)


class OscillationMeter(keras.callbacks.Callback):
    """Counts how often weights change their integer, and logs it as ``oscillating``.

    After each epoch the log has the part of the quantized weights whose integer went up and down,
    or down and up, between the last looks.

    Args:
        every: batches from one look to the next, at least 1.
        window: how many looks count, at least 2.

    Raises:
        QuantizationError: if every is not positive, or window below 2.
    """

    def __init__(self, every: int = 5, window: int = 8) -> None:
        super().__init__()
        if every < 1 or window < 2:
            raise QuantizationError("every must be positive, and window at least 2")
        self.every = every
        self.window = window
        self._looks: list[list[Any]] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Begin anew."""
        self._looks = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Look at the integers."""
        if batch % self.every:
            return
        layers = [x for x in hardware_layers_of(self.model) if isinstance(x, WeightedLayer)]
        look = [ops.convert_to_numpy(layer.numbers(True).qkernel) for layer in layers]
        self._looks = [*self._looks[1 - self.window :], look]

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Put the share into the log."""
        if logs is not None:
            logs["oscillating"] = self.share()

    def share(self) -> float:
        """Part of the weights that went to and fro in the last looks."""
        moved = total = 0
        for kernels in zip(*self._looks, strict=True):
            changes = [later - earlier for earlier, later in itertools.pairwise(kernels)]
            if changes:
                up = sum(change > 0 for change in changes)
                down = sum(change < 0 for change in changes)
                moved += int(((up > 0) & (down > 0)).sum())
            total += kernels[0].size
        return moved / total if total else 0.0
