"""The quantizer of weights: symmetric, one step per output channel, on a multiplier's grid."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from ..numerics.weights import SMALLEST_STEP, grid_value, raw_steps, search_steps
from . import exact_ops as exact
from .activation_ranges import PACKAGE, Quantizer

Tensor = Any


@keras.saving.register_keras_serializable(PACKAGE)
class WeightQuantizer(Quantizer):
    """Symmetric quantization of weights, per output channel.

    The step of channel c is ``gain[c] * area`` with ``gain = s * 2**-k``, s an integer of
    scale_bits bits with its top bit set, chosen *before* the weights are rounded to it: the rescale
    has no gain error. ``area`` is the number of elements that an average pooling behind the layer
    adds up (else 1).

    Weights: ``raw_gain`` (c,): the gain wished for, put on the grid by rounding up; ``factor``
    (c,): what training multiplies it by (1 until then).

    Args:
        bits: 2..16, sign included.
        scale_bits: width of the hardware multiplier.
        method: how :meth:`fit` finds the step, ``"max"`` (no weight saturates) or ``"mse"`` (least
            squared error).
        **kwargs: ``range_mode``, and those of a Keras layer.
    """

    def __init__(
        self, bits: int = 8, scale_bits: int = 8, method: str = "max", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.bits = bits
        self.scale_bits = scale_bits
        self.method = method

    @property
    def qmax(self) -> int:
        """Largest weight integer; the smallest is its negative."""
        return (1 << (self.bits - 1)) - 1

    def build(self, input_shape: Any) -> None:
        """input_shape: (weights per output channel, output channels)."""
        self.fan_in, channels = input_shape
        self.raw_gain = self.add_weight(
            name="raw_gain", shape=(channels,), initializer="ones", trainable=False
        )
        self.factor = self.add_weight(name="factor", shape=(channels,), initializer="ones")
        self.built = True

    def gain(self, floor: Tensor | None, unit: Tensor | None) -> Tensor:
        """Work out the multiplier ``s * 2**-k`` per channel.

        Nothing here is divided by a constant, which a graph compiler may turn into an inexact
        product.

        Args:
            floor: (c,) lower limit: below it the bias would not fit its accumulator; None: none.
            unit: power of two, (c,) or (1,), of which it must be a multiple; None: of none.

        Returns:
            The multiplier, (c,), float32, exact.
        """
        factor = ops.convert_to_tensor(self.factor)
        learned = self.range_mode == "learned"
        if learned:
            factor = exact.scale_gradient(factor, 1 / math.sqrt(self.fan_in * self.qmax))
        gain = self.raw_gain * ops.abs(factor)
        if floor is not None:
            gain = ops.maximum(gain, floor)
        return grid_above(gain, self.scale_bits, unit, learned)

    def fit(self, kernel: np.ndarray, area: int) -> None:
        """Set the gain for a kernel.

        Args:
            kernel: (..., c).
            area: elements that an average pooling behind the layer adds up, else 1.
        """
        if self.method == "mse":
            step = grid_value(*search_steps(kernel, self.bits, self.scale_bits))
        else:
            step = raw_steps(kernel, self.bits)
        self.raw_gain.assign((step / np.float32(area)).astype(np.float32))
        self.factor.assign(np.ones(step.shape, np.float32))

    def integers(self, kernel: Tensor, step: Tensor) -> Tensor:
        """Round a kernel to integers: ``round(kernel / step)``, saturated.

        Args:
            kernel: (..., c).
            step: value of one step, (c,).

        Returns:
            Integers in floats, of the same shape.
        """
        return exact.round_through(kernel / step, -self.qmax, self.qmax)

    def follow(self, kernel: Tensor, area: int) -> None:
        """Moving mode: the largest magnitude of each channel still fits.

        Args:
            kernel: (..., c).
            area: elements that an average pooling behind the layer adds up, else 1.
        """
        largest = ops.max(ops.abs(kernel), axis=tuple(range(len(kernel.shape) - 1)))
        wished = ops.stop_gradient(largest) / float(self.qmax * area)
        present = ops.convert_to_tensor(self.raw_gain)  # JAX traces no variables
        self.raw_gain.assign(ops.where(largest > 0, wished, present))

    def call(self, kernel: Tensor) -> Tensor:
        """The kernel on its grid, as values."""
        step = self.gain(None, None)
        return self.integers(kernel, step) * step

    def get_config(self) -> dict[str, Any]:
        own = {"bits": self.bits, "scale_bits": self.scale_bits, "method": self.method}
        return {**super().get_config(), **own}


def grid_above(
    x: Tensor, scale_bits: int, unit: Tensor | None = None, with_gradient: bool = False
) -> Tensor:
    """Smallest ``s * 2**-k >= x`` with s of scale_bits bits that is a multiple of ``unit``.

    unit: a power of two, or None. The gradient, if asked for, is 1. Only exact operations: a
    power-of-two table, products by powers of two, ceil. A power of two is itself. Below
    SMALLEST_STEP x counts as that; the steps of s are never formed, which may be subnormal.
    """

    def on_grid(x: Tensor) -> tuple[Tensor, Any]:
        least = SMALLEST_STEP if unit is None else ops.maximum(unit, SMALLEST_STEP)
        x = ops.maximum(x, least)
        below = exact.power_of_two_below(x)
        share: Any = 2.0 ** (1 - scale_bits)
        if unit is not None:
            share = ops.maximum(unit / below, share)

        def grad(*args: Tensor, upstream: Tensor | None = None) -> Tensor:
            return args[0] if upstream is None else upstream

        return ops.ceil(x / below / share) * share * below, grad

    return ops.custom_gradient(on_grid)(x) if with_gradient else on_grid(x)[0]
