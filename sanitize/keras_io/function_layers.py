"""Activations as Keras layers: by name where Keras has one, as an operation where it has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from ..functions import FUNCTIONS
from .opaque_layers import clone_with_weights, operation_layer

ops = keras.ops


@keras.saving.register_keras_serializable(package="sanitize")
def gelu_tanh(x: Any) -> Any:
    """GELU in its tanh approximation, as a function that Keras can save by name."""
    return keras.activations.gelu(x, approximate=True)


@keras.saving.register_keras_serializable(package="sanitize")
def hard_sigmoid_keras2(x: Any) -> Any:
    """clip(0.2 * x + 0.5, 0, 1), the hard sigmoid of Keras 2."""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def _clip(x: Any, low: float | None, high: float | None) -> Any:
    if low is None:
        return ops.minimum(x, high)
    return ops.maximum(x, low) if high is None else ops.clip(x, low, high)


def activation_layer(spec: Mapping[str, Any], name: str | None = None) -> Any:
    """A Keras layer that computes ``spec`` (relu, activation without weights, softmax)."""
    if spec["kind"] == "softmax":
        return keras.layers.Softmax(axis=spec["axis"] + 1, name=name)
    if spec["kind"] == "relu":
        return keras.layers.ReLU(max_value=spec.get("max_value"), name=name)
    function = spec["function"]
    parameters = {key: spec[key] for key in FUNCTIONS[function].parameters}
    if function == "leaky_relu":
        return keras.layers.LeakyReLU(**parameters, name=name)
    if function == "general_relu":
        return keras.layers.ReLU(**parameters, name=name)
    if function == "elu":
        return keras.layers.ELU(**parameters, name=name)
    if function == "user" and isinstance(spec["user"].keras_function, keras.layers.Layer):
        return clone_with_weights(spec["user"].keras_function, name)
    named = _keras_function(spec)
    if named is not None:
        return keras.layers.Activation(named, name=name)
    operation = _clip if function == "clip" else getattr(ops, function)
    return operation_layer(lambda x: operation(x, *parameters.values()), name=name)


def activation_argument(spec: Mapping[str, Any] | None) -> Any:
    """What to pass as ``activation=`` so that the layer computes ``spec``."""
    if spec is None:
        return None
    if spec["kind"] == "softmax":
        return "softmax"
    if spec["kind"] == "relu" and spec.get("max_value") in (None, 6.0):
        return "relu" if spec.get("max_value") is None else "relu6"
    named = _keras_function(spec) if spec["kind"] == "activation" else None
    return activation_layer(spec) if named is None else named


def _keras_function(spec: Mapping[str, Any]) -> Any:
    """The name or function by which an Activation layer knows ``spec``; None when it has none."""
    function = spec["function"]
    if function == "user":
        given = spec["user"].keras_function
        return None if isinstance(given, keras.layers.Layer) else given
    if function == "gelu":
        return gelu_tanh if spec["approximate"] else "gelu"
    if function == "hard_sigmoid_keras2":
        return hard_sigmoid_keras2
    plain = all(spec[key] == value for key, value in FUNCTIONS[function].parameters.items())
    # `threshold` has no defaults in Keras.
    named = hasattr(keras.activations, function) and function != "threshold"
    return function if plain and named else None
