"""Activation functions: what Keras calls them, and what the graph calls them.

A *spec* is the attributes of an activation node plus its kind: {"kind": "relu"}, {"kind": "relu",
"max_value": 6.0}, {"kind": "activation", "function": "tanh"}, {"kind": "softmax", "axis": ...} or
{"kind": "identity"}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from ..functions import (
    FUNCTIONS,
    KERAS_FUNCTIONS,
    clip_spec,
    named_spec,
    power_spec,
    relu_spec,
)
from .opaque_layers import OperationLayer
from .probe import probe_elementwise, probe_softmax
from .user import probed_spec, registered_spec

Spec = dict[str, Any]

#: The graph's name for each function, by the class name of the operation.
OPERATION_NAMES: Mapping[str, str] = {
    "".join(map(str.capitalize, name.split("_"))): function.name
    for name, function in KERAS_FUNCTIONS.items()
}


def spec_of_object(function: str, owner: Any) -> Spec | None:
    """The spec of ``function`` with the parameters that a layer or operation has as attributes.

    None where a parameter is not one number.
    """
    found = {name: getattr(owner, name) for name in FUNCTIONS[function].parameters}
    if any(np.ndim(value) for value in found.values() if value is not None):
        return None
    numbers = {
        name: value if value is None or isinstance(value, bool) else float(value)
        for name, value in found.items()
    }
    return named_spec(function, **numbers)


def limit_spec(kind: str, limit: float) -> Spec:
    """The spec of maximum(x, limit) or minimum(x, limit)."""
    return clip_spec(limit, None) if kind == "maximum" else clip_spec(None, limit)


def operation_spec(operation: Any, constants: Sequence[Any]) -> Spec | None:
    """The spec of a Keras operation on one tensor and behind it ``constants``; None for others."""
    kind = type(operation).__name__
    if not constants and kind in OPERATION_NAMES:
        return spec_of_object(OPERATION_NAMES[kind], operation)
    if kind == "Clip":
        limits = (operation.x_min, operation.x_max)
        if any(np.ndim(limit) for limit in limits):
            return None
        return clip_spec(*(None if limit is None else float(limit) for limit in limits))
    if len(constants) != 1 or np.size(constants[0]) != 1:
        return None
    number = float(np.asarray(constants[0]).item())
    if kind == "Power":
        return power_spec(number)
    return limit_spec(kind.lower(), number) if kind in ("Maximum", "Minimum") else None


def function_spec(function: Callable[..., Any] | None, rank: int) -> Spec | None:
    """The spec of an activation function or layer object; None when it is not element-wise.

    ``rank`` is the rank of the unbatched tensor (softmax works on its last axis). A function that
    is none of Keras' is understood by its registered formula or by trying it.
    """
    if function is None or function is keras.activations.linear:
        return {"kind": "identity"}
    if isinstance(function, keras.layers.Layer):
        return _layer_spec(function, rank)
    if function in (keras.activations.softmax, keras.ops.softmax):
        return {"kind": "softmax", "axis": rank - 1}
    if function is keras.ops.gelu:
        return named_spec("gelu", approximate=True)
    for owner in (keras.activations, keras.ops):
        for name, known in KERAS_FUNCTIONS.items():
            if getattr(owner, name, None) is function:
                return named_spec(known.name)
    rectified = {
        keras.activations.relu: relu_spec(None),
        keras.ops.relu: relu_spec(None),
        keras.activations.relu6: relu_spec(6.0),
        keras.ops.relu6: relu_spec(6.0),
        keras.activations.leaky_relu: relu_spec(None, 0.2),
        keras.ops.leaky_relu: relu_spec(None, 0.2),
        keras.ops.negative: None,
    }
    if function in rectified:
        return rectified[function]
    return (
        registered_spec(function)
        or probe_elementwise(function, (4,) * rank)
        or probe_softmax(function, (4,) * rank)
        or probed_spec(function, (4,) * rank)
    )


def _layer_spec(layer: Any, rank: int) -> Spec | None:
    kind = type(layer)
    if kind is keras.layers.ReLU:
        return relu_spec(layer.max_value, layer.negative_slope, layer.threshold)
    if kind is keras.layers.LeakyReLU:
        return relu_spec(None, layer.negative_slope)
    if kind is keras.layers.ELU:
        return spec_of_object("elu", layer)
    if kind is keras.layers.Activation:
        return function_spec(layer.activation, rank)
    if kind is keras.layers.Softmax:
        axis = layer.axis
        if isinstance(axis, int):
            return {"kind": "softmax", "axis": axis - 1 if axis > 0 else rank + axis}
        return None
    if kind is OperationLayer:
        (first, *constants), keywords = layer.arguments.value
        alone = first == {"slot": 0} and not keywords
        return operation_spec(layer.operation, constants) if alone else None
    return registered_spec(layer)
