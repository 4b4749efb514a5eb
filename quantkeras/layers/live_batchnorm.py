"""Batch normalization that stays alive while a layer with weights trains."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from .activation_ranges import PACKAGE
from .keras_arrays import SimArrays

Tensor = Any


@keras.saving.register_keras_serializable(PACKAGE)
class LiveBatchNorm(keras.layers.Layer):
    """The batch normalization of the layer with weights that it belongs to.

    ``gamma * (x - mean) / sqrt(variance + epsilon) + beta`` per output channel, x the product of
    the layer's kernel, beta its bias. Kernel and bias are quantized with the *moving* statistics
    folded into them, so that the integers are those of the hardware at every step; in training the
    product is then normalized by the statistics of the batch (Jacob et al. 2018, arXiv:1712.05877,
    section 3.2; Krishnamoorthi 2018, arXiv:1806.08342, section 3.2.2).

    Weights: ``gamma``, ``moving_mean``, ``moving_variance``, (c,) each; with fresh ones folding
    changes nothing.

    Args:
        momentum: part of the moving statistics that a batch leaves as it was.
        epsilon: what is added to the variance.
        **kwargs: those of a Keras layer.
    """

    def __init__(self, momentum: float = 0.97, epsilon: float = 1e-5, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, input_shape: Any) -> None:
        """input_shape: (..., output channels)."""
        shape = (input_shape[-1],)
        self.moving_mean = self.add_weight(
            name="moving_mean", shape=shape, initializer="zeros", trainable=False
        )
        self.moving_variance = self.add_weight(
            name="moving_variance", shape=shape, initializer="ones", trainable=False
        )
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones")
        self.gamma.assign(self._deviation())
        self.built = True

    def start(self, mean: Tensor, variance: Tensor) -> None:
        """Take the statistics of the product, and a gamma with which folding is neutral.

        Args:
            mean: (c,).
            variance: (c,).
        """
        self.restate(mean, variance)
        self.gamma.assign(self._deviation())

    def restate(self, mean: Tensor, variance: Tensor) -> None:
        """Take other moving statistics.

        Args:
            mean: (c,).
            variance: (c,).
        """
        self.moving_mean.assign(mean)
        self.moving_variance.assign(variance)

    def ratio(self) -> Tensor:
        """By what folding multiplies each output channel of the kernel, (c,)."""
        return self.gamma / self._deviation()

    def folded_bias(self, beta: Tensor) -> Tensor:
        """Work out the bias of the folded layer.

        Args:
            beta: the layer's own bias, (c,).

        Returns:
            The bias, (c,).
        """
        return beta - self.moving_mean * self.ratio()

    def normalized(self, accumulator: Tensor, step: Tensor) -> Tensor:
        """Normalize products with the batch's own statistics; updates the moving ones.

        Args:
            accumulator: products (n, ..., c) of the folded kernel, in units of step.
            step: value of one step, (c,).

        Returns:
            The normalized products, in the same units.
        """
        axes = tuple(range(len(accumulator.shape) - 1))
        mean, variance = ops.moments(accumulator, axes)
        self._follow(ops.stop_gradient(mean * step), ops.stop_gradient(variance * step * step))
        folded_epsilon = self.epsilon * ops.square(self._ratio_or_one())
        deviation = ops.sqrt(variance * ops.square(step) + folded_epsilon)
        return (accumulator - mean) * (ops.abs(self.gamma) / deviation)

    def _ratio_or_one(self) -> Tensor:
        """The ratio, 1 for channels that are as good as switched off; without gradient."""
        ratio = ops.stop_gradient(self.ratio())
        return ops.where(ops.abs(ratio) > keras.config.epsilon(), ratio, ops.ones_like(ratio))

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move towards the statistics of a batch, given for the folded kernel."""
        ratio = self._ratio_or_one()
        for variable, found in (
            (self.moving_mean, mean / ratio),
            (self.moving_variance, variance / ops.square(ratio)),
        ):
            variable.assign(variable * self.momentum + found * (1.0 - self.momentum))

    def _deviation(self) -> Tensor:
        return ops.sqrt(self.moving_variance + self.epsilon)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}


class NormalizingArrays(SimArrays):
    """Arithmetic of a training step that normalizes the product before the bias comes."""

    def __init__(self, batchnorm: LiveBatchNorm, step: Tensor, *carriers: str) -> None:
        super().__init__(*carriers)
        self.batchnorm = batchnorm
        self.step = step

    def add_bias(self, acc: Tensor, bias: Tensor, shift: Tensor | None) -> Tensor:
        return super().add_bias(self.batchnorm.normalized(acc, self.step), bias, shift)
