"""What the Keras layers are in the graph: one entry per layer class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from .call import Call, Entry, Slot, compact, to_numpy
from .functions import function_spec, relu_spec
from .probe import probe_affine, probe_elementwise
from .read_windows import WINDOWS, pair

layers = keras.layers


def layer_entry(layer: Any) -> Entry | None:
    """The entry for a layer: that of its class, or of a base whose ``call`` it keeps."""
    if isinstance(layer.dtype_policy, keras.dtype_policies.QuantizedDTypePolicy):
        return None
    kind: Any = type(layer)
    for base in kind.__mro__:
        if base in LAYERS:
            same = kind.call is base.call and kind.build is base.build
            return LAYERS[base] if same else None
    return _of_applications(kind)


def _of_applications(kind: Any) -> Entry | None:
    """The entry for a layer class that keras.applications keeps to itself."""
    home = kind.__module__.split(".")
    if home[0] != "keras" or "applications" not in home:
        return None
    return _APPLICATIONS.get(kind.__name__)


def _batchnorm(call: Call) -> bool:
    layer, rank = call.operation, len(call.shapes[0])
    axis = layer.axis[0] if isinstance(layer.axis, (list, tuple)) else layer.axis
    if axis not in (-1, rank):
        return False
    weights = {
        "mean": to_numpy(layer.moving_mean),
        "variance": to_numpy(layer.moving_variance),
        "gamma": to_numpy(layer.gamma) if layer.scale else None,
        "beta": to_numpy(layer.beta) if layer.center else None,
    }
    call.emit("batchnorm", attrs={"epsilon": float(layer.epsilon)}, weights=weights)
    return True


def emit_spec(call: Call, spec: Mapping[str, Any] | None) -> bool:
    """Emit a node for an activation spec; False when there is none."""
    if spec is None:
        return False
    call.emit(spec["kind"], attrs={key: value for key, value in spec.items() if key != "kind"})
    return True


def _activation(call: Call) -> bool:
    function = call.operation.activation
    if isinstance(function, layers.PReLU):
        return _emit_prelu(call, function)
    return emit_spec(call, function_spec(function, len(call.shapes[0])))


def _function_layer(call: Call) -> bool:
    return emit_spec(call, function_spec(call.operation, len(call.shapes[0])))


def _relu(call: Call) -> bool:
    layer = call.operation
    return emit_spec(call, relu_spec(layer.max_value, layer.negative_slope, layer.threshold))


def _prelu(call: Call) -> bool:
    return _emit_prelu(call, call.operation)


def _emit_prelu(call: Call, layer: Any) -> bool:
    call.emit("activation", attrs={"function": "prelu"}, weights={"alpha": to_numpy(layer.alpha)})
    return True


def _merge(kind: str) -> Entry:
    def entry(call: Call) -> bool:
        shapes = call.shapes
        if len(shapes) < 2 or any(len(shape) != len(shapes[0]) for shape in shapes):
            return False
        call.emit(kind)
        return True

    return entry


def _average(call: Call) -> bool:
    shapes = call.shapes
    if len(shapes) < 2 or any(len(shape) != len(shapes[0]) for shape in shapes):
        return False
    total = call.emit("add", suffix="sum")
    call.emit("affine", [total], weights={"scale": 1.0 / len(shapes), "offset": 0.0})
    return True


def _concatenate(call: Call) -> bool:
    axis, rank = call.operation.axis, len(call.shapes[0])
    axis = axis - 1 if axis > 0 else rank + axis
    if axis < 0 or call.operation.axis == 0 or len(call.shapes) < 2:
        return False
    call.emit("concat", attrs={"axis": axis})
    return True


def emit_affine(call: Call, scale: Any, offset: Any, inputs: list[str] | None = None) -> bool:
    """Emit x * scale + offset for constants as Keras has them; False when they change the shape."""
    rank = len(call.shapes[0])
    compacted = [compact(np.asarray(value, np.float32), rank) for value in (scale, offset)]
    for array in compacted:
        if array is None:
            return False
        for size, axis in zip(reversed(array.shape), reversed(call.shapes[0]), strict=False):
            if size != 1 and size != axis:
                return False
    if call.outputs[0] != call.shapes[0]:
        return False
    call.emit("affine", inputs, weights={"scale": compacted[0], "offset": compacted[1]})
    return True


def _rescaling(call: Call) -> bool:
    return emit_affine(call, call.operation.scale, call.operation.offset)


def _normalization(call: Call) -> bool:
    layer = call.operation
    if layer.mean is None or layer.variance is None:
        return False
    mean = to_numpy(layer.mean).astype(np.float64)
    deviation = np.sqrt(to_numpy(layer.variance).astype(np.float64))
    deviation = np.maximum(deviation, keras.config.epsilon())
    if layer.invert:
        return emit_affine(call, deviation, mean)
    return emit_affine(call, 1.0 / deviation, -mean / deviation)


def _flatten(call: Call) -> bool:
    if call.operation.data_format != "channels_last" or not call.shapes[0]:
        return False
    call.emit("flatten")
    return True


def emit_reshape(call: Call) -> bool:
    """Emit a reshape to the shape that Keras worked out for the output."""
    if call.outputs[0].count(None) > 1:
        return False
    call.emit("reshape", attrs={"shape": tuple(call.outputs[0])})
    return True


def _permute(call: Call) -> bool:
    call.emit("permute", attrs={"dims": tuple(axis - 1 for axis in call.operation.dims)})
    return True


def _zero_padding2d(call: Call) -> bool:
    layer = call.operation
    if layer.data_format != "channels_last":
        return False
    (top, bottom), (left, right) = layer.padding
    call.emit("pad", attrs={"padding": ((int(top), int(bottom)), (int(left), int(right)))})
    return True


def _cropping2d(call: Call) -> bool:
    layer = call.operation
    if layer.data_format != "channels_last":
        return False
    limits = [(int(a), -int(b) if b else None, 1) for a, b in layer.cropping]
    call.emit("slice", attrs={"slices": (*limits, (0, None, 1))})
    return True


def _upsampling2d(call: Call) -> bool:
    layer = call.operation
    if layer.data_format != "channels_last" or layer.interpolation != "nearest":
        return False
    call.emit("upsample", attrs={"size": pair(layer.size)})
    return True


def _identity(call: Call) -> bool:
    call.emit("identity")
    return True


def _lambda(call: Call) -> bool:
    """A Lambda whose function is a known one, or behaves as one on every number tried."""
    layer, shape = call.operation, call.shapes[0]
    if layer.arguments or call.outputs[0] != shape or not isinstance(call.args[0], Slot):
        return False
    if layer.function in (keras.activations.softmax, keras.ops.softmax):
        return emit_spec(call, function_spec(layer.function, len(shape)))
    spec = probe_elementwise(layer.function, shape)
    if spec is not None:
        return emit_spec(call, spec)
    affine = probe_affine(layer.function, shape)
    return affine is not None and emit_affine(call, *affine)


def _layer_scale(call: Call) -> bool:
    return emit_affine(call, to_numpy(call.operation.gamma), 0.0)


def _custom_scale(call: Call) -> bool:
    """``a + b * scale``, the residual connection of Inception-ResNet."""
    weights = {"scale": float(call.operation.scale), "offset": 0.0}
    scaled = call.emit("affine", [call.values[1]], weights=weights, suffix="scaled")
    call.emit("add", [call.values[0], scaled])
    return True


def _single(entry: Entry) -> Entry:
    """The entry for layers that are called with exactly one tensor and nothing else."""

    def checked(call: Call) -> bool:
        return call.only_one_tensor and len(call.args) == 1 and entry(call)

    return checked


_ONE_TENSOR: Mapping[type, Entry] = {
    **WINDOWS,
    layers.BatchNormalization: _batchnorm,
    layers.Activation: _activation,
    layers.ReLU: _relu,
    layers.LeakyReLU: _function_layer,
    layers.ELU: _function_layer,
    layers.Softmax: _function_layer,
    layers.PReLU: _prelu,
    layers.Rescaling: _rescaling,
    layers.Normalization: _normalization,
    layers.Flatten: _flatten,
    layers.Reshape: emit_reshape,
    layers.Permute: _permute,
    layers.ZeroPadding2D: _zero_padding2d,
    layers.Cropping2D: _cropping2d,
    layers.UpSampling2D: _upsampling2d,
    layers.Lambda: _lambda,
}
#: Layers that do nothing at inference.
_AT_INFERENCE_NOTHING: tuple[type, ...] = (
    layers.Identity,
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
    layers.RandomFlip,
    layers.RandomRotation,
    layers.RandomTranslation,
    layers.RandomZoom,
    layers.RandomContrast,
    layers.RandomBrightness,
)
_APPLICATIONS: Mapping[str, Entry] = {
    "LayerScale": _single(_layer_scale),
    "StochasticDepth": _single(_identity),
    "CustomScaleLayer": _custom_scale,
}
LAYERS: Mapping[type, Entry] = {
    **{kind: _single(entry) for kind, entry in _ONE_TENSOR.items()},
    **{kind: _single(_identity) for kind in _AT_INFERENCE_NOTHING},
    layers.Add: _merge("add"),
    layers.Subtract: _merge("subtract"),
    layers.Multiply: _merge("multiply"),
    layers.Maximum: _merge("maximum"),
    layers.Minimum: _merge("minimum"),
    layers.Average: _average,
    layers.Concatenate: _concatenate,
}
