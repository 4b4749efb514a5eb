"""Unknown functions understood by trying them: Lambda layers and activations written by hand.

A function that agrees with a known one on a dense grid of numbers and on random tensors is taken
for it. What agrees with nothing stays opaque, so a miss costs nothing but integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..activations import PARAMETERS, apply_activation
from ..shapes import Shape
from .trial import grid, many, try_function

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


def _candidates(x: Array, result: Array) -> Iterator[dict[str, Any]]:
    """Specs that ``result`` of ``x`` may be; limits and slopes are read off the result."""
    yield {"kind": "identity"}
    yield {"kind": "relu"}
    low, high = float(result.flat[np.argmin(x)]), float(result.flat[np.argmax(x)])
    if low == 0.0 and high > 0.0:
        yield {"kind": "relu", "max_value": high}
    for name in _NAMES:
        yield {"kind": "activation", "function": name, **PARAMETERS.get(name, {})}
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
    x = many(shape)
    result = try_function(function, x)
    if result is None or result.shape != x.shape or not np.isfinite(result).all():
        return None
    for spec in _candidates(x, result):
        if np.allclose(result, _value(spec, x), rtol=1e-5, atol=1e-6):
            return spec
    return None


def probe_affine(function: Callable[..., Any], shape: Shape) -> tuple[Array, Array] | None:
    """(scale, offset), () or (c,), when ``function`` is x * scale + offset; else None."""
    x = grid(shape)
    offset, result = try_function(function, np.zeros_like(x)), try_function(function, x)
    slope = try_function(function, np.ones_like(x))
    if offset is None or result is None or slope is None or offset.shape != x.shape:
        return None
    if result.shape != x.shape or slope.shape != x.shape:
        return None
    if not all(np.isfinite(values).all() for values in (offset, slope, result)):
        return None
    base = offset.reshape(-1, x.shape[-1])[0]
    scale = slope.reshape(-1, x.shape[-1])[0] - base
    same = np.array_equal(offset, np.broadcast_to(base, x.shape))
    if not same or not np.allclose(result, x * scale + base, rtol=1e-5, atol=1e-5):
        return None
    if np.ptp(base) == 0 and np.ptp(scale) == 0:
        return np.asarray(scale[0]), np.asarray(base[0])
    return scale, base
