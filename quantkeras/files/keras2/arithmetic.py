"""Arithmetic in a Keras 2 graph: a tensor with a tensor is a merge, with a constant a Rescaling."""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from quantkeras.files.keras2 import operations
from quantkeras.files.keras2.calls import (
    CannotReplace,
    OpCall,
    Replacement,
    Tensor,
    constant,
    tensor,
)


def _affine(x: Tensor, scale: Any = 1.0, offset: Any = 0.0) -> Replacement:
    """y = x * scale + offset; constants are numbers or nested lists that broadcast."""
    return Replacement("Rescaling", {"scale": scale, "offset": offset}, (x,))


def operands(call: OpCall) -> tuple[Any, Any]:
    return call.first, call.rest.get("bias", call.rest.get("y"))


def add(call: OpCall) -> Replacement:
    """x + y -> Add; x + c, c + x -> Rescaling(1, c)."""
    if call.rest.get("data_format", "NHWC") not in ("NHWC", None):
        raise CannotReplace("its data are not channels-last")
    x, y = operands(call)
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return Replacement("Add", {}, (x, y))
    x, y = (x, y) if isinstance(x, Tensor) else (y, x)
    return _affine(x, offset=constant(y))


def subtract(call: OpCall) -> Replacement:
    """x - y -> Subtract; x - c -> Rescaling(1, -c); c - x -> Rescaling(-1, c)."""
    x, y = operands(call)
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return Replacement("Subtract", {}, (x, y))
    if isinstance(x, Tensor):
        return _affine(x, offset=(-np.asarray(constant(y), np.float64)).tolist())
    return _affine(y, scale=-1.0, offset=constant(x))


def multiply(call: OpCall) -> Replacement:
    """x * y -> Multiply; x * c, c * x -> Rescaling(c)."""
    x, y = operands(call)
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return Replacement("Multiply", {}, (x, y))
    x, y = (x, y) if isinstance(x, Tensor) else (y, x)
    return _affine(x, scale=constant(y))


def square(call: OpCall) -> Replacement:
    """x ** 2 -> Multiply(x, x)."""
    return Replacement("Multiply", {}, (tensor(call.first), tensor(call.first)))


def power(call: OpCall) -> Replacement:
    """x ** 2 -> Multiply(x, x); other powers -> the operation."""
    x, y = operands(call)
    if isinstance(x, Tensor) and y == 2:
        return square(call)
    return operations.binary(ops.power, x, y)


def divide(call: OpCall) -> Replacement:
    """x / c -> Rescaling(1 / c); c / x and x / y -> the operation."""
    x, y = operands(call)
    if not isinstance(x, Tensor) or isinstance(y, Tensor):
        return operations.binary(ops.divide, x, y)
    divisor = np.asarray(constant(y), np.float64)
    if not divisor.all():
        raise CannotReplace("it divides by zero")
    return _affine(x, scale=(1.0 / divisor).tolist())


def extremum(class_name: str, function: Callable[..., Any]) -> Callable[[OpCall], Replacement]:
    """max(x, y) -> Maximum; max(x, 0) -> ReLU; max(x, c) -> the operation; min alike."""

    def remedy(call: OpCall) -> Replacement:
        x, y = operands(call)
        if isinstance(x, Tensor) and isinstance(y, Tensor):
            return Replacement(class_name, {}, (x, y))
        if class_name == "Maximum" and 0 in (x, y):
            return Replacement("ReLU", {}, (x if isinstance(x, Tensor) else tensor(y),))
        return operations.binary(function, x, y)

    return remedy


def clip(call: OpCall) -> Replacement:
    """clip(x, 0, c) -> ReLU(max_value=c); other limits -> the operation."""
    low, high = (constant(call.rest.get(f"clip_value_{end}")) for end in ("min", "max"))
    if low == 0 and isinstance(high, int | float):
        return Replacement("ReLU", {"max_value": float(high)}, (tensor(call.first),))
    return operations.operation(lambda x: ops.clip(x, low, high), tensor(call.first))


def cast(call: OpCall) -> Replacement:
    """cast(x, float32) -> Rescaling(1), the layer that takes whatever type and returns its own."""
    if call.rest.get("dtype") != "float32":
        raise CannotReplace(f"it makes the tensor {call.rest.get('dtype')}")
    return _affine(tensor(call.first))
