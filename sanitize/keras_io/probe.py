"""Unknown functions understood by trying them: Lambda layers and activations written by hand.

A function that agrees with a known one on a dense grid of numbers and on random tensors is taken
for it. What agrees with nothing stays opaque, so a miss costs nothing but integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..activations import apply_activation
from ..shapes import Shape

Array = NDArray[Any]

#: Functions worth trying, most frequent first.
_CANDIDATES: tuple[Mapping[str, Any], ...] = (
    {"kind": "identity"},
    {"kind": "relu"},
    {"kind": "relu", "max_value": 6.0},
    {"kind": "activation", "function": "sigmoid"},
    {"kind": "activation", "function": "tanh"},
    {"kind": "activation", "function": "silu"},
    {"kind": "activation", "function": "hard_sigmoid"},
    {"kind": "activation", "function": "hard_silu"},
    {"kind": "activation", "function": "gelu", "approximate": False},
    {"kind": "activation", "function": "gelu", "approximate": True},
    {"kind": "activation", "function": "elu", "alpha": 1.0},
    {"kind": "activation", "function": "selu"},
    {"kind": "activation", "function": "softplus"},
    {"kind": "activation", "function": "softsign"},
    {"kind": "activation", "function": "mish"},
    {"kind": "activation", "function": "leaky_relu", "negative_slope": 0.2},
    {"kind": "activation", "function": "leaky_relu", "negative_slope": 0.1},
    {"kind": "activation", "function": "leaky_relu", "negative_slope": 0.01},
)
#: What a function may raise because the tensor offered is not the one it was written for.
_UNFIT = (TypeError, ValueError, IndexError, AttributeError, RuntimeError, ArithmeticError)


def _grid(shape: Shape) -> Array:
    """A batch (2, *shape) that holds numbers around the kinks of activation functions."""
    sizes = [4 if size is None else size for size in shape]
    count = 2 * int(np.prod(sizes))
    values = np.random.default_rng(0).normal(size=count) * 4.0
    corners = np.linspace(-8.0, 8.0, 129)
    values[: min(count, corners.size)] = corners[:count]
    return values.reshape(2, *sizes).astype(np.float32)


def _try(function: Callable[..., Any], x: Array) -> Array | None:
    try:
        result = keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(x)))
    except _UNFIT:
        return None
    return np.asarray(result)


def _candidate(spec: Mapping[str, Any], x: Array) -> Array:
    if spec["kind"] == "identity":
        return x
    if spec["kind"] == "relu":
        return np.clip(x, 0.0, spec.get("max_value"))
    return apply_activation(spec, {}, x)


def probe_elementwise(
    function: Callable[..., Any], shape: Shape = (16, 16)
) -> dict[str, Any] | None:
    """The spec of the known activation that ``function`` computes on (n, *shape); else None."""
    x = _grid(shape)
    if x.size < 64:
        # Too few numbers to tell functions apart: an element-wise one works on any shape.
        x = _grid((64, *shape[1:])) if shape else x
    result = _try(function, x)
    if result is None or result.shape != x.shape or not np.isfinite(result).all():
        return None
    for spec in _CANDIDATES:
        if np.allclose(result, _candidate(spec, x), rtol=1e-5, atol=1e-6):
            return dict(spec)
    return None


def probe_affine(function: Callable[..., Any], shape: Shape) -> tuple[Array, Array] | None:
    """(scale, offset), () or (c,), when ``function`` is x * scale + offset; else None."""
    x = _grid(shape)
    offset, result = _try(function, np.zeros_like(x)), _try(function, x)
    slope = _try(function, np.ones_like(x))
    if offset is None or result is None or slope is None or offset.shape != x.shape:
        return None
    if result.shape != x.shape or slope.shape != x.shape:
        return None
    base = offset.reshape(-1, x.shape[-1])[0]
    scale = slope.reshape(-1, x.shape[-1])[0] - base
    same = np.array_equal(offset, np.broadcast_to(base, x.shape))
    if not same or not np.allclose(result, x * scale + base, rtol=1e-5, atol=1e-5):
        return None
    if np.ptp(base) == 0 and np.ptp(scale) == 0:
        return np.asarray(scale[0]), np.asarray(base[0])
    return scale, base
