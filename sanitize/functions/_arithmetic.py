"""Functions of one number that networks compute with: roots, powers, logarithms and the like.

Outside their domain they are NaN or infinite, as they are in Keras.
"""

from __future__ import annotations

import math

import numpy as np

from ._record import (
    Array,
    Attrs,
    Emitter,
    Function,
    Tried,
    always,
    called,
    chain,
    operator,
    plain,
    with_number,
)

_erf = np.frompyfunc(math.erf, 1, 1)
_erfc = np.frompyfunc(math.erfc, 1, 1)


def erf(x: Array) -> Array:
    """The error function, in the precision of ``x``."""
    return np.asarray(_erf(x)).astype(x.dtype)


def _write_square(w: Emitter, x: str, attrs: Attrs) -> str:
    return w.emit("Mul", x, x)


def _write_power(w: Emitter, x: str, attrs: Attrs) -> str:
    return w.emit("Pow", x, w.number(float(attrs["exponent"])))


def _write_log1p(w: Emitter, x: str, attrs: Attrs) -> str:
    return w.emit("Log", w.emit("Add", x, w.number(1.0)))


def _write_erfc(w: Emitter, x: str, attrs: Attrs) -> str:
    return w.emit("Sub", w.number(1.0), w.emit("Erf", x))


ARITHMETIC = (
    Function(
        "exponential", plain(np.exp), **operator("Exp"), rises=always, least=0.0, keras=("exp",),
        tensorflow=called("math.exp"), tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "absolute", plain(np.abs), **operator("Abs"), least=0.0, keras=("abs",),
        tensorflow=called("math.abs"), tried=Tried.WRITTEN_OUT,
    ),
    Function(
        "sign", plain(np.sign), **operator("Sign"), rises=always, least=-1.0, most=1.0,
        tensorflow=called("math.sign"), tried=Tried.ALONE,
    ),
    # Halves go to the even number, as in Keras and ONNX.
    Function(
        "round", plain(np.rint), **operator("Round"), rises=always,
        tensorflow=called("math.round"), tried=Tried.ALONE,
    ),
    Function(
        "floor", plain(np.floor), **operator("Floor"), rises=always,
        tensorflow=called("math.floor"), tried=Tried.ALONE,
    ),
    Function(
        "ceil", plain(np.ceil), **operator("Ceil"), rises=always,
        tensorflow=called("math.ceil"), tried=Tried.ALONE,
    ),
    Function("square", plain(np.square), _write_square, least=0.0, tried=Tried.ALONE),
    Function(
        "power", lambda x, attrs: np.power(x, attrs["exponent"]), _write_power,
        parameters={"exponent": 1.0}, keras=None,
    ),
    Function(
        "reciprocal", plain(lambda x: 1.0 / x), **operator("Reciprocal"),
        tensorflow=called("math.reciprocal"),
    ),
    Function("sqrt", plain(np.sqrt), **operator("Sqrt"), least=0.0, tensorflow=called("math.sqrt")),
    Function(
        "rsqrt", plain(lambda x: 1.0 / np.sqrt(x)), chain("Sqrt", "Reciprocal"), least=0.0,
        tensorflow=called("math.rsqrt"),
    ),
    Function(
        "expm1", plain(np.expm1), with_number("Sub", 1.0, "Exp"), rises=always, least=-1.0,
        tensorflow=called("math.expm1"),
    ),
    Function("log", plain(np.log), **operator("Log"), tensorflow=called("math.log")),
    Function("log1p", plain(np.log1p), _write_log1p, tensorflow=called("math.log1p")),
    Function("log2", plain(np.log2), with_number("Div", math.log(2.0), "Log")),
    Function("log10", plain(np.log10), with_number("Div", math.log(10.0), "Log")),
    Function(
        "erf", plain(erf), **operator("Erf"), rises=always, least=-1.0, most=1.0,
        tried=Tried.ALONE, tensorflow=called("math.erf"),
    ),
    Function(
        "erfc", plain(lambda x: np.asarray(_erfc(x)).astype(x.dtype)), _write_erfc,
        least=0.0, most=2.0,
    ),
    Function(
        "sin", plain(np.sin), **operator("Sin"), least=-1.0, most=1.0, tried=Tried.ALONE,
        tensorflow=called("math.sin"),
    ),
    Function(
        "cos", plain(np.cos), **operator("Cos"), least=-1.0, most=1.0, tried=Tried.ALONE,
        tensorflow=called("math.cos"),
    ),
    Function(
        "sinh", plain(np.sinh), **operator("Sinh"), rises=always, tensorflow=called("math.sinh"),
    ),
    Function("cosh", plain(np.cosh), **operator("Cosh"), least=1.0, tensorflow=called("math.cosh")),
    Function(
        "arctan", plain(np.arctan), **operator("Atan"), rises=always, tried=Tried.ALONE,
        tensorflow=called("math.atan"),
    ),
    Function(
        "arcsinh", plain(np.arcsinh), **operator("Asinh"), rises=always,
        tensorflow=called("math.asinh"),
    ),
)  # fmt: skip
