"""A transposed depthwise convolution as a Keras layer, which Keras itself does not have."""

from __future__ import annotations

from typing import Any

import keras

from ..shapes import transpose_output, transpose_pads

Pair = tuple[int, int]


@keras.saving.register_keras_serializable(package="sanitize")
class DepthwiseConv2DTranspose(keras.layers.Layer):
    """Each channel is spread by a kernel of its own: (n, h, w, c) -> (n, h', w', c * m).

    ``depth_multiplier`` m kernels per channel; weights ``kernel`` (kh, kw, c, m) and ``bias``
    (c * m,). The sizes of the output are those of ``keras.layers.Conv2DTranspose``. Computed as a
    depthwise convolution with the flipped kernel over the input with zeros between its values, so
    that it runs on every backend.
    """

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: str = "valid",
        output_padding: Any = None,
        dilation_rate: Any = (1, 1),
        depth_multiplier: int = 1,
        use_bias: bool = True,
        activation: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if padding not in ("same", "valid"):
            raise ValueError(f"layer '{self.name}': padding is {padding!r}; use 'same' or 'valid'")
        self.kernel_size = _pair(kernel_size)
        self.strides = _pair(strides)
        self.padding = padding
        self.output_padding = None if output_padding is None else _pair(output_padding)
        self.dilation_rate = _pair(dilation_rate)
        self.depth_multiplier = int(depth_multiplier)
        self.use_bias = bool(use_bias)
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: Any) -> None:
        channels = input_shape[-1]
        shape = (*self.kernel_size, channels, self.depth_multiplier)
        self.kernel = self.add_weight(shape=shape, initializer="glorot_uniform", name="kernel")
        self.bias = None
        if self.use_bias:
            width = (channels * self.depth_multiplier,)
            self.bias = self.add_weight(shape=width, initializer="zeros", name="bias")
        self.built = True

    def call(self, inputs: Any) -> Any:
        ops = keras.ops
        x, kernel = inputs, ops.flip(self.kernel, axis=(0, 1))
        for axis in (1, 2):
            x = _spread(x, axis, self.strides[axis - 1], self._pads(axis - 1))
        x = ops.depthwise_conv(
            x,
            kernel,
            strides=1,
            padding="valid",
            data_format="channels_last",
            dilation_rate=self.dilation_rate,
        )
        if self.use_bias:
            x = x + self.bias
        return x if self.activation is None else self.activation(x)

    def _pads(self, axis: int) -> Pair:
        extra = None if self.output_padding is None else self.output_padding[axis]
        return transpose_pads(
            self.kernel_size[axis],
            self.strides[axis],
            self.padding,
            extra,
            self.dilation_rate[axis],
        )

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        extra = self.output_padding or (None, None)
        sizes = [
            transpose_output(
                input_shape[axis + 1],
                self.kernel_size[axis],
                self.strides[axis],
                self.padding,
                extra[axis],
                self.dilation_rate[axis],
            )
            for axis in (0, 1)
        ]
        return (input_shape[0], *sizes, input_shape[-1] * self.depth_multiplier)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "output_padding": self.output_padding,
            "dilation_rate": self.dilation_rate,
            "depth_multiplier": self.depth_multiplier,
            "use_bias": self.use_bias,
            "activation": keras.activations.serialize(self.activation),
        }


def _pair(value: Any) -> Pair:
    listed = tuple(value) if isinstance(value, (list, tuple)) else (value, value)
    return int(listed[0]), int(listed[1])


def _spread(x: Any, axis: int, stride: int, pads: Pair) -> Any:
    """``x`` with ``stride`` - 1 zeros between its values along ``axis``, then padded or cut."""
    ops = keras.ops
    rank = len(x.shape)
    # Zeros behind every value, the last one included: these count as padding already.
    before, after = pads[0], pads[1] - (stride - 1)
    if stride > 1:
        shape = list(ops.shape(x))
        x = ops.expand_dims(x, axis + 1)
        x = ops.pad(x, [(0, stride - 1) if i == axis + 1 else (0, 0) for i in range(rank + 1)])
        shape[axis] = shape[axis] * stride
        x = ops.reshape(x, shape)
    widths = [(max(before, 0), max(after, 0)) if i == axis else (0, 0) for i in range(rank)]
    x = ops.pad(x, widths) if before > 0 or after > 0 else x
    if before < 0 or after < 0:
        stop = after if after < 0 else None
        keep = slice(-before if before < 0 else 0, stop)
        x = x[tuple(keep if i == axis else slice(None) for i in range(rank))]
    return x
