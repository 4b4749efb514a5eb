"""Weights on their way to one of two integers: the soft rounding of AdaRound.

Nagel et al. 2020, "Up or down? Adaptive rounding for post-training quantization",
arXiv:2004.10568, equations 21 to 25. An integer is base + h with

    h = clip(sigmoid(v) * (ZETA - GAMMA) + GAMMA, 0, 1),   v learned,

and the term 1 - |2h - 1|^beta in the loss, beta falling, drives h to 0 or 1.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from ..layers import WeightedLayer

Floats = NDArray[np.float32]

ZETA, GAMMA = 1.1, -0.1
TRUST = 0.7
"""How far h begins from the real weight towards the integer that is there."""


class SoftRounding(keras.layers.Layer):
    """A quantized layer with weights between two integers each. wish: the best real kernel."""

    def __init__(self, layer: WeightedLayer, wish: Floats) -> None:
        super().__init__(dtype="float32", name=f"{layer.name}_soft")
        self._hidden = (lambda: layer,)  # not tracked: its variables are not trained here
        step, qmax = kernel_steps(layer), layer.weight_quantizer.qmax
        found = np.round(ops.convert_to_numpy(layer.kernel) / step)
        wished = np.clip(wish / step, -qmax, qmax)
        # The integer found is one of the two; the other one is on the side of the real weight.
        base = np.where(wished < found, found - 1, found).clip(-qmax, qmax - 1)
        share = TRUST * (found - base) + (1 - TRUST) * np.clip(wished - base, 0, 1)
        logit = -np.log((ZETA - GAMMA) / (np.clip(share, 0.01, 0.99) - GAMMA) - 1)
        self.base, self.found = base.astype(np.float32), found
        constant = keras.initializers.Constant
        self.logits = self.add_weight(
            name="logits", shape=found.shape, initializer=constant(logit.astype(np.float32))
        )
        self.sharpness, self.decision = (
            self.add_weight(name=name, shape=(), initializer="zeros", trainable=False)
            for name in ("sharpness", "decision")
        )
        self.built = True

    @property
    def layer(self) -> WeightedLayer:
        """The layer whose weights are rounded."""
        return self._hidden[0]()

    def shares(self) -> Any:
        """h of each weight, 0..1."""
        stretched = ops.sigmoid(self.logits) * (ZETA - GAMMA) + GAMMA
        return ops.clip(stretched, 0.0, 1.0)

    def undecided(self) -> float:
        """Part of the weights between their integers."""
        shares = ops.convert_to_numpy(self.shares())
        return float(np.mean((shares > 0.01) & (shares < 0.99)))

    def harden(self) -> float:
        """Write the nearer integers into the layer; returns the part that is new."""
        integers = self.base + (ops.convert_to_numpy(self.shares()) >= 0.5)
        self.layer.kernel.assign((integers * kernel_steps(self.layer)).astype(np.float32))
        return float(np.mean(integers != self.found))

    def call(self, inputs: Any) -> Any:
        shares = self.shares()
        distance = ops.abs(2.0 * shares - 1.0)
        self.add_loss(self.decision * ops.mean(1.0 - ops.power(distance, self.sharpness)))
        return self.layer.soft_call(inputs, ops.convert_to_tensor(self.base) + shares)

    def compute_output_spec(self, inputs: Any) -> Any:
        shape = self.layer.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, dtype="float32")


def kernel_steps(layer: WeightedLayer) -> Floats:
    """The step of each weight of a layer, in the shape of its kernel."""
    flat = ops.shape(layer.channel_last(ops.convert_to_tensor(layer.kernel)))
    steps = ops.broadcast_to(ops.convert_to_tensor(layer.numbers().step), flat)
    return np.asarray(ops.convert_to_numpy(layer.kernel_shaped(steps)), np.float32)
