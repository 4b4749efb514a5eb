"""Element-wise functions of the kind ``activation``: name, parameters, formula, monotonicity.

The names are the ones of Keras 3 (``keras.activations`` and ``keras.ops``), and so are the names of
the parameters. ``relu`` with an optional ceiling is a kind of its own; a ReLU with a slope or a
threshold is ``general_relu`` here. ``user`` stands for a function that is none of these: see
:mod:`sanitize.user_functions`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .user_functions import UserFunction

Array = NDArray[Any]

_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946
_erf = np.frompyfunc(math.erf, 1, 1)
_erfc = np.frompyfunc(math.erfc, 1, 1)


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


def _celu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))


def _sparse_plus(x: Array) -> Array:
    return np.where(x <= -1, 0.0, np.where(x >= 1, x, 0.25 * np.square(x + 1.0)))


def _soft_shrink(x: Array, threshold: float) -> Array:
    return np.asarray(np.maximum(x - threshold, 0.0) + np.minimum(x + threshold, 0.0))


def _general_relu(x: Array, attrs: Mapping[str, Any]) -> Array:
    """Keras' ReLU: min(x, ceiling) above the threshold, slope * (x - threshold) up to it."""
    threshold, ceiling = attrs["threshold"], attrs["max_value"]
    upper = x if ceiling is None else np.minimum(x, ceiling)
    return np.where(x > threshold, upper, attrs["negative_slope"] * (x - threshold))


def _user(x: Array, attrs: Mapping[str, Any]) -> Array:
    return np.asarray(attrs["user"].formula(x.astype(np.float64)), x.dtype)


Formula = Callable[[Array, Mapping[str, Any]], Array]

#: Name -> f(x, attributes); the result has the shape and the precision of x.
FUNCTIONS: Mapping[str, Formula] = {
    # Activation functions.
    "sigmoid": lambda x, attrs: _sigmoid(x),
    "tanh": lambda x, attrs: np.tanh(x),
    "silu": lambda x, attrs: x * _sigmoid(x),
    "hard_sigmoid": lambda x, attrs: _hard_sigmoid(x),
    "hard_sigmoid_keras2": lambda x, attrs: np.clip(0.2 * x + 0.5, 0.0, 1.0),
    "hard_silu": lambda x, attrs: x * _hard_sigmoid(x),
    "hard_tanh": lambda x, attrs: np.clip(x, -1.0, 1.0),
    "gelu": _gelu,
    "elu": lambda x, attrs: _elu(x, attrs["alpha"]),
    "celu": lambda x, attrs: _celu(x, attrs["alpha"]),
    "selu": lambda x, attrs: _SELU_SCALE * _elu(x, _SELU_ALPHA),
    "softplus": lambda x, attrs: _softplus(x),
    "softsign": lambda x, attrs: x / (1.0 + np.abs(x)),
    "squareplus": lambda x, attrs: 0.5 * (x + np.sqrt(np.square(x) + attrs["b"])),
    "sparse_plus": lambda x, attrs: _sparse_plus(x),
    "sparse_sigmoid": lambda x, attrs: np.clip(0.5 * (x + 1.0), 0.0, 1.0),
    "mish": lambda x, attrs: x * np.tanh(_softplus(x)),
    "log_sigmoid": lambda x, attrs: -_softplus(-x),
    "exponential": lambda x, attrs: np.exp(x),
    "leaky_relu": lambda x, attrs: np.where(x >= 0, x, attrs["negative_slope"] * x),
    "general_relu": _general_relu,
    "clip": lambda x, attrs: np.clip(x, attrs["low"], attrs["high"]),
    "threshold": lambda x, attrs: np.where(x > attrs["threshold"], x, attrs["default_value"]),
    "hard_shrink": lambda x, attrs: np.where(np.abs(x) > attrs["threshold"], x, 0.0),
    "soft_shrink": lambda x, attrs: _soft_shrink(x, attrs["threshold"]),
    "tanh_shrink": lambda x, attrs: x - np.tanh(x),
    # Arithmetic. Outside their domain they are NaN or infinite, as they are in Keras.
    "absolute": lambda x, attrs: np.abs(x),
    "square": lambda x, attrs: np.square(x),
    "power": lambda x, attrs: np.power(x, attrs["exponent"]),
    "reciprocal": lambda x, attrs: 1.0 / x,
    "sqrt": lambda x, attrs: np.sqrt(x),
    "rsqrt": lambda x, attrs: 1.0 / np.sqrt(x),
    "expm1": lambda x, attrs: np.expm1(x),
    "log": lambda x, attrs: np.log(x),
    "log1p": lambda x, attrs: np.log1p(x),
    "log2": lambda x, attrs: np.log2(x),
    "log10": lambda x, attrs: np.log10(x),
    "erf": lambda x, attrs: np.asarray(_erf(x)).astype(x.dtype),
    "erfc": lambda x, attrs: np.asarray(_erfc(x)).astype(x.dtype),
    "sin": lambda x, attrs: np.sin(x),
    "cos": lambda x, attrs: np.cos(x),
    "sinh": lambda x, attrs: np.sinh(x),
    "cosh": lambda x, attrs: np.cosh(x),
    "arctan": lambda x, attrs: np.arctan(x),
    "arcsinh": lambda x, attrs: np.arcsinh(x),
    "user": _user,
}

