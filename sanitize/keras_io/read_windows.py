"""Keras layers with a kernel or a window, along one axis or two: convolutions, dense, pools.

What works along one axis, (t, c), becomes the same along (1, t, c) between two reshapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from .call import Call, Entry, to_numpy
from .functions import function_spec

layers = keras.layers


def pair(value: Any) -> tuple[int, int]:
    """Two numbers from a number or a pair of numbers."""
    if isinstance(value, (list, tuple)):
        return int(value[0]), int(value[1])
    return int(value), int(value)


def _emit_activated(
    call: Call,
    activation: Any,
    kind: str,
    attrs: Mapping[str, Any],
    weights: Mapping[str, Any],
    **options: Any,
) -> bool:
    """Emit a node whose Keras layer has an ``activation`` argument.

    What the graph can express is kept fused, for the rule that splits it; a layer with weights of
    its own (PReLU) is not understood here and the call becomes opaque.
    """
    spec = function_spec(activation, len(call.outputs[0]))
    if spec is None:
        return False
    extra = {} if spec["kind"] == "identity" else {"activation": spec}
    call.emit(kind, attrs={**attrs, **extra}, weights=weights, **options)
    return True


def _conv_attrs(layer: Any) -> dict[str, Any] | None:
    if layer.data_format != "channels_last" or layer.padding not in ("same", "valid"):
        return None
    return {
        "strides": pair(layer.strides),
        "padding": layer.padding,
        "dilation": pair(layer.dilation_rate),
    }


def _bias(layer: Any) -> Any:
    return to_numpy(layer.bias) if layer.use_bias else None


def _conv2d(call: Call) -> bool:
    layer = call.operation
    attrs = _conv_attrs(layer)
    if attrs is None:
        return False
    weights = {"kernel": to_numpy(layer.kernel), "bias": _bias(layer)}
    attrs = {**attrs, "groups": int(layer.groups)}
    return _emit_activated(call, layer.activation, "conv2d", attrs, weights)


def _depthwise_conv2d(call: Call) -> bool:
    layer = call.operation
    attrs = _conv_attrs(layer)
    if attrs is None:
        return False
    weights = {"kernel": to_numpy(layer.kernel), "bias": _bias(layer)}
    return _emit_activated(call, layer.activation, "depthwise_conv2d", attrs, weights)


def _separable_conv2d(call: Call) -> bool:
    layer = call.operation
    attrs = _conv_attrs(layer)
    if attrs is None or function_spec(layer.activation, 3) is None:
        return False
    depthwise = call.emit(
        "depthwise_conv2d",
        attrs=attrs,
        weights={"kernel": to_numpy(layer.depthwise_kernel)},
        suffix="depthwise",
    )
    pointwise = {"strides": (1, 1), "padding": "valid", "dilation": (1, 1), "groups": 1}
    weights = {"kernel": to_numpy(layer.pointwise_kernel), "bias": _bias(layer)}
    return _emit_activated(call, layer.activation, "conv2d", pointwise, weights, inputs=[depthwise])


def _conv2d_transpose(call: Call) -> bool:
    layer = call.operation
    attrs = _conv_attrs(layer)
    if attrs is None:
        return False
    if layer.output_padding is not None:
        attrs["output_padding"] = pair(layer.output_padding)
    weights = {"kernel": to_numpy(layer.kernel), "bias": _bias(layer)}
    return _emit_activated(call, layer.activation, "conv2d_transpose", attrs, weights)


def _conv1d(call: Call) -> bool:
    """A convolution along (t, c) is one along (1, t, c); "causal" pads in front only."""
    layer = call.operation
    spec = function_spec(layer.activation, 3)
    if spec is None or layer.data_format != "channels_last":
        return False
    reach = (int(layer.kernel_size[0]) - 1) * int(layer.dilation_rate[0])
    attrs = {
        "strides": (1, int(layer.strides[0])),
        "padding": ((0, 0), (reach, 0)) if layer.padding == "causal" else layer.padding,
        "dilation": (1, int(layer.dilation_rate[0])),
        "groups": int(layer.groups),
    }
    tall = call.emit("reshape", attrs={"shape": (1, *call.shapes[0])}, suffix="expand")
    weights = {"kernel": to_numpy(layer.kernel)[None], "bias": _bias(layer)}
    extra = {} if spec["kind"] == "identity" else {"activation": spec}
    out = call.emit("conv2d", [tall], {**attrs, **extra}, weights, suffix="conv")
    call.emit("reshape", [out], {"shape": call.outputs[0]})
    return True


def _pool1d(kind: str) -> Entry:
    def entry(call: Call) -> bool:
        layer = call.operation
        if layer.data_format != "channels_last":
            return False
        attrs = {
            "size": (1, int(layer.pool_size[0])),
            "strides": (1, int(layer.strides[0])),
            "padding": layer.padding,
        }
        tall = call.emit("reshape", attrs={"shape": (1, *call.shapes[0])}, suffix="expand")
        out = call.emit(kind, [tall], attrs, suffix="pool")
        call.emit("reshape", [out], {"shape": call.outputs[0]})
        return True

    return entry


def _global_pool1d(kind: str) -> Entry:
    def entry(call: Call) -> bool:
        layer = call.operation
        if layer.data_format != "channels_last":
            return False
        tall = call.emit("reshape", attrs={"shape": (1, *call.shapes[0])}, suffix="expand")
        if layer.keepdims:
            out = call.emit(kind, [tall], {"keepdims": False}, suffix="pool")
            call.emit("reshape", [out], {"shape": call.outputs[0]})
        else:
            call.emit(kind, [tall], {"keepdims": False})
        return True

    return entry


def _dense(call: Call) -> bool:
    layer = call.operation
    weights = {"kernel": to_numpy(layer.kernel), "bias": _bias(layer)}
    return _emit_activated(call, layer.activation, "dense", {}, weights)


def _pool2d(kind: str) -> Entry:
    def entry(call: Call) -> bool:
        layer = call.operation
        if layer.data_format != "channels_last":
            return False
        attrs = {
            "size": pair(layer.pool_size),
            "strides": pair(layer.strides),
            "padding": layer.padding,
        }
        call.emit(kind, attrs=attrs)
        return True

    return entry


def _global_pool2d(kind: str) -> Entry:
    def entry(call: Call) -> bool:
        layer = call.operation
        if layer.data_format != "channels_last":
            return False
        call.emit(kind, attrs={"keepdims": bool(layer.keepdims)})
        return True

    return entry


WINDOWS: Mapping[type, Entry] = {
    layers.Conv2D: _conv2d,
    layers.DepthwiseConv2D: _depthwise_conv2d,
    layers.SeparableConv2D: _separable_conv2d,
    layers.Conv2DTranspose: _conv2d_transpose,
    layers.Conv1D: _conv1d,
    layers.Dense: _dense,
    layers.MaxPooling2D: _pool2d("max_pool"),
    layers.AveragePooling2D: _pool2d("avg_pool"),
    layers.MaxPooling1D: _pool1d("max_pool"),
    layers.AveragePooling1D: _pool1d("avg_pool"),
    layers.GlobalAveragePooling2D: _global_pool2d("global_avg_pool"),
    layers.GlobalMaxPooling2D: _global_pool2d("global_max_pool"),
    layers.GlobalAveragePooling1D: _global_pool1d("global_avg_pool"),
    layers.GlobalMaxPooling1D: _global_pool1d("global_max_pool"),
}
