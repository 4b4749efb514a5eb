"""Ranges of activations, and the sub-layers that put tensors on integer grids by them.

value = integer * 2**-frac. Unsigned integers of b bits are 0..2**b - 1, signed ones
-2**(b-1)..2**(b-1) - 1, weights -(2**(b-1) - 1)..2**(b-1) - 1.

What a range does while a model is trained is its *range mode*:

* ``"frozen"``: it stays as calibrated;
* ``"moving"``: it follows a moving average of what is seen, with a quarter of an octave of
  hysteresis, so that a format does not flip to and fro;
* ``"learned"``: it is trained: learned step size quantization (Esser et al. 2020,
  arXiv:1902.08153) with its gradient scale 1 / sqrt(elements * qmax), applied to activations in
  the logarithmic domain (Jain et al. 2020, arXiv:1903.08066) as their steps are powers of two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ..numerics.layer_shapes import fixed_shape
from . import exact_ops as exact
from .tensor_format import TensorFormat, with_lsb

Tensor = Any

PACKAGE = "quantkeras"
RANGE_MODES = ("frozen", "moving", "learned")
MOMENTUM = 0.99
HYSTERESIS = 0.25
LOWEST = -1024.0
"""An exponent below that of every range."""
PART_SPREAD = 2
"""By so many bits the channels of one part of a joined tensor may differ."""


class Quantizer(keras.layers.Layer):
    """Common to quantizers: float32 throughout, and a range mode that sets trainability.

    Args:
        range_mode: what the range does in training, one of RANGE_MODES.
        **kwargs: those of a Keras layer.
    """

    def __init__(self, range_mode: str = "frozen", **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.range_mode = range_mode

    @property
    def range_mode(self) -> str:
        """What the range does in training: one of RANGE_MODES."""
        return self._range_mode

    @range_mode.setter
    def range_mode(self, mode: str) -> None:
        if mode not in RANGE_MODES:
            raise ValueError(f"range mode {mode!r}: must be one of {', '.join(RANGE_MODES)}")
        self._range_mode = mode
        self.trainable = mode == "learned"

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "range_mode": self.range_mode, "dtype": "float32"}


def keep_frozen(layer: Any) -> None:
    """Let the variables and ranges that a layer has got rest, if it is not to be trained."""
    if layer.trainable:
        return
    layer.trainable = False
    for name in ("weight_quantizer", "table_quantizer", "output_quantizer"):
        quantizer = getattr(layer, name, None)
        if quantizer is not None:
            quantizer.trainable = False


@keras.saving.register_keras_serializable(PACKAGE)
class OutputQuantizer(Quantizer):
    """Puts activations on a power-of-two grid, per channel or per tensor.

    Weights: ``log2_range`` (c,) or (1,): log2 of the clipping range in units of values;
    ``frac = value_bits - ceil(log2_range)``, never clamped. ``ratio``: what equalization
    multiplied the channel by, for reports (quantized value = float value * ratio).
    ``least_exponent``, of a bordered one: log2 of the smallest range, whatever log2_range says.

    Args:
        bits: 2..16, sign included.
        signed: False after a ReLU.
        per_channel: one frac per last-axis channel, else one for the tensor.
        max_spread: how many bits finer than the coarsest channel a channel may be (its consumer
            shifts the others left by as much, so accumulators grow by that).
        parts: of a tensor that was joined of several, the channels of each, () if all are of one
            kind: within a part, the limit is PART_SPREAD.
        bordered: layers put something but zeros around the tensor, which the range always reaches
            (see :meth:`set_border`).
        **kwargs: ``range_mode``, and those of a Keras layer.
    """

    def __init__(
        self,
        bits: int = 8,
        signed: bool = True,
        per_channel: bool = True,
        max_spread: int = 2,
        parts: Sequence[int] = (),
        bordered: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bits = bits
        self.signed = signed
        self.per_channel = per_channel
        self.max_spread = max_spread
        self.parts = tuple(int(size) for size in parts)
        self.bordered = bordered

    @property
    def qmin(self) -> int:
        """Smallest integer."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def qmax(self) -> int:
        """Largest integer."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def value_bits(self) -> int:
        """Bits without the sign."""
        return self.bits - 1 if self.signed else self.bits

    def build(self, input_shape: Any) -> None:
        size = (input_shape[-1],) if self.per_channel else (1,)
        self.log2_range = self.add_weight(name="log2_range", shape=size, initializer="zeros")
        self.ratio = self.add_weight(
            name="ratio", shape=(input_shape[-1],), initializer="ones", trainable=False
        )
        if self.bordered:
            self.least_exponent = self.add_weight(
                name="least_exponent",
                shape=size,
                initializer=keras.initializers.Constant(LOWEST),
                trainable=False,
            )
        self.elements = max(1, math.prod(d or 1 for d in input_shape[1:]))
        self.built = True

    def exponents(self) -> Tensor:
        """log2 of :meth:`lsb`: integers in floats, (c,) or (1,)."""
        return self._range_exponents() - self.value_bits

    def _range_exponents(self) -> Tensor:
        """log2 of the smallest power of two that holds each range."""
        exponent = ops.convert_to_tensor(self.log2_range)
        channels = exponent.shape[0]
        if self.range_mode == "learned":
            factor = 1 / math.sqrt(self.elements / channels * self.qmax)
            ceiling = exact.ceil_through(exact.scale_gradient(exponent, factor))
        else:
            ceiling = ops.ceil(exponent)  # without gradient
        if self.bordered:
            # All are integers, so the sum is exact; the gradient is as if nothing was raised.
            held = ops.maximum(ceiling, self.least_exponent)
            ceiling = ceiling + ops.stop_gradient(held - ceiling)
        if channels == 1:
            return ceiling
        highest = ops.stop_gradient(ceiling) if self.range_mode == "learned" else ceiling
        return ops.maximum(ceiling, self.least_exponents(highest))

    def least_exponents(self, exponents: Tensor) -> Tensor:
        """Work out what the channels with the largest exponents leave to the others.

        Args:
            exponents: those of ranges, log2, (c,).

        Returns:
            The smallest exponents that others may have, (c,) or ().
        """
        least = ops.max(exponents) - self.max_spread
        if not self.parts:
            return least
        part = np.repeat(np.arange(len(self.parts)), self.parts)
        belongs = part == np.arange(len(self.parts))[:, None]
        tops = ops.max(ops.where(belongs, exponents, LOWEST), axis=1)
        return ops.maximum(least, ops.take(tops, part) - PART_SPREAD)

    def lsb(self) -> Tensor:
        """Value of one integer step: a power of two per channel, (c,) or (1,)."""
        learned = self.range_mode == "learned"
        power_of_two = exact.power_of_two_through if learned else exact.power_of_two
        return power_of_two(self._range_exponents(), self.value_bits)

    def tensor_format(self, shape: tuple[int | None, ...], producer: str) -> TensorFormat:
        """Describe the format of a tensor that is quantized here.

        Args:
            shape: of the tensor, unbatched.
            producer: name of the layer that quantizes it.

        Returns:
            The format, which follows the range.
        """
        spread = self.max_spread if self.per_channel else 0
        steps = fixed_shape(shape[-1:], producer) if self.per_channel else (1,)
        return TensorFormat(
            lambda: (self.bits, self.signed), shape, self.lsb, steps, (producer,), spread
        )

    def set_range(self, largest: np.ndarray) -> None:
        """Set the clipping range.

        A range of zero (a dead channel) takes the largest range of the others, or 1.

        Args:
            largest: (c,) or scalar, in units of values.
        """
        largest = np.broadcast_to(np.asarray(largest, np.float64), self.log2_range.shape)
        alive = largest[largest > 0]
        filled = np.where(largest > 0, largest, alive.max() if alive.size else 1.0)
        exponents = np.log2(filled)
        nearest = np.round(exponents)
        # A power of two must not spend a bit on float noise, nor stand on the edge of its octave,
        # where the smallest step of training would move the format.
        on_edge = np.abs(exponents - nearest) < 1e-6
        exponents = np.where(on_edge, nearest - HYSTERESIS, exponents)
        self.log2_range.assign(exponents.astype(np.float32))

    def range_of_border(self, lowest: np.ndarray, highest: np.ndarray) -> np.ndarray:
        """Work out the range that reaches from lowest to highest.

        Args:
            lowest: <= 0, (c,).
            highest: >= 0, (c,).

        Returns:
            The range, (c,) or scalar.
        """
        # Of a range r the largest value is r less a step, and half a step above it rounds to it.
        upper = highest / (1 - 2.0 ** -(self.value_bits + 1))
        reach = np.maximum(upper, -lowest) if self.signed else upper
        return np.asarray(reach if self.per_channel else reach.max())

    def set_border(self, lowest: np.ndarray, highest: np.ndarray) -> None:
        """Hold these values around the tensor, too, however the range moves.

        Only of a ``bordered`` quantizer.

        Args:
            lowest: <= 0, in units of values, (c,).
            highest: >= 0, likewise.
        """
        reach = np.maximum(self.range_of_border(lowest, highest), 2.0**-149)
        exponent = np.broadcast_to(np.ceil(np.log2(reach) - 1e-5), self.least_exponent.shape)
        self.least_exponent.assign(exponent.astype(np.float32))

    def follow(self, values: Tensor) -> None:
        """Moving mode: let the range follow the values of one training batch.

        Args:
            values: (n, ..., c).
        """
        axes = tuple(range(len(values.shape) - 1)) if self.per_channel else None
        seen = ops.reshape(ops.max(ops.abs(values), axis=axes), self.log2_range.shape)
        seen = ops.log2(ops.maximum(seen, 1e-30)) - HYSTERESIS
        old = ops.convert_to_tensor(self.log2_range)
        self.log2_range.assign(old + (1 - MOMENTUM) * (ops.stop_gradient(seen) - old))

    def call(self, values: Tensor) -> Tensor:
        """Round values to the grid and saturate."""
        lsb = self.lsb()
        rounded = exact.round_through(values / lsb, self.qmin, self.qmax)
        return with_lsb(rounded * lsb, self.lsb, lsb)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "bits": self.bits,
            "signed": self.signed,
            "per_channel": self.per_channel,
            "max_spread": self.max_spread,
            "parts": self.parts,
            "bordered": self.bordered,
        }
