"""The mixin for hardware layers with a kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ..numerics.layer import LayerParams
from . import keras_arrays as ka
from .hardware_layer import HardwareLayer, deserialized
from .numbers import LayerNumbers
from .quantizers import WeightQuantizer

Tensor = Any

FLOAT32_LIMIT = 2.0**24
BIAS_LIMIT = 2.0**22


class WeightedLayer(HardwareLayer):
    """Mixin for layers with a kernel.

    weight_quantizer: a WeightQuantizer (or its config); explicit_padding: ((top, bottom),
    (left, right)) in place of the stock padding; has_pad_value: the layer has a weight
    ``pad_value`` (c_in,), values, not zero, that stand around the input (they come from an input
    offset folded into the layer).
    """

    def __init__(
        self,
        *args: Any,
        weight_quantizer: WeightQuantizer | Mapping[str, Any] | None = None,
        explicit_padding: Sequence[Sequence[int]] | None = None,
        has_pad_value: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        quantizer = deserialized(weight_quantizer)
        self.weight_quantizer = quantizer or WeightQuantizer(name="weight_quantizer")
        self.explicit_padding = None
        if explicit_padding is not None:
            (top, bottom), (left, right) = explicit_padding
            self.explicit_padding = ((int(top), int(bottom)), (int(left), int(right)))
        self.has_pad_value = has_pad_value

    # -- what the subclasses say: the layout of the kernel -----------------------------------------

    def channel_last(self, kernel: Tensor) -> Tensor:
        """The kernel with all output channels on its last axis."""
        return kernel

    def kernel_shaped(self, flat: Tensor) -> Tensor:
        """Inverse of :meth:`channel_last`."""
        return flat

    def along_input(self, ratio: np.ndarray) -> np.ndarray:
        """An array per input channel in a shape that divides the kernel."""
        return ratio.reshape(-1, 1)

    def weight_sums(self, weights: Tensor, largest: Tensor) -> Tensor:
        """Per output channel: sum of weight times the largest input; both non-negative."""
        axes = tuple(range(len(weights.shape) - 1))
        if len(largest.shape) == 1:
            weights = weights * ops.reshape(largest, (-1, 1))
        else:
            weights = weights * ops.max(largest)
        return ops.sum(weights, axis=axes)

    def fit_lsb(self, lsb: Tensor) -> Tensor:
        """The accumulator's lsb in a shape that divides the kernel."""
        return lsb

    # -- state -----------------------------------------------------------------------------------------

    def _build_core(self, input_shape: Any) -> None:
        super()._build_core(input_shape)
        channels = self.core_channels()
        if self.has_pad_value:
            self.pad_value = self.add_weight(
                name="pad_value", shape=(input_shape[-1],), initializer="zeros", trainable=False
            )
        if not self.weight_quantizer.built:
            self.weight_quantizer.build((int(np.prod(self.kernel.shape)) // channels, channels))

    def _build_gain(self, channels: int) -> None:
        """The gain is the weight quantizer's."""

    def fit_weights(self) -> None:
        """Set the weight ranges for the present kernel."""
        kernel = ops.convert_to_numpy(self.channel_last(ops.convert_to_tensor(self.kernel)))
        self.weight_quantizer.fit(kernel, self.pool_area)

    def scale_output(self, factor: np.ndarray) -> np.ndarray:
        flat = ops.convert_to_numpy(self.channel_last(ops.convert_to_tensor(self.kernel)))
        scaled = (flat * factor).astype(np.float32)
        self.kernel.assign(self.kernel_shaped(ops.convert_to_tensor(scaled)))
        variables = [self.output_quantizer.ratio]
        if self.bias is not None:
            variables.append(self.bias)
        if self.clips:
            variables.append(self.clip_value)
        for variable in variables:
            variable.assign((ops.convert_to_numpy(variable) * factor).astype(np.float32))
        return np.asarray(factor, np.float64)

    def divide_input(self, ratio: np.ndarray) -> None:
        """Divide the kernel along its input channels, as the input was multiplied by ``ratio``.

        ratio: broadcastable to the unbatched input.
        """
        kernel = ops.convert_to_numpy(self.kernel)
        self.kernel.assign((kernel / self.along_input(ratio)).astype(np.float32))
        if self.has_pad_value:
            self.pad_value.assign((ops.convert_to_numpy(self.pad_value) * ratio).astype(np.float32))

    # -- the integer program -----------------------------------------------------------------------------

    def numbers(self) -> LayerNumbers:
        numbers = super().numbers()
        flat = self.channel_last(ops.convert_to_tensor(self.kernel))
        numbers.qkernel = self.kernel_shaped(self.weight_quantizer.integers(flat, numbers.step))
        if self.bias is not None:
            numbers.qbias = ka.round_through(
                self.bias / (numbers.step * numbers.lsb), -2.0**30, 2.0**30
            )
        if self.has_pad_value:
            source = self.input_formats[0]
            low, high = source.limits
            lsb = numbers.input_lsbs[0]
            rounded = ops.clip(ka.round_half_up(self.pad_value / lsb), low, high) * lsb
            numbers.qpad_value = ops.stop_gradient(rounded)
        return numbers

    def _accumulator_lsb(self, lsbs: list[Tensor]) -> Tensor:
        """Input channels are summed, so they are aligned to the finest of them: a scalar."""
        return ops.min(lsbs[0])

    def _present_gain(self, lsb: Tensor) -> Tensor:
        floor = None
        if self.bias is not None:
            floor = ops.stop_gradient(ops.abs(self.bias) / (lsb * (BIAS_LIMIT * self.pool_area)))
        return self.weight_quantizer.gain(floor)

    def _step(self, gain: Tensor) -> Tensor:
        return gain * float(self.pool_area)

    def _params(self, numbers: LayerNumbers) -> LayerParams:
        params = super()._params(numbers)
        params.input_shifts = ()
        params.weights = numbers.qkernel / self.fit_lsb(numbers.lsb)
        params.bias = numbers.qbias
        params.pad_value = numbers.qpad_value
        return params

    def float_params(self) -> LayerParams:
        params = super().float_params()
        params.weights = ops.convert_to_tensor(self.kernel)
        params.bias = None if self.bias is None else ops.convert_to_tensor(self.bias)
        params.pad_value = self.pad_value if self.has_pad_value else None
        return params

    def _float_gain(self, y: Tensor) -> Tensor:
        return y

    def _run(self, numbers: LayerNumbers, xs: Sequence[Tensor], training: bool | None) -> Tensor:
        """In float32 where the bound of the present weights allows it, else in float64."""
        params = self._params(numbers)
        if training or not ka.float64_available() or self._always_narrow():
            return self._run_in("float32", params, numbers, xs)
        return ops.cond(
            self._accumulator_bound(numbers, params) < FLOAT32_LIMIT,
            lambda: self._run_in("float32", params, numbers, xs),
            lambda: self._run_in("float64", params, numbers, xs),
        )

    def _accumulator_bound(self, numbers: LayerNumbers, params: LayerParams) -> Tensor:
        """Upper bound of every partial sum: the greatest ``sum |w| max |x| + |bias|``, float32.

        A float32 sum of n non-negative terms is too small by at most a factor 1 + n * 2**-24; the
        last factor covers that for fan-ins up to 2**16.
        """
        largest = float(self.input_formats[0].largest) * numbers.input_lsbs[0]
        weights = ops.stop_gradient(ops.abs(params.weights))
        bound = ops.max(self.weight_sums(weights, largest))
        if numbers.qbias is not None:
            bound = bound + ops.max(ops.stop_gradient(ops.abs(numbers.qbias)))
        return bound * (1 + 2.0**-7)

    def _always_narrow(self) -> bool:
        """Whether no choice of weights can leave float32."""
        spread = self._alignment_bits()
        if spread is None:
            return False
        quantizer = self.weight_quantizer
        worst = quantizer.fan_in * quantizer.qmax * self.input_formats[0].largest
        return worst * 2.0**spread + BIAS_LIMIT < FLOAT32_LIMIT

    def _alignment_bits(self) -> int | None:
        """By how many bits alignment can enlarge an input integer; None if unbounded."""
        return self.input_formats[0].spread

    def _follow_ranges(self, inputs: Any) -> None:
        if self.weight_quantizer.range_mode == "moving":
            kernel = self.channel_last(ops.convert_to_tensor(self.kernel))
            self.weight_quantizer.follow(kernel, self.pool_area)
        super()._follow_ranges(inputs)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "weight_quantizer": keras.saving.serialize_keras_object(self.weight_quantizer),
            "explicit_padding": self.explicit_padding,
            "has_pad_value": self.has_pad_value,
        }
