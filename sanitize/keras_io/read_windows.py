"""Keras layers with a kernel or a window along two axes: convolutions, dense, pools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from .call import Call, Entry, Slot, to_numpy
from .depthwise_transpose import DepthwiseConv2DTranspose
from .keras_functions import function_spec
from .opaque_layers import OpaqueCall
from .user import elementwise_fault, function_name

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
    its own becomes a node behind, and so does what the graph has no function for.
    """
    if isinstance(activation, layers.PReLU):
        out = call.emit(kind, attrs=attrs, weights=weights, **{**options, "suffix": "linear"})
        return emit_prelu(call, activation, [out])
    spec = function_spec(activation, len(call.outputs[0]))
    if spec is None:
        out = call.emit(kind, attrs=attrs, weights=weights, **{**options, "suffix": "linear"})
        return emit_unknown_activation(call, activation, out)
    if isinstance(activation, layers.Layer) and activation.weights:
        out = call.emit(kind, attrs=attrs, weights=weights, **{**options, "suffix": "linear"})
        call.emit("activation", [out], {key: spec[key] for key in ("function", "user")})
        return True
    extra = {} if spec["kind"] == "identity" else {"activation": spec}
    call.emit(kind, attrs={**attrs, **extra}, weights=weights, **options)
    return True


def emit_prelu(call: Call, layer: Any, inputs: Sequence[str] | None = None) -> bool:
    """Emit the PReLU ``layer``, which may stand as the activation of another."""
    if not layer.built:
        # As an activation it is built when the model first runs.
        layer.build((None, *call.outputs[0]))
    weights = {"alpha": to_numpy(layer.alpha)}
    call.emit("activation", inputs, {"function": "prelu"}, weights)
    return True


def refuse_function(call: Call, function: Any) -> bool:
    """Say why an activation function is not understood; returns False."""
    return call.refuse(_fault_of(function, len(call.outputs[0])))


def emit_unknown_activation(call: Call, function: Any, value: str) -> bool:
    """Emit the activation of a layer as an opaque node of its own behind ``value``."""
    layer = layers.Activation(function, name=f"{call.operation.name}_activation")
    attrs = {
        "layer": layer,
        "call": OpaqueCall(layer, (Slot(0),), {}, ("float32",)),
        "shapes": (call.outputs[0],),
        "reason": _fault_of(function, len(call.outputs[0])),
    }
    call.emit("opaque", [value], attrs)
    return True


def _fault_of(function: Any, rank: int) -> str:
    fault = elementwise_fault(function, (4,) * rank)
    return f"its activation '{function_name(function)}' {fault or 'is not known'}"


def _conv_attrs(layer: Any) -> dict[str, Any] | None:
    layout = getattr(layer, "data_format", "channels_last")
    if layout != "channels_last" or layer.padding not in ("same", "valid"):
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
    if attrs is None:
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


def _transpose(call: Call, kind: str) -> bool:
    layer = call.operation
    attrs = _conv_attrs(layer)
    if attrs is None:
        return False
    if layer.output_padding is not None:
        attrs["output_padding"] = pair(layer.output_padding)
    weights = {"kernel": to_numpy(layer.kernel), "bias": _bias(layer)}
    return _emit_activated(call, layer.activation, kind, attrs, weights)


def _conv2d_transpose(call: Call) -> bool:
    return _transpose(call, "conv2d_transpose")


def _depthwise_transpose(call: Call) -> bool:
    return _transpose(call, "depthwise_conv2d_transpose")


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


def _adaptive_pool2d(kind: str) -> Entry:
    """A pool into a given number of windows, where these are all of one size."""

    def entry(call: Call) -> bool:
        shape, out = call.shapes[0], call.outputs[0]
        if call.operation.data_format != "channels_last" or None in (*shape[:2], *out[:2]):
            return call.refuse("its data are channels first, or have no fixed size")
        sizes = [
            divmod(int(big or 0), int(few or 1)) for big, few in zip(shape, out[:2], strict=False)
        ]
        if any(rest for _, rest in sizes):
            return call.refuse(f"it makes windows of unequal sizes, {out[:2]} of {shape[:2]}")
        size = (sizes[0][0], sizes[1][0])
        call.emit(kind, attrs={"size": size, "strides": size, "padding": "valid"})
        return True

    return entry


WINDOWS: Mapping[type, Entry] = {
    layers.Conv2D: _conv2d,
    layers.DepthwiseConv2D: _depthwise_conv2d,
    layers.SeparableConv2D: _separable_conv2d,
    layers.Conv2DTranspose: _conv2d_transpose,
    DepthwiseConv2DTranspose: _depthwise_transpose,
    layers.Dense: _dense,
    layers.MaxPooling2D: _pool2d("max_pool"),
    layers.AveragePooling2D: _pool2d("avg_pool"),
    **{
        getattr(layers, name): _adaptive_pool2d(kind)
        for name, kind in (
            ("AdaptiveAveragePooling2D", "avg_pool"),
            ("AdaptiveMaxPooling2D", "max_pool"),
        )
        # Not every Keras 3 has them.
        if hasattr(layers, name)
    },
    layers.GlobalAveragePooling2D: _global_pool2d("global_avg_pool"),
    layers.GlobalMaxPooling2D: _global_pool2d("global_max_pool"),
}
