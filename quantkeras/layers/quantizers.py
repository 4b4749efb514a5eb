"""Quantizers: the layers and sub-layers that hold ranges and put tensors on integer grids.

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
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from ..numerics.weights import grid_value, raw_steps, search_steps
from . import keras_arrays as ka
from .tensor_format import TensorFormat

Tensor = Any

PACKAGE = "quantkeras"
RANGE_MODES = ("frozen", "moving", "learned")
MOMENTUM = 0.99
HYSTERESIS = 0.25


class _Quantizer(keras.layers.Layer):
    """Common to quantizers: float32 throughout, and a range mode that sets trainability."""

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


@keras.saving.register_keras_serializable(PACKAGE)
class OutputQuantizer(_Quantizer):
    """Puts activations on a power-of-two grid, per channel or per tensor.

    bits: 2..16; signed: False after a ReLU; per_channel: one frac per last-axis channel, else one
    for the tensor; max_spread: how many bits finer than the coarsest channel a channel may be
    (its consumer shifts the others left by as much, so accumulators grow by that).

    Weights: ``log2_range`` (c,) or (1,): log2 of the clipping range in units of values;
    ``frac = value_bits - ceil(log2_range)``, never clamped. ``ratio``: what equalization
    multiplied the channel by, for reports (quantized value = float value * ratio).
    """

    def __init__(
        self,
        bits: int = 8,
        signed: bool = True,
        per_channel: bool = True,
        max_spread: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bits = bits
        self.signed = signed
        self.per_channel = per_channel
        self.max_spread = max_spread

    @property
    def qmin(self) -> int:
        """Smallest integer."""
        return -(2 ** (self.bits - 1)) if self.signed else 0

    @property
    def qmax(self) -> int:
        """Largest integer."""
        return 2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1

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
        self.elements = max(1, math.prod(d or 1 for d in input_shape[1:]))
        self.built = True

    def lsb(self) -> Tensor:
        """Value of one integer step: a power of two per channel, (c,) or (1,)."""
        exponent = ops.convert_to_tensor(self.log2_range)
        learned = self.range_mode == "learned"
        if learned:
            size = exponent.shape[0]
            factor = 1 / math.sqrt(self.elements / size * self.qmax)
            ceiling = ka.ceil_through(ka.scale_gradient(exponent, factor))
        else:
            ceiling = ops.ceil(exponent)
        if self.per_channel:
            highest = ops.stop_gradient(ops.max(ceiling))
            ceiling = ops.maximum(ceiling, highest - self.max_spread)
        exponents = ceiling - self.value_bits
        return ka.power_of_two_through(exponents) if learned else ka.power_of_two(exponents)

    def tensor_format(self, shape: tuple[int | None, ...], producer: str) -> TensorFormat:
        """Format of a tensor of that unbatched shape that the layer ``producer`` quantizes here."""
        spread = self.max_spread if self.per_channel else 0
        return TensorFormat(lambda: (self.bits, self.signed), shape, self.lsb, (producer,), spread)

    def set_range(self, largest: np.ndarray) -> None:
        """Set the clipping range; largest: (c,) or scalar, in units of values.

        A range of zero (a dead channel) takes the largest range of the others, or 1.
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

    def follow(self, values: Tensor) -> None:
        """Moving mode: let the range follow the values of one training batch."""
        axes = tuple(range(len(values.shape) - 1)) if self.per_channel else None
        seen = ops.reshape(ops.max(ops.abs(values), axis=axes), self.log2_range.shape)
        seen = ops.log2(ops.maximum(seen, 1e-30)) - HYSTERESIS
        old = ops.convert_to_tensor(self.log2_range)
        self.log2_range.assign(old + (1 - MOMENTUM) * (ops.stop_gradient(seen) - old))

    def call(self, values: Tensor) -> Tensor:
        """Round values to the grid and saturate."""
        lsb = self.lsb()
        return ka.round_through(values / lsb, self.qmin, self.qmax) * lsb

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "bits": self.bits,
            "signed": self.signed,
            "per_channel": self.per_channel,
            "max_spread": self.max_spread,
        }


@keras.saving.register_keras_serializable(PACKAGE)
class InputQuantizer(OutputQuantizer):
    """The way in: float inputs become values on the grid, ``round(x * scale / lsb) * lsb``.

    integer_input: the inputs are integers of ``bits`` already (raw images): lsb is 1, scale is 1.
    Weights: those of OutputQuantizer and ``scale`` (c,), float32, by which inputs are multiplied.
    """

    def __init__(self, integer_input: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.integer_input = integer_input

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.scale = self.add_weight(
            name="scale", shape=(input_shape[-1],), initializer="ones", trainable=False
        )
        if self.integer_input:
            self.log2_range.assign(np.full(self.log2_range.shape, self.value_bits, np.float32))

    def output_format(self, shape: tuple[int | None, ...]) -> TensorFormat:
        """Format of the output, for the layers that follow."""
        return self.tensor_format(shape, self.name)

    def float_call(self, values: Tensor) -> Tensor:
        """The unquantized meaning."""
        return values if self.integer_input else values * self.scale

    def scale_output(self, factor: np.ndarray) -> np.ndarray:
        """Multiply the output by ``factor`` (c,); returns it."""
        self.scale.assign((ops.convert_to_numpy(self.scale) * factor).astype(np.float32))
        self.ratio.assign(ops.convert_to_numpy(self.scale))
        return np.asarray(factor, np.float64)

    def call(self, values: Tensor, training: bool | None = None) -> Tensor:
        scaled = self.float_call(values)
        if training and self.range_mode == "moving" and not self.integer_input:
            self.follow(scaled)
        return super().call(scaled)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "integer_input": self.integer_input}


