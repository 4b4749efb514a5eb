"""The quantized layers: one class per hardware layer, a stock Keras layer plus a mixin each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from ..numerics.layer import LayerSpec, Pool, Window
from . import keras_arrays as ka
from .hardware_layer import HardwareLayer
from .quantizers import PACKAGE, InputQuantizer
from .weighted_layer import FLOAT32_LIMIT, WeightedLayer

Tensor = Any

register = keras.saving.register_keras_serializable


@register(PACKAGE)
class QuantizedConv2D(WeightedLayer, keras.layers.Conv2D):
    """Conv2D [max pool] [ReLU] [average pool] on integers. Arguments of Conv2D and the mixins."""

    def core_spec(self) -> LayerSpec:
        padding = self.explicit_padding or self.padding
        window = Window(self.kernel_size, self.strides, padding, self.dilation_rate)
        return LayerSpec("conv2d", window, groups=self.groups)

    def core_channels(self) -> int:
        return self.filters

    def along_input(self, ratio: np.ndarray) -> np.ndarray:
        by_group = np.broadcast_to(ratio, (self._input_shapes[0][-1],)).reshape(self.groups, -1)
        return np.repeat(by_group.T, self.filters // self.groups, axis=1)

    def weight_sums(self, weights: Tensor, largest: Tensor) -> Tensor:
        return super().weight_sums(weights, largest if self.groups == 1 else ops.max(largest))


@register(PACKAGE)
class QuantizedDepthwiseConv2D(WeightedLayer, keras.layers.DepthwiseConv2D):
    """DepthwiseConv2D [max pool] [ReLU] [average pool] on integers; channels keep their fracs."""

    def core_spec(self) -> LayerSpec:
        padding = self.explicit_padding or self.padding
        window = Window(self.kernel_size, self.strides, padding, self.dilation_rate)
        return LayerSpec("depthwise_conv2d", window)

    def core_channels(self) -> int:
        return self._input_shapes[0][-1] * self.depth_multiplier

    def channel_last(self, kernel: Tensor) -> Tensor:
        return ops.reshape(kernel, (*self.kernel_size, self.core_channels()))

    def kernel_shaped(self, flat: Tensor) -> Tensor:
        return ops.reshape(flat, self.kernel.shape)

    def weight_sums(self, weights: Tensor, largest: Tensor) -> Tensor:
        if len(largest.shape) > 1:
            largest = ops.max(largest)
        return ops.sum(weights * ops.reshape(largest, (-1, 1)), axis=(0, 1))

    def _accumulator_lsb(self, lsbs: list[Tensor]) -> Tensor:
        """One per output channel, (c * m,), or (1,)."""
        lsb = lsbs[0]
        if len(lsb.shape) > 1:  # the format differs by position: align those of one channel
            lsb = ops.min(lsb, axis=tuple(range(len(lsb.shape) - 1)))
        return ops.repeat(lsb, self.depth_multiplier) if lsb.shape[0] > 1 else lsb

    def _alignment_bits(self) -> int | None:
        by_position = len(self.input_formats[0].lsb().shape) > 1
        return super()._alignment_bits() if by_position else 0


@register(PACKAGE)
class QuantizedDense(WeightedLayer, keras.layers.Dense):
    """Dense [ReLU] on integers. Arguments of Dense and the mixins."""

    def core_spec(self) -> LayerSpec:
        return LayerSpec("dense")

    def core_channels(self) -> int:
        return self.units


@register(PACKAGE)
class QuantizedAdd(HardwareLayer, keras.layers.Add):
    """Add [ReLU] [average pool]: the inputs are shifted to a common frac and summed.

    carrier: the type of the sum. How far the steps of the inputs lie apart is not bounded, hence
    float64, unless :meth:`choose_carriers` finds them close and they cannot move.
    """

    def __init__(self, *args: Any, carrier: str | None = None, **kwargs: Any) -> None:
        widest = "float64" if ka.float64_available() else "float32"
        self.carrier = carrier or widest
        super().__init__(*args, **{"rescale_carrier": widest, **kwargs})

    def core_spec(self) -> LayerSpec:
        return LayerSpec("add")

    def choose_carriers(self, ranges_can_move: bool) -> None:
        """float32 for sums and rescale where the present formats prove it exact."""
        if not ka.float64_available():
            return
        self.carrier = self.rescale_carrier = "float64"
        if ranges_can_move or self.output_quantizer is None:
            return
        formats = self.input_formats
        lsbs = [f.lsb() for f in formats]
        lsb = self._accumulator_lsb(lsbs)
        largest = sum(
            float(ops.max(x / lsb)) * f.largest for x, f in zip(lsbs, formats, strict=True)
        )
        if largest >= FLOAT32_LIMIT:
            return
        self.carrier = "float32"
        unit = self.output_quantizer.lsb() * ka.float32_unit(self.output_quantizer.value_bits) / lsb
        whole = self.gain / unit
        if not self.sums_in_float64 and bool(ops.all(ops.equal(whole, ops.floor(whole)))):
            self.rescale_carrier = "float32"

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "carrier": self.carrier}


@register(PACKAGE)
class QuantizedConcatenate(HardwareLayer, keras.layers.Concatenate):
    """Concatenate; each channel is shifted from its own format into the output's."""

    def core_spec(self) -> LayerSpec:
        return LayerSpec("concat", axis=self.axis if self.axis < 0 else self.axis - 1)

    def _accumulator_lsb(self, lsbs: list[Tensor]) -> Tensor:
        if not self.joins_channels:
            return super()._accumulator_lsb(lsbs)
        parts = [
            ops.broadcast_to(super(QuantizedConcatenate, self)._accumulator_lsb([lsb]), shape[-1:])
            for lsb, shape in zip(lsbs, self._input_shapes, strict=True)
        ]
        return ops.concatenate(parts)

    @property
    def joins_channels(self) -> bool:
        """Whether the inputs are joined along the last axis."""
        return self.core_spec().axis in (-1, len(self._input_shapes[0]) - 1)