#: Parameters that a function has, with the values that Keras takes where none are given.
PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "gelu": {"approximate": False},
    "elu": {"alpha": 1.0},
    "celu": {"alpha": 1.0},
    "squareplus": {"b": 4.0},
    "leaky_relu": {"negative_slope": 0.2},
    "general_relu": {"max_value": None, "negative_slope": 0.0, "threshold": 0.0},
    "clip": {"low": None, "high": None},
    "threshold": {"threshold": 0.0, "default_value": 0.0},
    "hard_shrink": {"threshold": 0.5},
    "soft_shrink": {"threshold": 0.5},
    "power": {"exponent": 1.0},
}

#: Functions with f(a) <= f(b) for a <= b whatever their parameters.
_MONOTONIC = frozenset(
    {
        "sigmoid",
        "tanh",
        "hard_sigmoid",
        "hard_sigmoid_keras2",
        "hard_tanh",
        "selu",
        "softplus",
        "softsign",
        "squareplus",
        "sparse_plus",
        "sparse_sigmoid",
        "log_sigmoid",
        "exponential",
        "clip",
        "tanh_shrink",
        "expm1",
        "erf",
        "sinh",
        "arctan",
        "arcsinh",
    }
)


def apply_activation(attrs: Mapping[str, Any], weights: Mapping[str, Array], x: Array) -> Array:
    """``attrs["function"]`` of ``x``, in the precision of ``x``.

    The slope of prelu is the weight ``alpha``. Values outside the domain of a function (the
    logarithm of a negative number) are NaN or infinite, without a warning.
    """
    name = attrs["function"]
    if name == "prelu":
        return np.asarray(np.maximum(x, 0) + weights["alpha"] * np.minimum(x, 0))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        return np.asarray(FUNCTIONS[name](x, attrs), x.dtype)


def is_monotonic(attrs: Mapping[str, Any], weights: Mapping[str, Array]) -> bool:
    """Whether the function never decreases, so that it commutes with a maximum.

    A prelu whose slope differs between pixels does not commute with pooling, whatever its sign.
    A function of the user's is not known to be monotonic.
    """
    name = attrs["function"]
    if name == "prelu":
        alpha = weights["alpha"]
        return alpha.size == alpha.shape[-1] and bool((alpha >= 0).all())
    if name == "elu":
        return float(attrs["alpha"]) >= 0
    if name == "celu":
        return float(attrs["alpha"]) > 0
    if name == "leaky_relu":
        return float(attrs["negative_slope"]) >= 0
    if name == "threshold":
        return float(attrs["default_value"]) <= float(attrs["threshold"])
    if name in ("hard_shrink", "soft_shrink"):
        return float(attrs["threshold"]) >= 0
    if name == "general_relu":
        ceiling, threshold = attrs["max_value"], float(attrs["threshold"])
        top = math.inf if ceiling is None else float(ceiling)
        return float(attrs["negative_slope"]) >= 0 and 0 <= threshold <= top
    return name in _MONOTONIC


__all__ = ["FUNCTIONS", "PARAMETERS", "UserFunction", "apply_activation", "is_monotonic"]
