"""Specs: what a function is as a node, the kind and its attributes.

What several kinds can say is said by the plainest: clip(x, 0, 6) is a relu, x ** 2 a square.
"""

from __future__ import annotations

from typing import Any

from ._table import FUNCTIONS


def named_spec(function: str, **parameters: Any) -> dict[str, Any]:
    """The attributes and kind of a node; parameters that are not given have Keras' defaults."""
    usual = FUNCTIONS[function].parameters
    return {"kind": "activation", "function": function, **usual, **parameters}


def relu_spec(max_value: Any, negative_slope: Any = 0.0, threshold: Any = 0.0) -> dict[str, Any]:
    """The spec of Keras' ReLU with these parameters."""
    ceiling = None if max_value is None else float(max_value)
    slope, start = float(negative_slope), float(threshold)
    if slope == 0.0 and start == 0.0:
        return {"kind": "relu"} if ceiling is None else {"kind": "relu", "max_value": ceiling}
    if start == 0.0 and ceiling is None:
        return named_spec("leaky_relu", negative_slope=slope)
    return named_spec("general_relu", max_value=ceiling, negative_slope=slope, threshold=start)


def clip_spec(low: float | None, high: float | None) -> dict[str, Any]:
    """The spec of clip(x, low, high); None is an open end."""
    if low == 0.0 and (high is None or high > 0.0):
        return relu_spec(high)
    if (low, high) == (-1.0, 1.0):
        return named_spec("hard_tanh")
    return named_spec("clip", low=low, high=high)


def power_spec(exponent: float) -> dict[str, Any]:
    """The spec of x ** exponent."""
    known = {-1.0: "reciprocal", -0.5: "rsqrt", 0.5: "sqrt", 2.0: "square"}
    if exponent == 1.0:
        return {"kind": "identity"}
    if exponent in known:
        return named_spec(known[exponent])
    return named_spec("power", exponent=exponent)
