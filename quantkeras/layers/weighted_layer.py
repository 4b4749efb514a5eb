"""The mixin for hardware layers with a kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from ..numerics.layer import LayerParams, run_layer
from . import exact_ops as exact
from .arguments import as_list, deserialized, serialized
from .hardware_layer import HardwareLayer
from .keras_arrays import MagnitudeArrays, SimArrays
from .layer_numbers import LayerNumbers
from .live_batchnorm import LiveBatchNorm, NormalizingArrays
from .weight_quantizer import WeightQuantizer

Tensor = Any

FLOAT32_LIMIT = 2.0**24
BIAS_LIMIT = 2.0**22
WIDE_BIAS_LIMIT = 2.0**30
PRODUCT_LIMIT = FLOAT32_LIMIT - BIAS_LIMIT
FLOAT32_GAIN_BITS = 5


class WeightedLayer(HardwareLayer):
    """Mixin for layers with a kernel.

    In float32 every partial sum stays below 2**24 by construction: the bias takes at most 2**22,
    and should training bring ``sum |w| max |x|`` of a channel above the rest, its weight step is
    doubled until it fits. In float64 sums stay below 2**53 for any kernel that fits in memory.

    Args:
        *args: those of the stock layer.
        weight_quantizer: a WeightQuantizer (or its config); None: one of 8 bits.
        explicit_padding: ((top, bottom), (left, right)) in place of the stock padding.
        has_pad_value: the layer has a weight ``pad_value`` (c_in,), values, not zero, that stand
            around the input (they come from an input offset folded into the layer).
        batchnorm: a LiveBatchNorm (or its config) between product and bias, None if it is folded
            for good.
        carrier: ``"float32"`` or ``"float64"``, the type that carries the integer accumulator;
            :meth:`fit_weights` chooses it.
        **kwargs: those of HardwareLayer and of the stock layer.
    """

    def __init__(
        self,
        *args: Any,
        weight_quantizer: WeightQuantizer | Mapping[str, Any] | None = None,
        explicit_padding: Sequence[Sequence[int]] | None = None,
        has_pad_value: bool = False,
        batchnorm: LiveBatchNorm | Mapping[str, Any] | None = None,
        carrier: str = "float32",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.carrier = carrier
        quantizer = deserialized(weight_quantizer)
        self.weight_quantizer = quantizer or WeightQuantizer(name="weight_quantizer")
        self.explicit_padding = None
        if explicit_padding is not None:
            (top, bottom), (left, right) = explicit_padding
            self.explicit_padding = ((int(top), int(bottom)), (int(left), int(right)))
        self.has_pad_value = has_pad_value
        self.batchnorm = deserialized(batchnorm)

    # -- what the subclasses say: the layout of the kernel ---

    def channel_last(self, kernel: Tensor) -> Tensor:
        """Put all output channels of a kernel on its last axis.

        Args:
            kernel: as the stock layer has it.

        Returns:
            The kernel, (..., c).
        """
        return kernel

    def kernel_shaped(self, flat: Tensor) -> Tensor:
        """Inverse of :meth:`channel_last`.

        Args:
            flat: a kernel (..., c).

        Returns:
            The kernel as the stock layer has it.
        """
        return flat

    def core_kernel(self, kernel: Tensor) -> Tensor:
        """Arrange a kernel as the core's kind of :class:`LayerSpec` takes it.

        Args:
            kernel: as the stock layer has it.

        Returns:
            The arranged kernel.
        """
        return kernel

    def along_input(self, ratio: np.ndarray) -> np.ndarray:
        """Arrange an array per input channel so that it divides the kernel.

        Args:
            ratio: broadcastable to the unbatched input.

        Returns:
            The array, broadcastable to the kernel.
        """
        return ratio.reshape(-1, 1)

    def input_weights(self) -> np.ndarray | None:
        """(c_in,) the largest weight of each input channel, in parts of the largest of its output
        channel; None where every output channel reads one input channel only.
        """
        flat = np.abs(ops.convert_to_numpy(self.channel_last(ops.convert_to_tensor(self.kernel))))
        tops = flat.max(axis=tuple(range(flat.ndim - 1)))
        shares = (flat / np.where(tops > 0, tops, 1)).reshape(-1, *flat.shape[-2:])
        return self.by_input(shares.max(axis=0))

    def by_input(self, weights: np.ndarray) -> np.ndarray:
        """Find the largest entry of each input channel.

        Args:
            weights: (c_in of a group, c_out).

        Returns:
            (c_in,).
        """
        return np.asarray(weights.max(axis=1))

    # -- state ---

    def _build_core(self, input_shape: Any) -> None:
        super()._build_core(input_shape)
        channels = self.core_channels() or 0
        if self.has_pad_value:
            self.pad_value = self.add_weight(
                name="pad_value", shape=(input_shape[-1],), initializer="zeros", trainable=False
            )
        if self.batchnorm is not None and not self.batchnorm.built:
            self.batchnorm.build((channels,))
        if not self.weight_quantizer.built:
            self.weight_quantizer.build((int(np.prod(self.kernel.shape)) // channels, channels))

    def _build_gain(self, channels: int) -> None:
        """The gain is the weight quantizer's."""

    def flat_kernel(self) -> Tensor:
        """The float kernel that is quantized, output channels last."""
        flat = self.channel_last(ops.convert_to_tensor(self.kernel))
        return flat if self.batchnorm is None else flat * self.batchnorm.ratio()

    def folded_bias(self) -> Tensor:
        """The float bias that is quantized, (c,)."""
        bias = ops.convert_to_tensor(self.bias)
        return bias if self.batchnorm is None else self.batchnorm.folded_bias(bias)

    @property
    def qkernel(self) -> np.ndarray:
        """The integers of the kernel as the program has them: int64, in the layout of
        :class:`~quantkeras.numerics.layer.LayerParams`. Weights that are NaN have none.
        """
        return np.asarray(ops.convert_to_numpy(self.numbers().qkernel), np.int64)

    @property
    def qbias(self) -> np.ndarray | None:
        """The integers of the bias, (c_out,) int64, in units of the accumulator; None without one.

        Where batch normalization is folded or alive, its offset is part of them.
        """
        qbias = self.numbers().qbias
        return None if qbias is None else np.asarray(ops.convert_to_numpy(qbias), np.int64)

    def fit_weights(self) -> None:
        """Set the weight ranges for the present kernel."""
        kernel = ops.convert_to_numpy(self.flat_kernel())
        self.weight_quantizer.fit(kernel, self.pool_area)
        self.choose_carriers()

    def choose_carriers(self) -> None:
        """float32 where it costs nothing: no step is enlarged, no gain loses bits that count."""
        self.carrier = self.rescale_carrier = "float32"
        if not exact.float64_available():
            return
        input_lsb = self.input_formats[0].lsb()
        lsb = self._accumulator_lsb(self._aligned_lsbs([input_lsb]))
        gain = self._natural_gain(lsb, None)
        if not self._always_narrow():
            doubling = self._doubling(self._step(gain), lsb, input_lsb)
            self.carrier = "float64" if float(ops.max(doubling)) > 1 else "float32"
        quantizer = self.rescale_quantizer
        if quantizer is not None and quantizer.value_bits > 8:
            self.carrier = "float64"  # the limit of the bias would show in so many bits
        if self.carrier == "float64" or self.sums_in_float64:
            self.rescale_carrier = "float64"
        elif quantizer is not None:
            bits = float(ops.min(gain / self._gain_unit(lsb, quantizer.lsb())))
            self.rescale_carrier = "float32" if bits >= 2 ** (FLOAT32_GAIN_BITS - 1) else "float64"

    def scale_output(self, factor: np.ndarray) -> np.ndarray:
        if self.function is not None:
            return self._scale_function(factor)
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

        Args:
            ratio: broadcastable to the unbatched input.
        """
        kernel = ops.convert_to_numpy(self.kernel)
        self.kernel.assign((kernel / self.along_input(ratio)).astype(np.float32))
        if self.has_pad_value:
            self.pad_value.assign((ops.convert_to_numpy(self.pad_value) * ratio).astype(np.float32))

    def soft_call(self, inputs: Any, integers: Tensor | None = None) -> Tensor:
        """:meth:`HardwareLayer.soft_call` with real numbers in place of the kernel's integers."""
        numbers = self.numbers(True, as_list(inputs))
        if integers is not None:
            numbers.qkernel = self.core_kernel(integers)
        return self._run(numbers, inputs, True)

    # -- the integer program ---

    def _numbers(self, training: bool | None, steps: Sequence[Tensor]) -> LayerNumbers:
        numbers = super()._numbers(training, steps)
        kernel = self.weight_quantizer.integers(self.flat_kernel(), numbers.step)
        numbers.qkernel = self.core_kernel(self.kernel_shaped(kernel))
        if self.bias is not None:
            normalized = training and self.batchnorm is not None
            bias = self.bias if normalized else self.folded_bias()
            bias = bias / numbers.step / numbers.lsb  # their product may be subnormal
            numbers.qbias = exact.round_through(bias, -WIDE_BIAS_LIMIT, WIDE_BIAS_LIMIT)
        if self.has_pad_value:
            source = self.input_formats[0]
            low, high = source.limits
            lsb = numbers.input_lsbs[0]
            if len(lsb.shape) > 1:  # differs by position: the coarsest is on the grid of all
                lsb = ops.max(lsb, axis=tuple(range(len(lsb.shape) - 1)))
            rounded = ops.clip(exact.round_half_up(self.pad_value / lsb), low, high) * lsb
            numbers.qpad_value = ops.stop_gradient(rounded)
        return numbers

    def _arrays(self, numbers: LayerNumbers, training: bool | None) -> SimArrays:
        if training and self.batchnorm is not None:
            return NormalizingArrays(self.batchnorm, numbers.step, *self._carriers(training))
        return super()._arrays(numbers, training)

    def _aligned_lsbs(self, lsbs: list[Tensor]) -> list[Tensor]:
        """Input channels are summed, so they are aligned to the finest of them: a scalar."""
        return [ops.min(lsbs[0])]

    def _present_gain(
        self, lsb: Tensor, guarded: list[Tensor] | None, unit: Tensor | None
    ) -> Tensor:
        gain = self._natural_gain(lsb, unit)
        if guarded is None or self.carrier == "float64" or self._always_narrow():
            return gain
        return gain * self._doubling(self._step(gain), lsb, guarded[0])

    def _natural_gain(self, lsb: Tensor, unit: Tensor | None) -> Tensor:
        """The gain without any doubling."""
        floor = None
        if self.bias is not None:
            limit = BIAS_LIMIT if self.carrier == "float32" else WIDE_BIAS_LIMIT
            bias = ops.abs(self.folded_bias())
            floor = ops.stop_gradient(bias / (lsb * (limit * self.pool_area)))
        return self.weight_quantizer.gain(floor, unit)

    def _doubling(self, step: Tensor, lsb: Tensor, input_lsb: Tensor) -> Tensor:
        """Power of two (c,) by which a step must grow for the products to fit; 1 almost always.

        The sums are of integers in float64, so exact in any order. With the step doubled j times
        the integers are at most half a unit above their 2**j-th part each.
        """
        kernel = ops.abs(ops.stop_gradient(self.flat_kernel()))
        flat = exact.round_half_up(kernel / ops.stop_gradient(step))
        wide = "float64" if exact.float64_available() else "float32"
        area = 1 if self.sums_in_float64 else self.pool_area
        largest = ops.cast(input_lsb * float(self.input_formats[0].largest * area), wide)
        lsb = ops.cast(lsb, wide)
        weights = ops.cast(self.core_kernel(self.kernel_shaped(flat)), wide)
        arrays = MagnitudeArrays()
        sums = run_layer(self.core_spec(), LayerParams(weights=weights), [largest], arrays) / lsb
        halves = 0.5 * self.weight_quantizer.fan_in * ops.max(largest) / ops.min(lsb)
        ratio = ops.cast(sums / exact.maximum(PRODUCT_LIMIT - halves, 1.0), "float32")
        grown = 2 * exact.power_of_two_below(ops.maximum(ratio, 1.0))
        return ops.where(sums <= PRODUCT_LIMIT, ops.ones_like(grown), grown)

    def _step(self, gain: Tensor) -> Tensor:
        area = self.pool_area
        return gain if area == 1 else gain * float(area)

    def _params(self, numbers: LayerNumbers) -> LayerParams:
        params = super()._params(numbers)
        params.weights = numbers.qkernel
        params.bias = None if numbers.qbias is None else numbers.qbias * numbers.lsb
        params.pad_value = numbers.qpad_value
        return params

    def float_params(self) -> LayerParams:
        params = super().float_params()
        params.weights = self.core_kernel(self.kernel_shaped(self.flat_kernel()))
        params.bias = None if self.bias is None else self.folded_bias()
        params.pad_value = self.pad_value if self.has_pad_value else None
        return params

    def _float_gain(self, y: Tensor) -> Tensor:
        return y

    def _always_narrow(self) -> bool:
        """Whether no choice of weights can leave float32."""
        spread = self._alignment_bits()
        if spread is None:
            return False
        quantizer = self.weight_quantizer
        worst = quantizer.fan_in * quantizer.qmax * self.input_formats[0].largest
        return bool(worst * 2.0**spread + BIAS_LIMIT < FLOAT32_LIMIT)

    def _alignment_bits(self) -> int | None:
        """By how many bits alignment can enlarge an input integer; None if unbounded."""
        return self.input_formats[0].spread

    def _follow_ranges(self, inputs: Any) -> None:
        if self.weight_quantizer.range_mode == "moving":
            self.weight_quantizer.follow(self.flat_kernel(), self.pool_area)
        super()._follow_ranges(inputs)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "weight_quantizer": serialized(self.weight_quantizer),
            "explicit_padding": self.explicit_padding,
            "has_pad_value": self.has_pad_value,
            "batchnorm": serialized(self.batchnorm),
            "carrier": self.carrier,
        }
