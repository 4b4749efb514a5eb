"""The activation functions: those that networks put behind layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ._arithmetic import erf
from ._record import Array, Attrs, Emitter, Function, Tried, always, called, operator, plain

_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def _sigmoid(x: Array) -> Array:
    # tanh saturates instead of overflowing.
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _softplus(x: Array) -> Array:
    return np.asarray(np.logaddexp(x, np.zeros((), x.dtype)))


def _hard_sigmoid(x: Array) -> Array:
    return np.asarray(np.clip(x + 3.0, 0.0, 6.0) / 6.0)


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _celu(x: Array, attrs: Attrs) -> Array:
    return np.where(x > 0, x, attrs["alpha"] * np.expm1(np.minimum(x, 0) / attrs["alpha"]))


def _gelu(x: Array, attrs: Attrs) -> Array:
    if attrs["approximate"]:
        inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)
        return np.asarray(0.5 * x * (1.0 + np.tanh(inner)))
    return np.asarray(0.5 * x * (1.0 + erf(x / math.sqrt(2.0))))


def _write_gelu(w: Emitter, x: str, attrs: Attrs) -> str:
    if attrs["approximate"]:
        cube = w.emit("Mul", w.emit("Pow", x, w.number(3.0)), w.number(0.044715))
        inner = w.emit("Mul", w.emit("Add", x, cube), w.number(math.sqrt(2.0 / math.pi)))
        curve = w.emit("Tanh", inner)
    else:
        curve = w.emit("Erf", w.emit("Div", x, w.number(math.sqrt(2.0))))
    return w.emit("Mul", w.emit("Mul", x, w.number(0.5)), w.emit("Add", curve, w.number(1.0)))


def _write_silu(w: Emitter, x: str, attrs: Attrs) -> str:
    return w.emit("Mul", x, w.emit("Sigmoid", x))


def _write_mish(w: Emitter, x: str, attrs: Attrs) -> str:
    return w.emit("Mul", x, w.emit("Tanh", w.emit("Softplus", x)))


def _write_log_sigmoid(w: Emitter, x: str, attrs: Attrs) -> str:
    return w.emit("Neg", w.emit("Softplus", w.emit("Neg", x)))


def _write_hard_tanh(w: Emitter, x: str, attrs: Attrs) -> str:
    return w.emit("Clip", x, w.number(-1.0), w.number(1.0))


def _write_tanh_shrink(w: Emitter, x: str, attrs: Attrs) -> str:
    return w.emit("Sub", x, w.emit("Tanh", x))


def _write_squareplus(w: Emitter, x: str, attrs: Attrs) -> str:
    root = w.emit("Sqrt", w.emit("Add", w.emit("Mul", x, x), w.number(float(attrs["b"]))))
    return w.emit("Mul", w.emit("Add", x, root), w.number(0.5))


def _sparse_plus(x: Array) -> Array:
    return np.where(x <= -1, 0.0, np.where(x >= 1, x, 0.25 * np.square(x + 1.0)))


def _write_sparse_plus(w: Emitter, x: str, attrs: Attrs) -> str:
    line = w.emit("Add", x, w.number(1.0))
    curve = w.emit("Mul", w.emit("Mul", line, line), w.number(0.25))
    upper = w.emit("Where", w.emit("Less", x, w.number(1.0)), curve, x)
    return w.emit("Where", w.emit("Greater", x, w.number(-1.0)), upper, w.number(0.0))


def _general_relu(x: Array, attrs: Attrs) -> Array:
    """Keras' ReLU: min(x, ceiling) above the threshold, slope * (x - threshold) up to it."""
    threshold, ceiling = attrs["threshold"], attrs["max_value"]
    upper = x if ceiling is None else np.minimum(x, ceiling)
    return np.where(x > threshold, upper, attrs["negative_slope"] * (x - threshold))