@keras.saving.register_keras_serializable(PACKAGE)
class Dequantizer(keras.layers.Layer):
    """Marks the way back to float. Values pass unchanged: they are floats on a grid already.

    In the integer program this is where an integer is multiplied by its float32 scale. reasons:
    why the layers behind it are float, layer name -> sentence, for reports.
    """

    def __init__(self, reasons: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.reasons = dict(reasons or {})

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "reasons": dict(self.reasons)}

    def call(self, values: Tensor) -> Tensor:
        return values

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


@keras.saving.register_keras_serializable(PACKAGE)
class WeightQuantizer(_Quantizer):
    """Symmetric quantization of weights, per output channel.

    bits: 2..8 or 16; scale_bits: width of the hardware multiplier; method: how :meth:`fit` finds
    the step, ``"max"`` (no weight saturates) or ``"mse"`` (least squared error). The step of
    channel c is ``gain[c] * area`` with ``gain = s * 2**-k``, s an integer of scale_bits bits with
    its top bit set, chosen *before* the weights are rounded to it: the rescale has no gain error.
    ``area`` is the number of elements that an average pooling behind the layer adds up (else 1).

    Weights: ``raw_gain`` (c,): the gain wished for, put on the grid by rounding up; ``factor``
    (c,): what training multiplies it by (1 until then).
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
        return 2 ** (self.bits - 1) - 1

    def build(self, input_shape: Any) -> None:
        """input_shape: (weights per output channel, output channels)."""
        self.fan_in, channels = input_shape
        self.raw_gain = self.add_weight(
            name="raw_gain", shape=(channels,), initializer="ones", trainable=False
        )
        self.factor = self.add_weight(name="factor", shape=(channels,), initializer="ones")
        self.built = True

    def gain(self, floor: Tensor | None, unit: Tensor | None) -> Tensor:
        """Multiplier ``s * 2**-k`` per channel (c,), float32, exact.

        floor: (c,) lower limit: below it the bias would not fit its accumulator. unit: power of
        two, (c,) or (1,), of which it must be a multiple. Nothing here is divided by a constant,
        which a graph compiler may turn into an inexact product.
        """
        factor = ops.convert_to_tensor(self.factor)
        learned = self.range_mode == "learned"
        if learned:
            factor = ka.scale_gradient(factor, 1 / math.sqrt(self.fan_in * self.qmax))
        gain = self.raw_gain * ops.abs(factor)
        if floor is not None:
            gain = ops.maximum(gain, floor)
        return grid_above(gain, self.scale_bits, unit, learned)

    def fit(self, kernel: np.ndarray, area: int) -> None:
        """Set the gain for a kernel (..., c)."""
        axes = (kernel.ndim - 1,)
        if self.method == "mse":
            step = grid_value(*search_steps(kernel, self.bits, axes, self.scale_bits))
        else:
            step = raw_steps(kernel, self.bits, axes)
        self.raw_gain.assign((step / np.float32(area)).astype(np.float32))
        self.factor.assign(np.ones(step.shape, np.float32))

    def integers(self, kernel: Tensor, step: Tensor) -> Tensor:
        """Integers of a kernel (..., c): ``round(kernel / step)``, saturated."""
        return ka.round_through(kernel / step, -self.qmax, self.qmax)

    def follow(self, kernel: Tensor, area: int) -> None:
        """Moving mode: the largest magnitude of each channel of a kernel (..., c) still fits."""
        largest = ops.max(ops.abs(kernel), axis=tuple(range(len(kernel.shape) - 1)))
        wished = ops.stop_gradient(largest) / float(self.qmax * area)
        self.raw_gain.assign(ops.where(largest > 0, wished, self.raw_gain))

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
    power-of-two table, products by powers of two, ceil. A power of two is itself.
    """

    def on_grid(x: Tensor) -> tuple[Tensor, Any]:
        step = ka.power_of_two_below(ops.maximum(x, 2.0**-100)) * 2.0 ** (1 - scale_bits)
        if unit is not None:
            step = ops.maximum(step, unit)

        def grad(*args: Tensor, upstream: Tensor | None = None) -> Tensor:
            return args[0] if upstream is None else upstream

        return ops.ceil(x / step) * step, grad

    return ops.custom_gradient(on_grid)(x) if with_gradient else on_grid(x)[0]
