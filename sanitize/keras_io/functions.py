"""Activation functions: what Keras calls them, and what the graph calls them, both ways.

A *spec* is the attributes of an activation node plus its kind: {"kind": "relu"}, {"kind": "relu",
"max_value": 6.0}, {"kind": "activation", "function": "tanh"}, {"kind": "softmax", "axis": ...} or
{"kind": "identity"}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from .probe import probe_elementwise

Spec = dict[str, Any]

#: Functions without parameters, by the name that Keras, its operations and its classes have.
PLAIN: Mapping[str, str] = {
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "silu": "silu",
    "swish": "silu",
    "hard_sigmoid": "hard_sigmoid",
    "hard_silu": "hard_silu",
    "hard_swish": "hard_silu",
    "hard_tanh": "hard_tanh",
    "selu": "selu",
    "softplus": "softplus",
    "softsign": "softsign",
    "mish": "mish",
    "log_sigmoid": "log_sigmoid",
    "exponential": "exponential",
}


def relu_spec(max_value: Any, negative_slope: Any = 0.0, threshold: Any = 0.0) -> Spec:
    """The spec of Keras' ReLU with these parameters."""
    ceiling = None if max_value is None else float(max_value)
    slope, start = float(negative_slope), float(threshold)
    if slope == 0.0 and start == 0.0:
        return {"kind": "relu"} if ceiling is None else {"kind": "relu", "max_value": ceiling}
    if start == 0.0 and ceiling is None:
        return {"kind": "activation", "function": "leaky_relu", "negative_slope": slope}
    return {
        "kind": "activation",
        "function": "general_relu",
        "max_value": ceiling,
        "negative_slope": slope,
        "threshold": start,
    }


def function_spec(function: Callable[..., Any] | None, rank: int) -> Spec | None:
    """The spec of an activation function or layer object; None when it is not understood.

    ``rank`` is the rank of the unbatched tensor (softmax works on its last axis).
    """
    if function is None or function is keras.activations.linear:
        return {"kind": "identity"}
    if isinstance(function, keras.layers.Layer):
        return _layer_spec(function, rank)
    if function in (keras.activations.softmax, keras.ops.softmax):
        return {"kind": "softmax", "axis": rank - 1}
    for owner in (keras.activations, keras.ops):
        for name, mine in PLAIN.items():
            if getattr(owner, name, None) is function:
                return {"kind": "activation", "function": mine}
    known = {
        keras.activations.relu: relu_spec(None),
        keras.ops.relu: relu_spec(None),
        keras.activations.relu6: relu_spec(6.0),
        keras.ops.relu6: relu_spec(6.0),
        keras.activations.leaky_relu: relu_spec(None, 0.2),
        keras.ops.leaky_relu: relu_spec(None, 0.2),
        keras.activations.elu: {"kind": "activation", "function": "elu", "alpha": 1.0},
        keras.ops.elu: {"kind": "activation", "function": "elu", "alpha": 1.0},
        keras.activations.gelu: {"kind": "activation", "function": "gelu", "approximate": False},
        keras.ops.gelu: {"kind": "activation", "function": "gelu", "approximate": True},
        gelu_tanh: {"kind": "activation", "function": "gelu", "approximate": True},
    }
    if function in known:
        return dict(known[function])
    return probe_elementwise(function)


def _layer_spec(layer: Any, rank: int) -> Spec | None:
    kind = type(layer)
    if kind is keras.layers.ReLU:
        return relu_spec(layer.max_value, layer.negative_slope, layer.threshold)
    if kind is keras.layers.LeakyReLU:
        return relu_spec(None, layer.negative_slope)
    if kind is keras.layers.ELU:
        return {"kind": "activation", "function": "elu", "alpha": float(layer.alpha)}
    if kind is keras.layers.Activation:
        return function_spec(layer.activation, rank)
    if kind is keras.layers.Softmax:
        axis = layer.axis
        if isinstance(axis, int):
            return {"kind": "softmax", "axis": axis - 1 if axis > 0 else rank + axis}
    return None


@keras.saving.register_keras_serializable(package="sanitize")
def gelu_tanh(x: Any) -> Any:
    """GELU in its tanh approximation, as a function that Keras can save by name."""
    return keras.activations.gelu(x, approximate=True)


def activation_layer(spec: Mapping[str, Any], name: str | None = None) -> Any:
    """A Keras layer that computes ``spec`` (relu, activation without weights, softmax)."""
    if spec["kind"] == "softmax":
        return keras.layers.Softmax(axis=spec["axis"] + 1, name=name)
    if spec["kind"] == "relu":
        return keras.layers.ReLU(max_value=spec.get("max_value"), name=name)
    function = spec["function"]
    if function == "leaky_relu":
        return keras.layers.LeakyReLU(negative_slope=spec["negative_slope"], name=name)
    if function == "general_relu":
        return keras.layers.ReLU(
            max_value=spec["max_value"],
            negative_slope=spec["negative_slope"],
            threshold=spec["threshold"],
            name=name,
        )
    if function == "elu":
        return keras.layers.ELU(alpha=spec["alpha"], name=name)
    return keras.layers.Activation(_activation_name(spec), name=name)


def _activation_name(spec: Mapping[str, Any]) -> Any:
    if spec["function"] == "gelu":
        return gelu_tanh if spec["approximate"] else "gelu"
    return spec["function"]


def activation_argument(spec: Mapping[str, Any] | None) -> Any:
    """What to pass as ``activation=`` so that the layer computes ``spec``."""
    if spec is None:
        return None
    if spec["kind"] == "softmax":
        return "softmax"
    if spec["kind"] == "relu" and spec.get("max_value") in (None, 6.0):
        return "relu" if spec.get("max_value") is None else "relu6"
    if spec["kind"] == "activation" and spec["function"] in (*PLAIN.values(), "gelu"):
        return _activation_name(spec)
    return activation_layer(spec)