def _write_general_relu(w: Emitter, x: str, attrs: Attrs) -> str:
    threshold, ceiling = w.number(float(attrs["threshold"])), attrs["max_value"]
    upper = x if ceiling is None else w.emit("Min", x, w.number(float(ceiling)))
    lower = w.emit("Mul", w.emit("Sub", x, threshold), w.number(float(attrs["negative_slope"])))
    return w.emit("Where", w.emit("Greater", x, threshold), upper, lower)


def _general_relu_rises(attrs: Attrs) -> bool:
    top = math.inf if attrs["max_value"] is None else float(attrs["max_value"])
    return float(attrs["negative_slope"]) >= 0 and 0 <= float(attrs["threshold"]) <= top


def _write_clip(w: Emitter, x: str, attrs: Attrs) -> str:
    bounds = [attrs["low"], attrs["high"]]
    return w.emit("Clip", x, *("" if bound is None else w.number(float(bound)) for bound in bounds))


def _write_threshold(w: Emitter, x: str, attrs: Attrs) -> str:
    above = w.emit("Greater", x, w.number(float(attrs["threshold"])))
    return w.emit("Where", above, x, w.number(float(attrs["default_value"])))


def _read_thresholded_relu(get: Callable[[str, Any], Any]) -> dict[str, Any]:
    return {"threshold": float(get("alpha", 1.0)), "default_value": 0.0}


def _soft_shrink(x: Array, attrs: Attrs) -> Array:
    edge = attrs["threshold"]
    return np.asarray(np.maximum(x - edge, 0.0) + np.minimum(x + edge, 0.0))


def _write_soft_shrink(w: Emitter, x: str, attrs: Attrs) -> str:
    edge = float(attrs["threshold"])
    return w.emit("Shrink", x, lambd=edge, bias=edge)


def _read_soft_shrink(get: Callable[[str, Any], Any]) -> dict[str, Any] | None:
    bias, edge = float(get("bias", 0.0)), float(get("lambd", 0.5))
    return {"threshold": edge} if bias and bias == edge else None


def _read_gelu(get: Callable[[str, Any], Any]) -> dict[str, Any]:
    return {"approximate": get("approximate", "none") == "tanh"}


