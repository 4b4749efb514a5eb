"""What the Keras layers are in the graph: one entry per layer class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from ..functions import relu_spec
from .call import Call, Entry, to_numpy
from .emit import emit_affine, emit_spec
from .keras_functions import function_spec
from .read_layout import LAYOUT, index_layer
from .read_ranks import RANKS
from .read_windows import WINDOWS, emit_prelu, refuse_function
from .user import registered_name, registered_spec

layers = keras.layers

#: The layer that stands for indexing in networks that came from Keras 2.
_SLICE = "quantkeras>Slice"


def layer_entry(layer: Any) -> Entry | None:
    """The entry for a layer: that of its class, or of a base whose ``call`` it keeps."""
    if isinstance(layer.dtype_policy, keras.dtype_policies.QuantizedDTypePolicy):
        return None
    kind: Any = type(layer)
    if kind not in LAYERS and registered_name(layer) is not None:
        return _registered
    for base in kind.__mro__:
        if base in LAYERS:
            same = kind.call is base.call and kind.build is base.build
            return LAYERS[base] if same else None
    if keras.saving.get_registered_name(kind) == _SLICE:
        return _single(index_layer)
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
        return call.refuse(f"it works along axis {axis}, which is not the channels")
    weights = {
        "mean": to_numpy(layer.moving_mean),
        "variance": to_numpy(layer.moving_variance),
        "gamma": to_numpy(layer.gamma) if layer.scale else None,
        "beta": to_numpy(layer.beta) if layer.center else None,
    }
    call.emit("batchnorm", attrs={"epsilon": float(layer.epsilon)}, weights=weights)
    return True


def _activation(call: Call) -> bool:
    function, shape = call.operation.activation, call.shapes[0]
    if isinstance(function, layers.PReLU):
        return emit_prelu(call, function)
    return emit_spec(call, function_spec(function, len(shape))) or refuse_function(call, function)


def _registered(call: Call) -> bool:
    """A layer of the user's own whose formula is registered."""
    if not call.only_one_tensor or call.outputs[0] != call.shapes[0]:
        return call.refuse("a formula is registered for it, but it changes the shape")
    return emit_spec(call, registered_spec(call.operation, call.shapes[0]))


def _function_layer(call: Call) -> bool:
    spec = function_spec(call.operation, len(call.shapes[0]))
    return emit_spec(call, spec) or call.refuse("it works over several axes")


def _relu(call: Call) -> bool:
    layer = call.operation
    return emit_spec(call, relu_spec(layer.max_value, layer.negative_slope, layer.threshold))


def _prelu(call: Call) -> bool:
    return emit_prelu(call, call.operation)


def _merge(kind: str) -> Entry:
    def entry(call: Call) -> bool:
        shapes = call.shapes
        if len(shapes) < 2 or any(len(shape) != len(shapes[0]) for shape in shapes):
            return call.refuse(f"it merges tensors of the shapes {list(shapes)}")
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


def _identity(call: Call) -> bool:
    call.emit("identity")
    return True


def _lambda(call: Call) -> bool:
    """A Lambda with a registered formula; what is in the others is found by calling them."""
    layer, shape = call.operation, call.shapes[0]
    return call.outputs[0] == shape and emit_spec(call, registered_spec(layer, shape))


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
    **RANKS,
    **LAYOUT,
    layers.BatchNormalization: _batchnorm,
    layers.Activation: _activation,
    layers.ReLU: _relu,
    layers.LeakyReLU: _function_layer,
    layers.ELU: _function_layer,
    layers.Softmax: _function_layer,
    layers.PReLU: _prelu,
    layers.Rescaling: _rescaling,
    layers.Normalization: _normalization,
    layers.Lambda: _lambda,
}
#: Names of layers that do nothing at inference; which there are depends on the version of Keras.
_NOTHING = (
    "ActivityRegularization",
    "AlphaDropout",
    "AugMix",
    "CutMix",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "MixUp",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
)
_APPLICATIONS: Mapping[str, Entry] = {
    "LayerScale": _single(_layer_scale),
    "StochasticDepth": _single(_identity),
    "CustomScaleLayer": _custom_scale,
}
NOTHING_AT_INFERENCE: tuple[type, ...] = tuple(
    getattr(layers, name) for name in _NOTHING if hasattr(layers, name)
)
LAYERS: Mapping[type, Entry] = {
    **{kind: _single(entry) for kind, entry in _ONE_TENSOR.items()},
    **dict.fromkeys(NOTHING_AT_INFERENCE, _single(_identity)),
    layers.Add: _merge("add"),
    layers.Subtract: _merge("subtract"),
    layers.Multiply: _merge("multiply"),
    layers.Maximum: _merge("maximum"),
    layers.Minimum: _merge("minimum"),
    layers.Average: _average,
    layers.Concatenate: _concatenate,
}
