"""Which function maps some numbers to others: the one way in which unknown ones are recognised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

from ._record import Array, Tried
from ._specs import named_spec, relu_spec
from ._table import FUNCTIONS, apply_activation

Spec = Mapping[str, Any]

_TAIL = np.geomspace(1e-3, 1e6, 121)
#: Numbers to try functions on: dense around zero, where they bend, and every decade on both tails.
POINTS = np.unique(np.concatenate([-_TAIL, np.linspace(-20.0, 20.0, 641), _TAIL]))
POINTS.setflags(write=False)

#: Constants such as 0.044715 or 1/6 are written with seven digits at best.
_RELATIVE, _ABSOLUTE = 1e-5, 2e-6
#: Where most functions differ.
_TELLING = (-0.7, 1.3)
#: Below this magnitude a function has to be finite to be taken for a known one.
_OVERFLOW = 16.0


def recognised(x: Array, result: Array, tried: Tried) -> dict[str, Any] | None:
    """The spec of the function that maps ``x`` to ``result``, arrays of one shape; None for others.

    {"kind": "identity"}, a relu, or an activation that is ``tried`` at least so. They agree to five
    digits wherever the result is finite: what overflows far out, as log(1 + exp(x)) does, says
    nothing there. Limits and slopes are read off the result.
    """
    if x.ndim > 1:
        x, result = x.ravel(), result.ravel()
    finite = np.isfinite(result)
    if not finite[np.abs(x) < _OVERFLOW].all() or not finite.any():
        return None
    places = [int(np.argmin(np.abs(x - number))) for number in _TELLING]
    for spec in _candidates(x[finite], result[finite], tried):
        values = _values(spec, x)
        # Most differ at once, which takes no time to see.
        if all(_close(result[place], values[place]) for place in places) and np.allclose(
            result[finite], values[finite], rtol=_RELATIVE, atol=_ABSOLUTE
        ):
            return spec
    return None


def _close(found: float, wanted: float) -> bool:
    return bool(abs(found - wanted) <= _ABSOLUTE + _RELATIVE * abs(wanted))


def _candidates(x: Array, result: Array, tried: Tried) -> Iterator[dict[str, Any]]:
    first, last = float(x.min()), float(x.max())
    low, high = (_written(float(result[place])) for place in (np.argmin(x), np.argmax(x)))
    yield {"kind": "identity"}
    yield relu_spec(None)
    if low == 0.0 and high > 0.0:
        yield relu_spec(high)
    for function in FUNCTIONS.values():
        if function.tried >= tried:
            yield named_spec(function.name)
    yield named_spec("gelu", approximate=True)
    limits = (None if np.isclose(low, first) else low, None if np.isclose(high, last) else high)
    if low < high and limits != (None, None):
        yield named_spec("clip", low=limits[0], high=limits[1])
    yield named_spec("leaky_relu", negative_slope=_written(low / first))
    if -1e3 < low < 0.0:
        yield named_spec("elu", alpha=-low)


def _values(spec: Spec, x: Array) -> Array:
    if spec["kind"] == "identity":
        return x
    if spec["kind"] == "relu":
        return np.clip(x, 0.0, spec.get("max_value"))
    if x is POINTS and spec == named_spec(spec["function"]):
        return _on_points(spec["function"])
    return apply_activation(spec, {}, x)


@cache
def _on_points(function: str) -> Array:
    return apply_activation(named_spec(function), {}, POINTS)


def _written(number: float) -> float:
    """The number as it was written: six digits where it is that but for noise, else as float32."""
    short = float(f"{number:.6g}")
    if abs(short - number) <= 3e-7 * abs(number) or abs(number) > 1e30:
        return short
    return float(str(np.float32(number)))
