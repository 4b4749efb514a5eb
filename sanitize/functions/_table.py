"""The table of all element-wise functions, and what is asked of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ._activations import ACTIVATIONS
from ._arithmetic import ARITHMETIC
from ._record import Array, Attrs, Function


def _user(x: Array, attrs: Attrs) -> Array:
    return np.asarray(attrs["user"].formula(x.astype(np.float64)), x.dtype)


#: By name.
FUNCTIONS: Mapping[str, Function] = {
    function.name: function
    for function in (*ACTIVATIONS, *ARITHMETIC, Function("user", _user, None, keras=None))
}
#: By each name that Keras, its operations and its activations have for it.
KERAS_FUNCTIONS: Mapping[str, Function] = {
    name: function for function in FUNCTIONS.values() for name in function.keras_names
}
#: By what Keras 2 files call it.
TENSORFLOW_FUNCTIONS: Mapping[str, Function] = {
    name: function for function in FUNCTIONS.values() for name in function.tensorflow
}
#: The ONNX operators that some function is, with some parameters at least.
ONNX_OPERATORS = frozenset(name for function in FUNCTIONS.values() for name in function.operators)


def of_operator(op: str, get: Callable[[str, Any], Any]) -> dict[str, Any] | None:
    """Function and parameters that an ONNX operator of one input is; None where it is none.

    get: the operator's attributes, by (name, default).
    """
    for function in FUNCTIONS.values():
        found = function.operators[op](get) if op in function.operators else None
        if found is not None:
            return {"function": function.name, **found}
    return None


def of_tensorflow(name: str, get: Callable[[str, Any], Any]) -> dict[str, Any] | None:
    """Function and parameters of what Keras 2 files call ``name``; None for other parameters.

    get: the arguments of the call, by (name, default).
    """
    function = TENSORFLOW_FUNCTIONS[name]
    found = function.tensorflow[name](get)
    return None if found is None else {"function": function.name, **function.parameters, **found}


def apply_activation(attrs: Attrs, weights: Mapping[str, Array], x: Array) -> Array:
    """``attrs["function"]`` of ``x``, in the precision of ``x``.

    The slope of prelu is the weight ``alpha``. Values outside the domain of a function (the
    logarithm of a negative number) are NaN or infinite, without a warning.
    """
    name = attrs["function"]
    if name == "prelu":
        return np.asarray(np.maximum(x, 0) + weights["alpha"] * np.minimum(x, 0))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        return np.asarray(FUNCTIONS[name].formula(x, attrs), x.dtype)


def is_monotonic(attrs: Attrs, weights: Mapping[str, Array]) -> bool:
    """Whether the function never decreases, so that it commutes with a maximum.

    A prelu whose slope differs between pixels does not commute with pooling, whatever its sign.
    A function of the user's is not known to be monotonic.
    """
    if attrs["function"] == "prelu":
        alpha = weights["alpha"]
        return alpha.size == alpha.shape[-1] and bool((alpha >= 0).all())
    return FUNCTIONS[attrs["function"]].rises(attrs)


def least_value(attrs: Attrs) -> float:
    """A number that no value of the function is below; minus infinity where none is known."""
    if attrs["function"] == "prelu":
        return -math.inf
    if attrs["function"] == "clip" and attrs["low"] is not None:
        return float(attrs["low"])
    return FUNCTIONS[attrs["function"]].least
