"""Unknown functions understood by trying them: Lambda layers and activations written by hand.

A function that agrees with a known one on a dense grid of numbers and on both tails, from 1e-3 to
1e7, is taken for it: one that is linear near zero and bends far out is no identity. What agrees
with nothing may still be a function of each number alone, which is tabled as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..functions import FUNCTIONS, apply_activation
from ..shapes import Shape
from .trial import MAGNITUDES, grid, try_function, wide

Array = NDArray[Any]

#: Functions worth trying with their usual parameters, most frequent first.
_NAMES = (
    "sigmoid",
    "tanh",
    "silu",
    "hard_sigmoid",
    "hard_silu",
    "hard_sigmoid_keras2",
    "gelu",
    "elu",
    "selu",
    "softplus",
    "softsign",
    "mish",
    "absolute",
    "square",
    "exponential",
    "log_sigmoid",
    "squareplus",
    "sparse_plus",
    "sparse_sigmoid",
    "tanh_shrink",
    "erf",
    "sin",
    "cos",
    "arctan",
)

#: Below this magnitude a function has to be finite to be taken for a known one.
_OVERFLOW = 16.0
#: Where the slope of an affine function is read off: a power of two, so that a scale is exact.
_FAR = 1024.0


def _candidates(x: Array, result: Array) -> Iterator[dict[str, Any]]:
    """Specs that ``result`` of ``x`` may be; limits and slopes are read off the result."""
    yield {"kind": "identity"}
    yield {"kind": "relu"}
    low, high = float(result.flat[np.argmin(x)]), float(result.flat[np.argmax(x)])
    if low == 0.0 and high > 0.0:
        yield {"kind": "relu", "max_value": high}
    for name in _NAMES:
        yield {"kind": "activation", "function": name, **FUNCTIONS[name].parameters}
    yield {"kind": "activation", "function": "gelu", "approximate": True}
    if low < high:
        yield {"kind": "activation", "function": "clip", "low": low, "high": high}
    # A slope comes out with float noise: the shortest decimal of it is what was written.
    slope = float(f"{low / float(x.min()):.6g}")
    yield {"kind": "activation", "function": "leaky_relu", "negative_slope": slope}


def _value(spec: Mapping[str, Any], x: Array) -> Array:
    if spec["kind"] == "identity":
        return x
    if spec["kind"] == "relu":
        return np.clip(x, 0.0, spec.get("max_value"))
    return apply_activation(spec, {}, x)


def probe_elementwise(
    function: Callable[..., Any], shape: Shape = (16, 16)
) -> dict[str, Any] | None:
    """The spec of the known activation that ``function`` computes on (n, *shape); else None."""
    x = wide(shape)
    result = try_function(function, x)
    if result is None or result.shape != x.shape:
        return None
    # What overflows far out, as log(1 + exp(x)) does, says nothing there.
    finite = np.isfinite(result)
    if not finite[np.abs(x) < _OVERFLOW].all():
        return None
    x, result = x[finite], result[finite]
    for spec in _candidates(x, result):
        with np.errstate(over="ignore"):
            value = _value(spec, x)
        if np.allclose(result, value, rtol=1e-5, atol=1e-6):
            return spec
    return None


def probe_softmax(function: Callable[..., Any], shape: Shape) -> dict[str, Any] | None:
    """The spec of a softmax along one axis, if ``function`` is one on (n, *shape); else None."""
    x = grid(shape)
    results = [try_function(function, np.float32(size) * x) for size in MAGNITUDES]
    for axis in reversed(range(len(shape))):
        spec = {"kind": "softmax", "axis": axis}
        wanted = [_softmax(np.float32(size) * x, axis + 1) for size in MAGNITUDES]
        if all(
            result is not None
            and result.shape == x.shape
            and np.allclose(result, value, rtol=1e-4, atol=1e-6)
            for result, value in zip(results, wanted, strict=True)
        ):
            return spec
    return None


def _softmax(x: Array, axis: int) -> Array:
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def probe_affine(function: Callable[..., Any], shape: Shape) -> tuple[Array, Array] | None:
    """(scale, offset), () or (c,), when ``function`` is x * scale + offset; else None."""
    x = wide(shape)
    points = (np.zeros_like(x), np.full_like(x, _FAR), np.full_like(x, -_FAR), x)
    found = [try_function(function, point) for point in points]
    values = [array for array in found if array is not None and array.shape == x.shape]
    if len(values) < len(points) or not all(np.isfinite(array).all() for array in values):
        return None
    offset, above, below, result = values
    base = offset.reshape(-1, x.shape[-1])[0]
    slopes = (above.reshape(-1, x.shape[-1])[0], below.reshape(-1, x.shape[-1])[0])
    scale = (slopes[0] - slopes[1]) / np.float32(2.0 * _FAR)
    same = np.array_equal(offset, np.broadcast_to(base, x.shape))
    noise = 1e-5 * (1.0 + np.abs(base))
    if not same or (np.abs(result - (x * scale + base)) > noise + 1e-5 * np.abs(result)).any():
        return None
    if np.ptp(base) == 0 and np.ptp(scale) == 0:
        return np.asarray(scale[0]), np.asarray(base[0])
    return scale, base