ACTIVATIONS = (
    Function(
        "silu", plain(lambda x: x * _sigmoid(x)), _write_silu, called("Swish", alpha=(1.0, 1.0)),
        keras=("swish",), tensorflow=called("nn.silu", beta=(1.0, 1.0)), tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "hard_silu", plain(lambda x: x * _hard_sigmoid(x)), **operator("HardSwish"),
        keras=("hard_swish",), tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "hard_sigmoid", plain(_hard_sigmoid),
        **operator("HardSigmoid", alpha=(1 / 6, 0.2), beta=(0.5, 0.5)),
        rises=always, least=0.0, most=1.0, tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "hard_sigmoid_keras2", plain(lambda x: np.clip(0.2 * x + 0.5, 0.0, 1.0)),
        **operator("HardSigmoid", alpha=(0.2, 0.2), beta=(0.5, 0.5)),
        rises=always, least=0.0, most=1.0, keras=None, tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "sigmoid", plain(_sigmoid), **operator("Sigmoid"), rises=always, least=0.0, most=1.0,
        tensorflow=called("math.sigmoid"), tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "tanh", plain(np.tanh), **operator("Tanh"), rises=always, least=-1.0, most=1.0,
        tensorflow=called("math.tanh"), tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "hard_tanh", plain(lambda x: np.clip(x, -1.0, 1.0)), _write_hard_tanh,
        rises=always, least=-1.0, most=1.0, tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "mish", plain(lambda x: x * np.tanh(_softplus(x))), _write_mish, called("Mish"),
        tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "gelu", _gelu, _write_gelu, {"Gelu": _read_gelu}, {"approximate": False},
        tensorflow=called("nn.gelu", approximate=("approximate", False)), tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "softplus", plain(_softplus), **operator("Softplus"), rises=always, least=0.0,
        tensorflow=called("math.softplus"), tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "softsign", plain(lambda x: x / (1.0 + np.abs(x))), **operator("Softsign"),
        rises=always, least=-1.0, most=1.0, tensorflow=called("nn.softsign"),
        tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "log_sigmoid", plain(lambda x: -_softplus(-x)), _write_log_sigmoid,
        rises=always, most=0.0, tensorflow=called("math.log_sigmoid"), tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "selu", plain(lambda x: _SELU_SCALE * _elu(x, _SELU_ALPHA)),
        **operator("Selu", alpha=(_SELU_ALPHA, _SELU_ALPHA), gamma=(_SELU_SCALE, _SELU_SCALE)),
        rises=always, tensorflow=called("nn.selu"), tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "elu", lambda x, attrs: _elu(x, attrs["alpha"]), **operator("Elu", alpha=("alpha", 1.0)),
        parameters={"alpha": 1.0}, rises=lambda attrs: float(attrs["alpha"]) >= 0,
        tensorflow=called("nn.elu"), tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "celu", _celu, **operator("Celu", alpha=("alpha", 1.0)),
        parameters={"alpha": 1.0}, rises=lambda attrs: float(attrs["alpha"]) > 0,
    ),
    Function(
        "squareplus", lambda x, attrs: 0.5 * (x + np.sqrt(np.square(x) + attrs["b"])),
        _write_squareplus, parameters={"b": 4.0}, rises=always, least=0.0, tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "sparse_plus", plain(_sparse_plus), _write_sparse_plus,
        rises=always, least=0.0, tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "sparse_sigmoid", plain(lambda x: np.clip(0.5 * (x + 1.0), 0.0, 1.0)),
        **operator("HardSigmoid", alpha=(0.5, 0.2), beta=(0.5, 0.5)),
        rises=always, least=0.0, most=1.0, tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "tanh_shrink", plain(lambda x: x - np.tanh(x)), _write_tanh_shrink,
        rises=always, tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "leaky_relu", lambda x, attrs: np.where(x >= 0, x, attrs["negative_slope"] * x),
        **operator("LeakyRelu", alpha=("negative_slope", 0.01)),
        parameters={"negative_slope": 0.2}, keras=None,
        tensorflow=called("nn.leaky_relu", alpha=("negative_slope", 0.2)),
        rises=lambda attrs: float(attrs["negative_slope"]) >= 0,
    ),
    Function(
        "general_relu", _general_relu, _write_general_relu,
        parameters={"max_value": None, "negative_slope": 0.0, "threshold": 0.0}, keras=None,
        rises=_general_relu_rises,
    ),
    Function(
        "clip", lambda x, attrs: np.clip(x, attrs["low"], attrs["high"]), _write_clip,
        parameters={"low": None, "high": None}, keras=None, rises=always,
    ),
    Function(
        "threshold", lambda x, attrs: np.where(x > attrs["threshold"], x, attrs["default_value"]),
        _write_threshold, {"ThresholdedRelu": _read_thresholded_relu},
        {"threshold": 0.0, "default_value": 0.0},
        rises=lambda attrs: float(attrs["default_value"]) <= float(attrs["threshold"]),
    ),
    Function(
        "hard_shrink", lambda x, attrs: np.where(np.abs(x) > attrs["threshold"], x, 0.0),
        **operator("Shrink", lambd=("threshold", 0.5), bias=(0.0, 0.0)),
        parameters={"threshold": 0.5}, rises=lambda attrs: float(attrs["threshold"]) >= 0,
    ),
    Function(
        "soft_shrink", _soft_shrink, _write_soft_shrink, {"Shrink": _read_soft_shrink},
        {"threshold": 0.5}, rises=lambda attrs: float(attrs["threshold"]) >= 0,
    ),
)  # fmt: skip
