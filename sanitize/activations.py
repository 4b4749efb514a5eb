"""Element-wise functions of the kind ``activation``: name, parameters, formula, monotonicity.

The names are the ones of Keras 3. ``relu`` with an optional ceiling is a kind of its own; a ReLU
with a slope or a threshold is ``general_relu`` here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946
_erf = np.frompyfunc(math.erf, 1, 1)


def _sigmoid(x: Array) -> Array:
    # tanh saturates instead of overflowing.
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _softplus(x: Array) -> Array:
    return np.asarray(np.logaddexp(x, np.zeros((), x.dtype)))


def _gelu(x: Array, attrs: Mapping[str, Any]) -> Array:
    if attrs["approximate"]:
        inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)
        return np.asarray(0.5 * x * (1.0 + np.tanh(inner)))
    return np.asarray(0.5 * x * (1.0 + np.asarray(_erf(x / math.sqrt(2.0))).astype(x.dtype)))


def _hard_sigmoid(x: Array) -> Array:
    return np.asarray(np.clip(x + 3.0, 0.0, 6.0) / 6.0)


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _general_relu(x: Array, attrs: Mapping[str, Any]) -> Array:
    """Keras' ReLU: min(x, ceiling) above the threshold, slope * (x - threshold) up to it."""
    threshold, ceiling = attrs["threshold"], attrs["max_value"]
    upper = x if ceiling is None else np.minimum(x, ceiling)
    return np.where(x > threshold, upper, attrs["negative_slope"] * (x - threshold))


Formula = Callable[[Array, Mapping[str, Any]], Array]

FUNCTIONS: Mapping[str, Formula] = {
    "sigmoid": lambda x, attrs: _sigmoid(x),
    "tanh": lambda x, attrs: np.tanh(x),
    "silu": lambda x, attrs: x * _sigmoid(x),
    "hard_sigmoid": lambda x, attrs: _hard_sigmoid(x),
    "hard_silu": lambda x, attrs: x * _hard_sigmoid(x),
    "hard_tanh": lambda x, attrs: np.clip(x, -1.0, 1.0),
    "gelu": _gelu,
    "elu": lambda x, attrs: _elu(x, attrs["alpha"]),
    "selu": lambda x, attrs: _SELU_SCALE * _elu(x, _SELU_ALPHA),
    "softplus": lambda x, attrs: _softplus(x),
    "softsign": lambda x, attrs: x / (1.0 + np.abs(x)),
    "mish": lambda x, attrs: x * np.tanh(_softplus(x)),
    "log_sigmoid": lambda x, attrs: -_softplus(-x),
    "exponential": lambda x, attrs: np.exp(x),
    "leaky_relu": lambda x, attrs: np.where(x >= 0, x, attrs["negative_slope"] * x),
    "general_relu": _general_relu,
}

#: Functions with f(a) <= f(b) for a <= b whatever their parameters.
_MONOTONIC = frozenset(
    {
        "sigmoid",
        "tanh",
        "hard_sigmoid",
        "hard_tanh",
        "selu",
        "softplus",
        "softsign",
        "log_sigmoid",
        "exponential",
    }
)


def apply_activation(attrs: Mapping[str, Any], weights: Mapping[str, Array], x: Array) -> Array:
    """``attrs["function"]`` of ``x``; the slope of prelu is the weight ``alpha``."""
    name = attrs["function"]
    if name == "prelu":
        return np.asarray(np.maximum(x, 0) + weights["alpha"] * np.minimum(x, 0))
    return np.asarray(FUNCTIONS[name](x, attrs))


def is_monotonic(attrs: Mapping[str, Any], weights: Mapping[str, Array]) -> bool:
    """Whether the function never decreases, so that it commutes with a maximum.

    A prelu whose slope differs between pixels does not commute with pooling, whatever its sign.
    """
    name = attrs["function"]
    if name == "prelu":
        alpha = weights["alpha"]
        return alpha.size == alpha.shape[-1] and bool((alpha >= 0).all())
    if name == "elu":
        return float(attrs["alpha"]) >= 0
    if name == "leaky_relu":
        return float(attrs["negative_slope"]) >= 0
    if name == "general_relu":
        ceiling, threshold = attrs["max_value"], float(attrs["threshold"])
        top = math.inf if ceiling is None else float(ceiling)
        return float(attrs["negative_slope"]) >= 0 and 0 <= threshold <= top
    return name in _MONOTONIC
