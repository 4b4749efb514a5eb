"""Keras layers along one axis or three, as the same along two between two reshapes.

A sequence (t, c) is a map (1, t, c). A volume (d, h, w, c) with an axis of size 1, before and
behind the layer, is a map without that axis; of the kernel only the taps that meet it are left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from ..shapes import Shape, same_pads
from .call import Array, Call, Entry, to_numpy
from .emit import WHOLE, emit_reshape
from .keras_functions import function_spec
from .read_windows import emit_unknown_activation

layers = keras.layers

#: The two axes that become height and width; None stands for a new axis of size 1.
Plane = tuple[int | None, int]


def _plane(call: Call) -> Plane | None:
    """Which axes of the input make a map; None when three of them are needed."""
    if getattr(call.operation, "data_format", "channels_last") != "channels_last":
        call.refuse("its pictures are channels first")
        return None
    shape, out = call.shapes[0], call.outputs[0]
    if len(shape) == 2:
        return None, 0
    for axis in range(3):
        if shape[axis] == 1 and out[axis] == 1:
            first, second = (other for other in range(3) if other != axis)
            if None in (shape[first], shape[second]):
                break
            return first, second
    call.refuse("it works along three axes, and none of them has the fixed size 1")
    return None


def _two(values: Any, plane: Plane, new: int = 1) -> tuple[int, int]:
    """The numbers of the two axes of the map; ``new`` for an axis that the input has not."""
    height, width = plane
    listed = values if isinstance(values, (list, tuple)) else (values,) * 3
    return new if height is None else int(listed[height]), int(listed[width])


def _as_map(call: Call, plane: Plane) -> str:
    shape, (height, width) = call.shapes[0], plane
    sizes = (1 if height is None else shape[height], shape[width], shape[-1])
    return call.emit("reshape", attrs={"shape": sizes}, suffix="map")


def _kernel(call: Call, kernel: Array, plane: Plane) -> Array | None:
    """The kernel over the two axes: with an axis more, or the taps that meet the axis of size 1."""
    if plane[0] is None:
        return kernel[None]
    layer = call.operation
    (axis,) = {0, 1, 2} - set(plane)
    step = int(layer.dilation_rate[axis])
    before = 0
    if layer.padding == "same":
        before, _ = same_pads(1, kernel.shape[axis], 1, step)
    if before % step:
        call.refuse("no tap of its kernel meets the axis of size 1")
        return None
    tap: Array = kernel.take(before // step, axis)
    return tap


def _attrs(layer: Any, plane: Plane) -> dict[str, Any]:
    dilation = _two(layer.dilation_rate, plane)
    reach = (int(layer.kernel_size[0]) - 1) * dilation[1]
    return {
        "strides": _two(layer.strides, plane),
        "padding": ((0, 0), (reach, 0)) if layer.padding == "causal" else layer.padding,
        "dilation": dilation,
    }


def _equal_strides(layer: Any) -> tuple[int, int]:
    """Of a depthwise convolution along one axis: the stride along the other one, of size 1, does
    not matter, and TensorFlow has no kernel for unequal ones on every processor.
    """
    stride = int(layer.strides[0])
    return stride, stride


def _fused(call: Call, rank: int) -> dict[str, Any] | None:
    """The activation of the layer as an attribute, empty where the graph has none for it.

    None for a layer with weights of its own.
    """
    activation = call.operation.activation
    if isinstance(activation, layers.Layer) and activation.weights:
        call.refuse("its activation has weights of its own")
        return None
    spec = function_spec(activation, rank)
    return {} if spec is None or spec["kind"] == "identity" else {"activation": spec}


def _finish(call: Call, done: str) -> bool:
    """The result of a convolution on a map in its own shape, and an activation not known."""
    activation = call.operation.activation
    if function_spec(activation, 3) is not None:
        return emit_reshape(call, [done])
    shaped = call.emit("reshape", [done], {"shape": tuple(call.outputs[0])}, suffix="linear")
    return emit_unknown_activation(call, activation, shaped)


def _convolution(kind: str) -> Entry:
    """A convolution of any rank; ``kind`` is what it is along two axes."""

    def entry(call: Call) -> bool:
        layer, plane, fused = call.operation, _plane(call), _fused(call, 3)
        if plane is None or fused is None:
            return False
        attrs = {**_attrs(layer, plane), **fused}
        if kind == "conv2d":
            attrs["groups"] = int(layer.groups)
        if kind == "depthwise_conv2d":
            attrs["strides"] = _equal_strides(layer)
        if kind == "conv2d_transpose" and layer.output_padding is not None:
            if plane[0] is not None:
                return call.refuse("its output_padding is given for three axes")
            attrs["output_padding"] = _two(layer.output_padding, plane, new=0)
        kernel = _kernel(call, to_numpy(layer.kernel), plane)
        if kernel is None:
            return False
        weights = {"kernel": kernel, "bias": to_numpy(layer.bias) if layer.use_bias else None}
        done = call.emit(kind, [_as_map(call, plane)], attrs, weights, suffix="conv")
        return _finish(call, done)

    return entry


def _separable(call: Call) -> bool:
    layer, plane, fused = call.operation, _plane(call), _fused(call, 3)
    if plane is None or fused is None:
        return False
    pointwise = {"strides": (1, 1), "padding": "valid", "dilation": (1, 1), "groups": 1, **fused}
    first = {"kernel": to_numpy(layer.depthwise_kernel)[None]}
    second = {
        "kernel": to_numpy(layer.pointwise_kernel)[None],
        "bias": to_numpy(layer.bias) if layer.use_bias else None,
    }
    attrs = {**_attrs(layer, plane), "strides": _equal_strides(layer)}
    done = call.emit("depthwise_conv2d", [_as_map(call, plane)], attrs, first, suffix="depthwise")
    done = call.emit("conv2d", [done], pointwise, second, suffix="pointwise")
    return _finish(call, done)


def _pool(kind: str) -> Entry:
    def entry(call: Call) -> bool:
        layer, plane = call.operation, _plane(call)
        if plane is None:
            return False
        attrs = {
            "size": _two(layer.pool_size, plane),
            "strides": _two(layer.strides, plane),
            "padding": layer.padding,
        }
        done = call.emit(kind, [_as_map(call, plane)], attrs, suffix="pool")
        return emit_reshape(call, [done])

    return entry


def _global_pool(kind: str) -> Entry:
    """A mean or maximum over three axes is one over two: the order of pixels does not matter."""

    def entry(call: Call) -> bool:
        layer, shape = call.operation, call.shapes[0]
        if layer.data_format != "channels_last" or (len(shape) == 4 and None in shape):
            return call.refuse("its volume has no fixed size, or is channels first")
        merged: Shape
        if len(shape) == 2:
            merged = (1, *shape)
        else:
            merged = (int(shape[0] or 0) * int(shape[1] or 0), *shape[2:])
        tall = call.emit("reshape", attrs={"shape": merged}, suffix="map")
        if not layer.keepdims:
            call.emit(kind, [tall], {"keepdims": False})
            return True
        done = call.emit(kind, [tall], {"keepdims": True}, suffix="pool")
        return emit_reshape(call, [done])

    return entry


def _moved(kind: str, attrs: Mapping[str, Any], plane: Plane, call: Call) -> bool:
    done = call.emit(kind, [_as_map(call, plane)], attrs, suffix=kind)
    return emit_reshape(call, [done])


def _zero_padding3d(call: Call) -> bool:
    plane = _plane(call)
    if plane is None:
        return False
    sides: Sequence[Any] = call.operation.padding
    pads = tuple((int(sides[axis][0]), int(sides[axis][1])) for axis in plane if axis is not None)
    return _moved("pad", {"padding": pads}, plane, call)


def _upsampling3d(call: Call) -> bool:
    plane = _plane(call)
    return plane is not None and _moved(
        "upsample", {"size": _two(call.operation.size, plane)}, plane, call
    )


def _cropping3d(call: Call) -> bool:
    layer = call.operation
    if layer.data_format != "channels_last":
        return call.refuse("its volume is channels first")
    limits = [(int(a), -int(b) if b else None, 1) for a, b in layer.cropping]
    call.emit("slice", attrs={"slices": (*limits, WHOLE)})
    return True


RANKS: Mapping[type, Entry] = {
    layers.Conv1D: _convolution("conv2d"),
    layers.MaxPooling1D: _pool("max_pool"),
    layers.AveragePooling1D: _pool("avg_pool"),
    layers.GlobalMaxPooling1D: _global_pool("global_max_pool"),
    layers.GlobalAveragePooling1D: _global_pool("global_avg_pool"),
    layers.DepthwiseConv1D: _convolution("depthwise_conv2d"),
    layers.SeparableConv1D: _separable,
    layers.Conv1DTranspose: _convolution("conv2d_transpose"),
    layers.Conv3D: _convolution("conv2d"),
    layers.Conv3DTranspose: _convolution("conv2d_transpose"),
    layers.MaxPooling3D: _pool("max_pool"),
    layers.AveragePooling3D: _pool("avg_pool"),
    layers.GlobalMaxPooling3D: _global_pool("global_max_pool"),
    layers.GlobalAveragePooling3D: _global_pool("global_avg_pool"),
    layers.ZeroPadding3D: _zero_padding3d,
    layers.Cropping3D: _cropping3d,
    layers.UpSampling3D: _upsampling3d,
}
