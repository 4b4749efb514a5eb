"""The quantized layers with a kernel: a stock Keras layer plus the mixin each."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from sanitize.keras_io.depthwise_transpose import DepthwiseConv2DTranspose
from sanitize.shapes import transpose_pads

from ..numerics.layer import LayerSpec
from ..numerics.layer_windows import Window
from .activation_ranges import PACKAGE
from .arguments import per_channel
from .weighted_layer import WeightedLayer

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
        return int(self.filters)

    def along_input(self, ratio: np.ndarray) -> np.ndarray:
        by_group = np.broadcast_to(ratio, (self._input_shapes[0][-1],)).reshape(self.groups, -1)
        return np.asarray(np.repeat(by_group.T, self.filters // self.groups, axis=1))

    def by_input(self, weights: np.ndarray) -> np.ndarray:
        by_group = weights.reshape(len(weights), self.groups, -1)
        return np.asarray(by_group.max(axis=2).T.ravel())


class _Depthwise(WeightedLayer):
    """What depthwise convolutions share: the kernel is (kh, kw, c, m)."""

    def core_channels(self) -> int:
        return int(self._input_shapes[0][-1] * self.depth_multiplier)

    def channel_last(self, kernel: Tensor) -> Tensor:
        return ops.reshape(kernel, (*self.kernel_size, self.core_channels()))

    def kernel_shaped(self, flat: Tensor) -> Tensor:
        return ops.reshape(flat, self.kernel.shape)

    def input_weights(self) -> None:
        return None

    def _aligned_lsbs(self, lsbs: list[Tensor]) -> list[Tensor]:
        """Channels keep their steps; those of one channel that differ by position are aligned."""
        return [per_channel(lsbs[0])]

    def _accumulator_lsb(self, aligned: list[Tensor]) -> Tensor:
        """One per output channel, (c * m,), or (1,)."""
        lsb = aligned[0]
        alone = self.depth_multiplier == 1 or lsb.shape[0] == 1
        return lsb if alone else ops.repeat(lsb, self.depth_multiplier)

    def _alignment_bits(self) -> int | None:
        by_position = len(self.input_formats[0].lsb_shape) > 1
        return super()._alignment_bits() if by_position else 0


@register(PACKAGE)
class QuantizedDepthwiseConv2D(_Depthwise, keras.layers.DepthwiseConv2D):
    """DepthwiseConv2D [max pool] [ReLU] [average pool] on integers; channels keep their fracs."""

    def core_spec(self) -> LayerSpec:
        padding = self.explicit_padding or self.padding
        window = Window(self.kernel_size, self.strides, padding, self.dilation_rate)
        return LayerSpec("depthwise_conv2d", window)


@register(PACKAGE)
class QuantizedDense(WeightedLayer, keras.layers.Dense):
    """Dense [ReLU] on integers. Arguments of Dense and the mixins."""

    def core_spec(self) -> LayerSpec:
        return LayerSpec("dense")

    def core_channels(self) -> int:
        return int(self.units)


class _Transposed(WeightedLayer):
    """What transposed convolutions share: zeros between the input pixels, a flipped kernel."""

    def transposed_window(self) -> Window:
        """The window over the widened input."""
        size, strides, dilation = self.kernel_size, self.strides, self.dilation_rate
        extra = self.output_padding or (None, None)
        rows, columns = (
            transpose_pads(size[a], strides[a], self.padding, extra[a], dilation[a]) for a in (0, 1)
        )
        return Window(size, (1, 1), (rows, columns), dilation, input_dilation=strides)

    def core_kernel(self, kernel: Tensor) -> Tensor:
        return ops.flip(kernel, axis=(0, 1))


@register(PACKAGE)
class QuantizedConv2DTranspose(_Transposed, keras.layers.Conv2DTranspose):
    """Conv2DTranspose [max pool] [ReLU] [average pool] on integers. Its kernel is
    (kh, kw, out, in), as that of the stock layer.
    """

    def core_spec(self) -> LayerSpec:
        return LayerSpec("conv2d", self.transposed_window())

    def core_channels(self) -> int:
        return int(self.filters)

    def channel_last(self, kernel: Tensor) -> Tensor:
        return ops.swapaxes(kernel, 2, 3)

    def kernel_shaped(self, flat: Tensor) -> Tensor:
        return ops.swapaxes(flat, 2, 3)

    def core_kernel(self, kernel: Tensor) -> Tensor:
        return super().core_kernel(ops.swapaxes(kernel, 2, 3))

    def along_input(self, ratio: np.ndarray) -> np.ndarray:
        return ratio


@register(PACKAGE)
class QuantizedDepthwiseConv2DTranspose(_Transposed, _Depthwise, DepthwiseConv2DTranspose):
    """A transposed depthwise convolution on integers; channels keep their fracs."""

    def core_spec(self) -> LayerSpec:
        return LayerSpec("depthwise_conv2d", self.transposed_window())
