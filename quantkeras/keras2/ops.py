"""TensorFlow functions inside a Keras 2 graph, each replaced by one Keras 3 layer.

Where a Keras 2 user wrote `x + y`, `tf.nn.relu6(x)` or `x[:, 1:]`, the file holds a layer of class
TFOpLambda or SlicingOpLambda that names the function and its arguments. `replacement(call)` answers
with the one layer that computes the same; the table `_REMEDIES` says which, function by function.

Always one layer for one function: distances in the graph stay as they were.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from quantkeras.keras2 import movements
from quantkeras.keras2.calls import CannotReplace, OpCall, Replacement, Tensor, constant, tensor


def replacement(call: OpCall) -> Replacement:
    """The one Keras 3 layer that computes `call`. Raises CannotReplace with the reason."""
    remedy = _REMEDIES.get(call.function)
    if remedy is None:
        raise CannotReplace("there is no Keras layer for it")
    return remedy(call)


def _unary(class_name: str, **config: Any) -> Callable[[OpCall], Replacement]:
    """y = layer(x), with a fixed configuration."""
    return lambda call: Replacement(class_name, config, (tensor(call.first),))


def _activation(name: str) -> Callable[[OpCall], Replacement]:
    return _unary("Activation", activation=name)


def _affine(x: Tensor, scale: Any = 1.0, offset: Any = 0.0) -> Replacement:
    """y = x * scale + offset; constants are numbers or nested lists that broadcast."""
    return Replacement("Rescaling", {"scale": scale, "offset": offset}, (x,))


def _operands(call: OpCall) -> tuple[Any, Any]:
    return call.first, call.rest.get("bias", call.rest.get("y"))


def _add(call: OpCall) -> Replacement:
    """x + y -> Add; x + c, c + x -> Rescaling(1, c)."""
    if call.rest.get("data_format", "NHWC") not in ("NHWC", None):
        raise CannotReplace("its data are not channels-last")
    x, y = _operands(call)
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return Replacement("Add", {}, (x, y))
    x, y = (x, y) if isinstance(x, Tensor) else (y, x)
    return _affine(x, offset=constant(y))


def _subtract(call: OpCall) -> Replacement:
    """x - y -> Subtract; x - c -> Rescaling(1, -c); c - x -> Rescaling(-1, c)."""
    x, y = _operands(call)
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return Replacement("Subtract", {}, (x, y))
    if isinstance(x, Tensor):
        return _affine(x, offset=(-np.asarray(constant(y), np.float64)).tolist())
    return _affine(y, scale=-1.0, offset=constant(x))


def _multiply(call: OpCall) -> Replacement:
    """x * y -> Multiply; x * c, c * x -> Rescaling(c)."""
    x, y = _operands(call)
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return Replacement("Multiply", {}, (x, y))
    x, y = (x, y) if isinstance(x, Tensor) else (y, x)
    return _affine(x, scale=constant(y))


def _divide(call: OpCall) -> Replacement:
    """x / c -> Rescaling(1 / c)."""
    x, y = _operands(call)
    if not isinstance(x, Tensor) or isinstance(y, Tensor):
        raise CannotReplace("only a division by a constant has a Keras layer")
    divisor = np.asarray(constant(y), np.float64)
    if not divisor.all():
        raise CannotReplace("it divides by zero")
    return _affine(x, scale=(1.0 / divisor).tolist())


def _power(call: OpCall) -> Replacement:
    """x ** 2 -> Multiply(x, x)."""
    x, y = _operands(call)
    if call.function == "math.pow" and y != 2:
        raise CannotReplace(f"only the power 2 has a Keras layer, not {y}")
    return Replacement("Multiply", {}, (tensor(x), tensor(x)))


def _maximum(call: OpCall) -> Replacement:
    """max(x, y) -> Maximum; max(x, 0) -> ReLU."""
    x, y = _operands(call)
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return Replacement("Maximum", {}, (x, y))
    x, y = (x, y) if isinstance(x, Tensor) else (y, x)
    if y != 0:
        raise CannotReplace(f"a maximum with a constant has a Keras layer only for 0, not {y}")
    return Replacement("ReLU", {}, (x,))


def _clip(call: OpCall) -> Replacement:
    """clip(x, 0, c) -> ReLU(max_value=c)."""
    low, high = call.rest.get("clip_value_min"), call.rest.get("clip_value_max")
    if low != 0 or not isinstance(high, int | float):
        raise CannotReplace(f"clipping has a Keras layer only from 0 up, not from {low} to {high}")
    return Replacement("ReLU", {"max_value": float(high)}, (tensor(call.first),))


def _several(class_name: str) -> Callable[[OpCall], Replacement]:
    """layer([x, y, ...]), the tensors given as one list or as x and y."""

    def remedy(call: OpCall) -> Replacement:
        first = call.first if isinstance(call.first, list) else list(_operands(call))
        return Replacement(class_name, {}, tuple(tensor(x) for x in first))

    return remedy


def _concat(call: OpCall) -> Replacement:
    axis = call.rest.get("axis")
    if axis == 0:
        raise CannotReplace("it joins along the batch axis")
    found = _several("Concatenate")(call)
    return Replacement("Concatenate", {"axis": axis}, found.inputs)


def _reduce(kind: str) -> Callable[[OpCall], Replacement]:
    """reduce(x, [1, 2]) -> Global<kind>Pooling2D; reduce(x, 1) -> Global<kind>Pooling1D."""

    def remedy(call: OpCall) -> Replacement:
        axis, keepdims = call.rest.get("axis"), bool(call.rest.get("keepdims"))
        axes: list[Any] = sorted(axis) if isinstance(axis, list) else [axis]
        rank = {(1, 2): 2, (-3, -2): 2, (1,): 1, (-2,): 1}.get(tuple(axes))
        if rank is None:
            raise CannotReplace(f"only reductions over height and width do, not over axis {axis}")
        name = f"Global{kind}Pooling{rank}D"
        return Replacement(name, {"keepdims": keepdims}, (tensor(call.first),))

    return remedy


def _pool(class_name: str) -> Callable[[OpCall], Replacement]:
    def remedy(call: OpCall) -> Replacement:
        config = {
            "pool_size": _height_width(call.rest.get("ksize")),
            "strides": _height_width(call.rest.get("strides")),
            "padding": str(call.rest.get("padding")).lower(),
        }
        if call.rest.get("data_format", "NHWC") != "NHWC":
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


def _leaky_relu(call: OpCall) -> Replacement:
    config = {"negative_slope": call.rest.get("alpha", 0.2)}
    return Replacement("LeakyReLU", config, (tensor(call.first),))


def _gelu(call: OpCall) -> Replacement:
    if call.rest.get("approximate"):
        raise CannotReplace("the tanh form of GELU has no Keras layer")
    return _activation("gelu")(call)


def _silu(call: OpCall) -> Replacement:
    if call.rest.get("beta", 1.0) != 1.0:
        raise CannotReplace("SiLU has a Keras layer only with beta 1")
    return _activation("silu")(call)


def _cast(call: OpCall) -> Replacement:
    """cast(x, float32) -> Rescaling(1), the layer that takes whatever type and returns its own."""
    if call.rest.get("dtype") != "float32":
        raise CannotReplace(f"it makes the tensor {call.rest.get('dtype')}")
    return _affine(tensor(call.first))


_REMEDIES: Mapping[str, Callable[[OpCall], Replacement]] = {
    "__operators__.add": _add,
    "__operators__.getitem": movements.getitem,
    "add_n": _several("Add"),
    "cast": _cast,
    "clip_by_value": _clip,
    "compat.v1.pad": movements.pad,
    "compat.v1.squeeze": movements.expand_or_squeeze,
    "compat.v1.transpose": movements.transpose,
    "concat": _concat,
    "expand_dims": movements.expand_or_squeeze,
    "identity": _activation("linear"),
    "math.add": _add,
    "math.add_n": _several("Add"),
    "math.divide": _divide,
    "math.exp": _activation("exponential"),
    "math.maximum": _maximum,
    "math.minimum": _several("Minimum"),
    "math.multiply": _multiply,
    "math.negative": _unary("Rescaling", scale=-1.0, offset=0.0),
    "math.pow": _power,
    "math.reduce_max": _reduce("Max"),
    "math.reduce_mean": _reduce("Average"),
    "math.sigmoid": _activation("sigmoid"),
    "math.softplus": _activation("softplus"),
    "math.square": _power,
    "math.subtract": _subtract,
    "math.tanh": _activation("tanh"),
    "math.truediv": _divide,
    "nn.avg_pool2d": _pool("AveragePooling2D"),
    "nn.bias_add": _add,
    "nn.elu": _activation("elu"),
    "nn.gelu": _gelu,
    "nn.leaky_relu": _leaky_relu,
    "nn.max_pool2d": _pool("MaxPooling2D"),
    "nn.relu": _unary("ReLU"),
    "nn.relu6": _unary("ReLU", max_value=6.0),
    "nn.selu": _activation("selu"),
    "nn.silu": _silu,
    "nn.softmax": _softmax,
    "nn.softsign": _activation("softsign"),
    "pad": movements.pad,
    "reshape": movements.reshape,
    "squeeze": movements.expand_or_squeeze,
    "stop_gradient": _activation("linear"),
    "transpose": movements.transpose,
}