@register(PACKAGE)
class QuantizedReLU(HardwareLayer, keras.layers.Layer):
    """A ReLU [average pool] that stands alone (no layer before it that it could join)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "relu": True})


@register(PACKAGE)
class QuantizedGlobalAveragePooling2D(HardwareLayer, keras.layers.GlobalAveragePooling2D):
    """Global average pooling that stands alone: a sum whose 1/n is part of the rescale."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["pool"] = Pool("global_average", keepdims=kwargs.get("keepdims", False))
        super().__init__(*args, **kwargs)


@register(PACKAGE)
class QuantizedAveragePooling2D(HardwareLayer, keras.layers.AveragePooling2D):
    """Average pooling that stands alone, without padding: a sum whose 1/n is in the rescale."""

    def __init__(
        self, pool_size: Any, strides: Any = None, padding: str = "valid", **kwargs: Any
    ) -> None:
        window = Window(_pair(pool_size), _pair(strides or pool_size), padding)
        kwargs["pool"] = Pool("average", window)
        super().__init__(pool_size, strides=strides, padding=padding, **kwargs)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return int(value[0]), int(value[1])


def choose_carriers(layers: Iterable[Any]) -> None:
    """Let each layer of a model whose inputs are added choose its carriers for the present ranges.

    Weighted layers choose theirs when their weights are fitted.
    """
    layers = list(layers)
    can_move = any(quantizer.range_mode != "frozen" for quantizer in quantizers_of(layers))
    for layer in layers:
        if isinstance(layer, QuantizedAdd):
            layer.choose_carriers(can_move)


def quantizers_of(layers: Iterable[Any]) -> list[Any]:
    """The quantizers of a model's layers whose ranges are calibrated or trained."""
    found: list[Any] = []
    for layer in layers:
        if isinstance(layer, InputQuantizer) and not layer.integer_input:
            found.append(layer)
        if isinstance(layer, HardwareLayer) and layer.output_quantizer is not None:
            found.append(layer.output_quantizer)
        if isinstance(layer, WeightedLayer):
            found.append(layer.weight_quantizer)
    return found
