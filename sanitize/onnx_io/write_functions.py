"""Element-wise functions as ONNX operators of opset 17: one operator where there is one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..onnx_errors import OnnxError


class Emitter(Protocol):
    """What the formulas need of a writer."""

    def emit(self, op: str, *inputs: str, **attributes: Any) -> str: ...

    def number(self, value: float) -> str: ...


Formula = Callable[[Emitter, str, Mapping[str, Any]], str]


def _one(op: str, **attributes: float) -> Formula:
    return lambda w, x, attrs: w.emit(op, x, **attributes)


def _with(op: str, parameter: str) -> Formula:
    """An operator with ``alpha``, which is the attribute ``parameter`` of the function."""
    return lambda w, x, attrs: w.emit(op, x, alpha=float(attrs[parameter]))


def _silu(w: Emitter, x: str, attrs: Mapping[str, Any]) -> str:
    return w.emit("Mul", x, w.emit("Sigmoid", x))


def _gelu(w: Emitter, x: str, attrs: Mapping[str, Any]) -> str:
    if attrs["approximate"]:
        cube = w.emit("Mul", w.emit("Pow", x, w.number(3.0)), w.number(0.044715))
        inner = w.emit("Mul", w.emit("Add", x, cube), w.number(math.sqrt(2.0 / math.pi)))
        curve = w.emit("Tanh", inner)
    else:
        curve = w.emit("Erf", w.emit("Div", x, w.number(math.sqrt(2.0))))
    return w.emit("Mul", w.emit("Mul", x, w.number(0.5)), w.emit("Add", curve, w.number(1.0)))


def _softsign(w: Emitter, x: str, attrs: Mapping[str, Any]) -> str:
    return w.emit("Softsign", x)


def _squareplus(w: Emitter, x: str, attrs: Mapping[str, Any]) -> str:
    root = w.emit("Sqrt", w.emit("Add", w.emit("Mul", x, x), w.number(float(attrs["b"]))))
    return w.emit("Mul", w.emit("Add", x, root), w.number(0.5))


def _sparse_plus(w: Emitter, x: str, attrs: Mapping[str, Any]) -> str:
    line = w.emit("Add", x, w.number(1.0))
    curve = w.emit("Mul", w.emit("Mul", line, line), w.number(0.25))
    upper = w.emit("Where", w.emit("Less", x, w.number(1.0)), curve, x)
    return w.emit("Where", w.emit("Greater", x, w.number(-1.0)), upper, w.number(0.0))


def _mish(w: Emitter, x: str, attrs: Mapping[str, Any]) -> str:
    return w.emit("Mul", x, w.emit("Tanh", w.emit("Softplus", x)))


def _log_sigmoid(w: Emitter, x: str, attrs: Mapping[str, Any]) -> str:
    return w.emit("Neg", w.emit("Softplus", w.emit("Neg", x)))


def _general_relu(w: Emitter, x: str, attrs: Mapping[str, Any]) -> str:
    threshold, ceiling = w.number(float(attrs["threshold"])), attrs["max_value"]
    upper = x if ceiling is None else w.emit("Min", x, w.number(float(ceiling)))
    lower = w.emit("Mul", w.emit("Sub", x, threshold), w.number(float(attrs["negative_slope"])))
    return w.emit("Where", w.emit("Greater", x, threshold), upper, lower)


def _clip(w: Emitter, x: str, attrs: Mapping[str, Any]) -> str:
    bounds = [attrs["low"], attrs["high"]]
    return w.emit("Clip", x, *("" if bound is None else w.number(float(bound)) for bound in bounds))


def _threshold(w: Emitter, x: str, attrs: Mapping[str, Any]) -> str:
    above = w.emit("Greater", x, w.number(float(attrs["threshold"])))
    return w.emit("Where", above, x, w.number(float(attrs["default_value"])))


def _shrink(soft: bool) -> Formula:
    def write(w: Emitter, x: str, attrs: Mapping[str, Any]) -> str:
        edge = float(attrs["threshold"])
        return w.emit("Shrink", x, lambd=edge, bias=edge if soft else 0.0)

    return write


def _with_number(op: str, value: float, first: str = "") -> Formula:
    """``op`` of x (or of another operator of x) and a number."""

    def write(w: Emitter, x: str, attrs: Mapping[str, Any]) -> str:
        return w.emit(op, w.emit(first, x) if first else x, w.number(value))

    return write


def _log1p(w: Emitter, x: str, attrs: Mapping[str, Any]) -> str:
    return w.emit("Log", w.emit("Add", x, w.number(1.0)))


FUNCTIONS: Mapping[str, Formula] = {
    "sigmoid": _one("Sigmoid"),
    "tanh": _one("Tanh"),
    "silu": _silu,
    "hard_sigmoid": _one("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hard_sigmoid_keras2": _one("HardSigmoid", alpha=0.2, beta=0.5),
    "hard_silu": _one("HardSwish"),
    "hard_tanh": lambda w, x, attrs: w.emit("Clip", x, w.number(-1.0), w.number(1.0)),
    "gelu": _gelu,
    "elu": _with("Elu", "alpha"),
    "celu": _with("Celu", "alpha"),
    "selu": _one("Selu"),
    "softplus": _one("Softplus"),
    "softsign": _softsign,
    "squareplus": _squareplus,
    "sparse_plus": _sparse_plus,
    "sparse_sigmoid": _one("HardSigmoid", alpha=0.5, beta=0.5),
    "mish": _mish,
    "log_sigmoid": _log_sigmoid,
    "exponential": _one("Exp"),
    "leaky_relu": _with("LeakyRelu", "negative_slope"),
    "general_relu": _general_relu,
    "clip": _clip,
    "threshold": _threshold,
    "hard_shrink": _shrink(False),
    "soft_shrink": _shrink(True),
    "tanh_shrink": lambda w, x, attrs: w.emit("Sub", x, w.emit("Tanh", x)),
    "absolute": _one("Abs"),
    "square": lambda w, x, attrs: w.emit("Mul", x, x),
    "power": lambda w, x, attrs: w.emit("Pow", x, w.number(float(attrs["exponent"]))),
    "reciprocal": _one("Reciprocal"),
    "sqrt": _one("Sqrt"),
    "rsqrt": lambda w, x, attrs: w.emit("Reciprocal", w.emit("Sqrt", x)),
    "expm1": _with_number("Sub", 1.0, "Exp"),
    "log": _one("Log"),
    "log1p": _log1p,
    "log2": _with_number("Div", math.log(2.0), "Log"),
    "log10": _with_number("Div", math.log(10.0), "Log"),
    "erf": _one("Erf"),
    "erfc": lambda w, x, attrs: w.emit("Sub", w.number(1.0), w.emit("Erf", x)),
    "sin": _one("Sin"),
    "cos": _one("Cos"),
    "sinh": _one("Sinh"),
    "cosh": _one("Cosh"),
    "arctan": _one("Atan"),
    "arcsinh": _one("Asinh"),
}
"""Name of a function of the kind ``activation`` -> how it is written; prelu has weights."""


def write_function(writer: Emitter, x: str, attrs: Mapping[str, Any], name: str) -> str:
    """The function ``attrs["function"]`` of ``x``; ``name``: of the node, for the message."""
    formula = FUNCTIONS.get(attrs["function"])
    if formula is None:
        raise OnnxError(
            f"node '{name}' is the function '{attrs['function']}', which ONNX has no operators for"
        )
    return formula(writer, x, attrs)
