"""What bare Keras operations (``x + y``, ``ops.relu(x)``, ``x[:, 1:]``) are in the graph.

The table goes by the class name of the operation, which is the name of the function in
``keras.ops`` in camel case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..functions import named_spec, relu_spec
from .call import Array, Call, Entry, Slot, operands_of
from .emit import (
    affine_weights,
    emit_affine,
    emit_slice,
    emit_spec,
    inner_axis,
)
from .keras_functions import OPERATION_NAMES, limit_spec, operation_spec
from .read_indexing import INDEXING
from .read_movements import MOVEMENTS
from .read_sums import SUMS


def _binary(kind: str) -> Entry:
    """Two tensors of one rank become a merge, a tensor and a constant an affine map."""

    def entry(call: Call) -> bool:
        operands = operands_of(call)
        if operands is None:
            return False
        a, b = operands
        if isinstance(a, Slot) and isinstance(b, Slot):
            if len(call.shapes[0]) != len(call.shapes[1]):
                return False
            if kind == "divide":
                return _quotient(call)
            call.emit(kind)
            return True
        if kind == "add":
            return emit_affine(call, 1.0, b if isinstance(a, Slot) else a)
        if kind == "multiply":
            return emit_affine(call, b if isinstance(a, Slot) else a, 0.0)
        if kind == "subtract":
            return emit_affine(call, 1.0, -b) if isinstance(a, Slot) else emit_affine(call, -1.0, a)
        if kind == "divide" and isinstance(b, Slot):
            return _constant_quotient(call, a)
        if kind == "divide" and bool(np.all(b != 0)):
            return emit_affine(call, 1.0 / b, 0.0)
        if kind in ("maximum", "minimum"):
            return _limit(call, kind, b if isinstance(a, Slot) else a)
        return False

    return entry


def _quotient(call: Call) -> bool:
    """x / y is x times the reciprocal of y."""
    attrs = {"function": "reciprocal"}
    inverse = call.emit("activation", [call.values[1]], attrs, suffix="reciprocal")
    call.emit("multiply", [call.values[0], inverse])
    return True


def _constant_quotient(call: Call, constant: Array) -> bool:
    """c / x is the reciprocal of x times c."""
    spec = named_spec("reciprocal")
    if constant.size == 1 and float(constant.item()) == 1.0:
        return emit_spec(call, spec)
    if affine_weights(call, constant, 0.0) is None:
        return False
    inverse = call.emit("activation", attrs={"function": "reciprocal"}, suffix="reciprocal")
    return emit_affine(call, constant, 0.0, [inverse])


def _limit(call: Call, kind: str, constant: Array) -> bool:
    """max(x, c) is a clip, and for c per channel relu(x - c) + c; min(x, c) is c - relu(c - x)."""
    if constant.size == 1:
        return emit_spec(call, limit_spec(kind, float(constant.item())))
    sign = 1.0 if kind == "maximum" else -1.0
    weights = affine_weights(call, sign, -sign * constant)
    if weights is None:
        return False
    above = call.emit("affine", weights=weights, suffix="above")
    kept = call.emit("relu", [above], suffix="kept")
    return emit_affine(call, sign, constant, [kept])


def _negative(call: Call) -> bool:
    return emit_affine(call, -1.0, 0.0)


def _power(call: Call) -> bool:
    """x ** c, and c ** x = exp(x log c)."""
    operands = operands_of(call)
    if operands is None:
        return False
    base, exponent = operands
    if isinstance(base, Slot) and not isinstance(exponent, Slot):
        return emit_spec(call, operation_spec(call.operation, [exponent]))
    if isinstance(base, Slot) or base.size != 1 or float(base.item()) <= 0.0:
        return False
    weights = {"scale": np.log(float(base.item())), "offset": 0.0}
    scaled = call.emit("affine", weights=weights, suffix="scaled")
    call.emit("activation", [scaled], {"function": "exponential"})
    return True


def _function(call: Call) -> bool:
    """An element-wise function whose parameters are attributes of the operation."""
    return call.only_one_tensor and emit_spec(call, operation_spec(call.operation, ()))


def _spec(kind: str, **attrs: Any) -> Entry:
    """An activation without parameters."""

    def entry(call: Call) -> bool:
        return call.only_one_tensor and emit_spec(call, {"kind": kind, **attrs})

    return entry


def _leaky_relu(call: Call) -> bool:
    return emit_spec(call, relu_spec(None, call.operation.negative_slope))


def _general_relu(call: Call) -> bool:
    operation = call.operation
    return emit_spec(
        call, relu_spec(operation.max_value, operation.negative_slope, operation.threshold)
    )


def _softmax(call: Call) -> bool:
    axis, rank = call.operation.axis, len(call.shapes[0])
    if not isinstance(axis, int) or axis == 0:
        return False
    return emit_spec(call, {"kind": "softmax", "axis": axis - 1 if axis > 0 else rank + axis})


def _glu(call: Call) -> bool:
    """One half of an axis times the sigmoid of the other."""
    shape, axis = call.shapes[0], inner_axis(call, call.operation.axis)
    if axis is None or shape[axis] is None:
        return False
    rank, half = len(shape), int(shape[axis] or 0) // 2
    first = emit_slice(call, call.values[0], rank, axis, (0, half, 1), suffix="first")
    second = emit_slice(call, call.values[0], rank, axis, (half, 2 * half, 1), suffix="second")
    gate = call.emit("activation", [second], {"function": "sigmoid"}, suffix="gate")
    call.emit("multiply", [first, gate])
    return True


def _identity(call: Call) -> bool:
    call.emit("identity")
    return True


OPERATIONS: Mapping[str, Entry] = {
    **dict.fromkeys(OPERATION_NAMES, _function),
    "Relu": _spec("relu"),
    "Relu6": _spec("relu", max_value=6.0),
    "ReLU": _general_relu,
    "LeakyRelu": _leaky_relu,
    "Softmax": _softmax,
    "Add": _binary("add"),
    "Subtract": _binary("subtract"),
    "Multiply": _binary("multiply"),
    "Divide": _binary("divide"),
    "TrueDivide": _binary("divide"),
    "Maximum": _binary("maximum"),
    "Minimum": _binary("minimum"),
    "Negative": _negative,
    "Power": _power,
    "Clip": _function,
    "Glu": _glu,
    **INDEXING,
    **MOVEMENTS,
    **SUMS,
    "Copy": _identity,
    "StopGradient": _identity,
    "Identity": _identity,
}
