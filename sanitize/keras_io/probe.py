"""Unknown functions understood by trying them: Lambda layers and activations written by hand.

A function that agrees with a known one on a dense grid of numbers and on both tails, from 1e-3 to
1e7, is taken for it: one that is linear near zero and bends far out is no identity. What agrees
with nothing may still be a function of each number alone, which is tabled as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..functions import Tried, recognised
from ..shapes import Shape
from .trial import MAGNITUDES, grid, try_function, wide

Array = NDArray[Any]

#: Where the slope of an affine function is read off: a power of two, so that a scale is exact.
_FAR = 1024.0


def probe_elementwise(
    function: Callable[..., Any], shape: Shape = (16, 16)
) -> dict[str, Any] | None:
    """The spec of the known activation that ``function`` computes on (n, *shape); else None."""
    x = wide(shape)
    result = try_function(function, x)
    if result is None or result.shape != x.shape:
        return None
    return recognised(x, result, Tried.ALONE)


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
