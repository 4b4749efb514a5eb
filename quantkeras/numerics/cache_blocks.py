"""Work of the fast arrays in the pieces that suit the machine: its caches, its BLAS, its loops.

Nothing here changes a result. Sums are taken in another order, which changes none either while
every partial sum is exact (``interval.py``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .layer_windows import Window

Array = npt.NDArray[Any]

COLUMN_BYTES = 2**20
"""Convolutions unroll their input in pieces of about this size: they should stay in cache."""

PIECE_ELEMENTS = 2**15
"""Rescales and look-ups go through 64-bit numbers in pieces of about this many elements, for the
same reason.
"""

SINGLE_THREAD_WORK = 2**19 - 1
"""OpenBLAS computes a product of that many multiplications or fewer on the calling thread.

For larger ones it wakes its threads, which is lost where other programs keep the cores busy, or
a container has fewer of them than the machine: products of 0.3 ms were seen to take 16 ms.
"""

FEWEST_ROWS = 4
"""A product cut into pieces of fewer rows than that loses more than it wins."""


def matmul(rows: Array, matrix: Array, out: Array) -> Array:
    """``rows @ matrix`` into ``out``; rows (m, k) and out (m, n) are contiguous.

    Cut into pieces of rows, which NumPy hands to the BLAS one by one, that stay on this thread.
    """
    k, n = matrix.shape
    count = SINGLE_THREAD_WORK // max(1, k * n)
    cut = len(rows) // count * count if count >= FEWEST_ROWS else 0
    if cut:
        np.matmul(rows[:cut].reshape(-1, count, k), matrix, out=out[:cut].reshape(-1, count, n))
    if cut < len(rows):
        np.matmul(rows[cut:], matrix, out=out[cut:])
    return out


def pieces_of_maps(n: int, height: int, rows: int) -> list[tuple[slice, slice]]:
    """Cut n maps into pieces of about `rows` rows: whole maps, or parts of one map."""
    if rows >= height:
        step = rows // height
        return [(slice(i, i + step), slice(None)) for i in range(0, n, step)]
    step = max(1, rows)
    cuts = [slice(r, r + step) for r in range(0, height, step)]
    return [(slice(i, i + 1), cut) for i in range(n) for cut in cuts]


def pieces_of_rows(x: Array) -> list[slice]:
    """Cut the first axis into pieces of about PIECE_ELEMENTS elements."""
    step = max(1, PIECE_ELEMENTS * len(x) // max(1, x.size))
    return [slice(start, start + step) for start in range(0, len(x), step)]


def wide_rows(x: Array, vector: Array) -> tuple[Array, Array]:
    """Pair x (n, ..., w, c) with a vector for its channels, both as wide as a row: w * c.

    NumPy's inner loop then runs over w * c numbers instead of c, some times faster. Other
    shapes of vector, and tensors that are not contiguous, are left to ordinary broadcasting.
    """
    if x.ndim < 3 or not x.flags.c_contiguous or vector.shape not in ((), x.shape[-1:]):
        return x, vector
    width = x.shape[-2] * x.shape[-1]
    tiled = vector if vector.ndim == 0 else np.tile(vector, x.shape[-2])
    return x.reshape(-1, width), tiled


def combine(function: np.ufunc, x: Array, window: Window, dtype: npt.DTypeLike) -> Array:
    """Sums or maxima of what the window sees of x (n, h, w, c), padded: rows, then columns."""
    for axis in (1, 2):
        stride, dilation = window.strides[axis - 1], window.dilation[axis - 1]
        count = window.places(axis - 1, x.shape[axis])
        found: Array | None = None
        for first in range(0, window.extent(axis - 1), dilation):
            lines = slice(first, first + (count - 1) * stride + 1, stride)
            seen = x[:, lines] if axis == 1 else x[:, :, lines]
            if found is None:
                found = seen.astype(dtype)
            else:
                function(found, seen, out=found)
        assert found is not None
        x = found
    return x


def cut_out(x: Array, axis: int, start: int, count: int) -> Array:
    """`count` places along an axis, from `start` on; zeros where x has none."""
    inside = range(max(start, 0), max(min(start + count, x.shape[axis]), 0))
    index = (*(slice(None),) * axis, slice(inside.start, max(inside.stop, inside.start)))
    before = min(max(-start, 0), count)
    widths = [(0, 0)] * x.ndim
    widths[axis] = (before, count - before - len(inside))
    return np.pad(x[index], widths) if len(inside) < count else x[index]
