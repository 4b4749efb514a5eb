"""TensorFlow functions inside a Keras 2 graph, each replaced by one Keras 3 layer.

Where a Keras 2 user wrote `x + y`, `tf.nn.relu6(x)` or `x[:, 1:]`, the file holds a layer of class
TFOpLambda or SlicingOpLambda that names the function and its arguments. `replacement(call)` answers
with the one layer that computes the same; the table `_REMEDIES` says which, function by function:
a layer of Keras 3 where there is one, else an operation of Keras 3 in a layer, see `operations`.

Always one layer for one function: distances in the graph stay as they were.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from quantkeras.files.keras2 import arithmetic, movements, operations
from quantkeras.files.keras2.calls import CannotReplace, OpCall, Replacement, tensor
from sanitize.functions import TENSORFLOW_FUNCTIONS, of_tensorflow
from sanitize.keras_io.function_layers import activation_layer
from sanitize.keras_io.opaque_layers import OperationLayer


def replacement(call: OpCall) -> Replacement:
    """The one Keras 3 layer that computes `call`. Raises CannotReplace with the reason."""
    if call.function in _MERGED and isinstance(call.first, list):
        return _merged(call)
    remedy = _REMEDIES.get(call.function)
    if remedy is None:
        raise CannotReplace("there is nothing in Keras for it")
    return remedy(call)


def _unary(class_name: str, **config: Any) -> Callable[[OpCall], Replacement]:
    """y = layer(x), with a fixed configuration."""
    return lambda call: Replacement(class_name, config, (tensor(call.first),))


def _activation(name: str) -> Callable[[OpCall], Replacement]:
    return _unary("Activation", activation=name)


def _function(call: OpCall) -> Replacement:
    """An element-wise function with its parameters, as the layer or operation that Keras 3 has."""
    found = of_tensorflow(call.function, call.rest.get)
    if found is None:
        raise CannotReplace(f"Keras has no such function with the arguments {dict(call.rest)}")
    layer = activation_layer({"kind": "activation", **found})
    if isinstance(layer, OperationLayer):
        return operations.unary(getattr(ops, found["function"]))(call)
    if isinstance(layer, keras.layers.Activation):
        name = layer.get_config()["activation"]
        if not isinstance(name, str):
            name = keras.saving.get_registered_name(layer.activation)
        return _activation(name)(call)
    config = {key: value for key, value in found.items() if key != "function"}
    return Replacement(type(layer).__name__, config, (tensor(call.first),))


def _several(class_name: str) -> Callable[[OpCall], Replacement]:
    """layer([x, y, ...]), the tensors given as one list or as x and y."""

    def remedy(call: OpCall) -> Replacement:
        first = call.first if isinstance(call.first, list) else list(arithmetic.operands(call))
        return Replacement(class_name, {}, tuple(tensor(x) for x in first))

    return remedy


def _merged(call: OpCall) -> Replacement:
    """reduce([x, y, ...], axis=0): over the tensors themselves."""
    axis = call.rest.get("axis")
    if axis not in (0, [0]) or call.rest.get("keepdims"):
        raise CannotReplace(f"it stacks tensors and reduces them along axis {axis}")
    return Replacement(_MERGED[call.function], {}, tuple(tensor(x) for x in call.first))


def _concat(call: OpCall) -> Replacement:
    axis = call.rest.get("axis")
    if axis == 0:
        raise CannotReplace("it joins along the batch axis")
    found = _several("Concatenate")(call)
    return Replacement("Concatenate", {"axis": axis}, found.inputs)


def _reduce(kind: str, function: Callable[..., Any]) -> Callable[[OpCall], Replacement]:
    """reduce(x, [1, 2]) -> Global<kind>Pooling2D; over other axes -> the operation."""

    def remedy(call: OpCall) -> Replacement:
        axis, keepdims = call.rest.get("axis"), bool(call.rest.get("keepdims"))
        if isinstance(axis, list) and sorted(axis) in ([1, 2], [-3, -2]):
            config = {"keepdims": keepdims}
            return Replacement(f"Global{kind}Pooling2D", config, (tensor(call.first),))
        return operations.reduce(function)(call)

    return remedy


def _pool(class_name: str) -> Callable[[OpCall], Replacement]:
    def remedy(call: OpCall) -> Replacement:
        config = {
            "pool_size": _height_width(call.rest.get("ksize")),
            "strides": _height_width(call.rest.get("strides")),
            "padding": str(call.rest.get("padding")).lower(),
        }
        if call.rest.get("data_format", "NHWC") not in ("NHWC", None):
            raise CannotReplace("its data are not channels-last")
        return Replacement(class_name, config, (tensor(call.first),))

    return remedy


def _height_width(value: Any) -> list[int]:
    """A window from 2, [2], [2, 2] or [1, 2, 2, 1]."""
    sizes = value if isinstance(value, list) else [value]
    if len(sizes) == 4:
        sizes = sizes[1:3]
    if len(sizes) not in (1, 2) or not all(isinstance(n, int) for n in sizes):
        raise CannotReplace(f"its window {value} is not one of height and width")
    return sizes * 2 if len(sizes) == 1 else sizes


def _softmax(call: OpCall) -> Replacement:
    axis = call.rest.get("axis")
    config = {"axis": -1 if axis is None else axis}
    return Replacement("Softmax", config, (tensor(call.first),))


_ACTIVATIONS = {
    "identity": "linear",
    "stop_gradient": "linear",
    "nn.log_softmax": "log_softmax",
}
"""Function -> the activation that computes it."""

_UNARY = {
    "math.ceil": ops.ceil,
    "math.floor": ops.floor,
    "math.logical_not": ops.logical_not,
    "math.round": ops.round,
    "math.sign": ops.sign,
    "ones_like": ops.ones_like,
    "zeros_like": ops.zeros_like,
}
_BINARY = {
    "math.divide_no_nan": ops.divide_no_nan,
    "math.equal": ops.equal,
    "math.floordiv": ops.floor_divide,
    "math.floormod": ops.mod,
    "math.greater": ops.greater,
    "math.greater_equal": ops.greater_equal,
    "math.less": ops.less,
    "math.less_equal": ops.less_equal,
    "math.logical_and": ops.logical_and,
    "math.logical_or": ops.logical_or,
    "math.not_equal": ops.not_equal,
}
_MERGED = {
    "math.reduce_max": "Maximum",
    "math.reduce_mean": "Average",
    "math.reduce_min": "Minimum",
    "math.reduce_prod": "Multiply",
    "math.reduce_sum": "Add",
}
"""Reduction -> the layer that does it with a list of tensors, over the axis that they make."""
_REDUCTIONS = {
    "math.reduce_min": ops.min,
    "math.reduce_prod": ops.prod,
    "math.reduce_std": ops.std,
    "math.reduce_sum": ops.sum,
    "math.reduce_variance": ops.var,
}
_REMEDIES: Mapping[str, Callable[[OpCall], Replacement]] = {
    **dict.fromkeys(TENSORFLOW_FUNCTIONS, _function),
    **{function: _activation(name) for function, name in _ACTIVATIONS.items()},
    **{name: operations.unary(function) for name, function in _UNARY.items()},
    **{name: operations.two_operands(function) for name, function in _BINARY.items()},
    **{name: operations.reduce(function) for name, function in _REDUCTIONS.items()},
    "__operators__.add": arithmetic.add,
    "__operators__.getitem": movements.getitem,
    "add_n": _several("Add"),
    "cast": arithmetic.cast,
    "clip_by_value": arithmetic.clip,
    "compat.v1.gather": operations.gather,
    "compat.v1.nn.avg_pool": _pool("AveragePooling2D"),
    "compat.v1.nn.max_pool": _pool("MaxPooling2D"),
    "compat.v1.pad": movements.pad,
    "compat.v1.squeeze": movements.expand_or_squeeze,
    "compat.v1.transpose": movements.transpose,
    "concat": _concat,
    "expand_dims": movements.expand_or_squeeze,
    "gather": operations.gather,
    "image.resize": operations.resize,
    "keras.backend.batch_flatten": _unary("Flatten"),
    "linalg.matmul": operations.matmul,
    "math.add": arithmetic.add,
    "math.add_n": _several("Add"),
    "math.divide": arithmetic.divide,
    "math.l2_normalize": operations.normalize,
    "math.maximum": arithmetic.extremum("Maximum", ops.maximum),
    "math.minimum": arithmetic.extremum("Minimum", ops.minimum),
    "math.multiply": arithmetic.multiply,
    "math.negative": _unary("Rescaling", scale=-1.0, offset=0.0),
    "math.pow": arithmetic.power,
    "math.reduce_max": _reduce("Max", ops.max),
    "math.reduce_mean": _reduce("Average", ops.mean),
    "math.square": arithmetic.square,
    "math.subtract": arithmetic.subtract,
    "math.truediv": arithmetic.divide,
    "nn.avg_pool": _pool("AveragePooling2D"),
    "nn.avg_pool2d": _pool("AveragePooling2D"),
    "nn.bias_add": arithmetic.add,
    "nn.depth_to_space": operations.blocks("depth_to_space"),
    "nn.max_pool": _pool("MaxPooling2D"),
    "nn.max_pool2d": _pool("MaxPooling2D"),
    "nn.relu": _unary("ReLU"),
    "nn.relu6": _unary("ReLU", max_value=6.0),
    "nn.softmax": _softmax,
    "nn.space_to_depth": operations.blocks("space_to_depth"),
    "pad": movements.pad,
    "repeat": operations.repeat,
    "reshape": movements.reshape,
    "reverse": operations.reverse,
    "roll": operations.roll,
    "slice": movements.part,
    "split": operations.split,
    "squeeze": movements.expand_or_squeeze,
    "stack": operations.stack,
    "strided_slice": movements.strided_part,
    "tile": operations.tile,
    "transpose": movements.transpose,
    "unstack": operations.unstack,
    "where": operations.choose,
}
"""Names without the leading "tf."; those under compat.v1 are the same functions."""
