"""The fast twin of :class:`~quantkeras.numerics.arrays.IntArrays`: integers carried in floats.

A float type with a p-bit significand (24 for float32, 53 for float64) holds every integer up to
2**p, and adds and multiplies exactly while results stay there. A hardware layer therefore gives
the same integers in floating point, at the speed of the BLAS, wherever a bound on its sums says
so. :class:`Carriers` is that statement, one per layer, *proved* from its weights and formats
(``bounds.py``); the arrays here take it as given. Tensors stay in floats from layer to layer.

Rescale in float64. Let m = acc * scale, an integer, and shift s > 0. Then acc * (scale * 2**-s) is
m * 2**-s: the factor is exact, the product too while |m| <= 2**53. Adding 1/2 gives
(m + 2**(s-1)) * 2**-s, exact while |m| + 2**(s-1) <= 2**53, and its floor is (m + 2**(s-1)) >> s,
half up. For s <= 0 no half is added, and m * 2**-s is exact as it stands. Clipping to
integer limits is exact, so the whole step equals the integer one; where the bound fails, it is
done in int64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import Array, Movements, pad_map, views
from .bounds import LayerBounds
from .interval import carrier
from .layer import LayerParams, Pool, Window
from .rounding import pow2, saturate, shift_round

FLOAT64_BITS = 53
"""Integers of magnitude up to 2**53 are exact in float64."""

COLUMN_BYTES = 2**20
"""Convolutions unroll their input in pieces of about this size: they should stay in cache."""

SINGLE_THREAD_WORK = 2**19 - 1
"""OpenBLAS computes a product of that many multiplications or fewer on the calling thread.

For larger ones it wakes its threads, which is lost where other programs keep the cores busy, or
a container has fewer of them than the machine: products of 0.3 ms were seen to take 16 ms.
"""

FEWEST_ROWS = 4
"""A product cut into pieces of fewer rows than that loses more than it wins."""

RESCALE_ELEMENTS = 2**15
"""Rescaling goes through float64 in pieces of about this many elements, for the same reason."""


@dataclass(frozen=True)
class Carriers:
    """Which type carries what in one layer, each proved wide enough.

    product: aligned inputs, products, their sums, the bias, max pooling and ReLU.
    total: the sum of an average pooling. rescale: ``"float64"``, or ``"int64"`` where
    ``acc * scale`` is not proved to stay in 53 bits. output: what rescale and lookup give.
    """

    product: str = "float32"
    total: str = "float32"
    rescale: str = "float64"
    output: str = "float32"

    @classmethod
    def proved(cls, bounds: LayerBounds, layer: str) -> Carriers:
        """The narrowest types in which every step of a layer is exact; layer: its name, for the
        AccumulatorTooWide that says that there is none.
        """
        return cls(
            product=carrier(bounds.peak, layer),
            total=carrier(max(bounds.peak, bounds.total_peak), layer),
            rescale="float64" if bounds.rescale_bits <= FLOAT64_BITS else "int64",
            output=carrier(int(bounds.output.partial), layer),
        )


class CarriedArrays(Movements):
    """Array namespace of one layer whose numbers fit `carriers`.

    overwrite: whether the core of the layer makes a new tensor, so that the steps after it may
    work in place (not so for the identity, whose accumulator is its input).
    """

    def __init__(self, carriers: Carriers, overwrite: bool = False) -> None:
        self.product = np.dtype(carriers.product)
        self.total = np.dtype(carriers.total)
        self.output = np.dtype(carriers.output)
        self.integer_rescale = carriers.rescale == "int64"
        self.overwrite = overwrite

    def align(self, x: Array, shift: Array) -> Array:
        """``x * 2**shift``."""
        return np.asarray(np.multiply(x, pow2(shift), dtype=self.product, casting="same_kind"))

    def conv2d(
        self, x: Array, weights: Array, window: Window, groups: int, pad_value: Array | None
    ) -> Array:
        """x: (n, h, w, cin); weights: (kh, kw, cin/groups, cout) -> (n, oh, ow, cout)."""
        patches = self._patches(x, window, pad_value)
        n, oh, ow, kh, kw, _ = patches.shape
        cin, cout = weights.shape[2], weights.shape[3] // groups
        matrices = weights.astype(self.product, copy=False).reshape(kh * kw * cin, groups, cout)
        matrices = np.ascontiguousarray(matrices.transpose(1, 0, 2))
        acc = np.empty((n, oh, ow, groups, cout), self.product)
        row_bytes = ow * kh * kw * cin * self.product.itemsize
        for images, rows in _pieces(n, oh, COLUMN_BYTES // row_bytes):
            for g in range(groups):
                taps = patches[images, rows, ..., g * cin : (g + 1) * cin]
                columns = np.empty(taps.shape, self.product)
                np.copyto(columns, taps, casting="same_kind")
                matrix, target = columns.reshape(-1, kh * kw * cin), acc[images, rows, :, g]
                if groups == 1:  # a piece of acc is contiguous: its reshape is a view
                    _product(matrix, matrices[0], target.reshape(-1, cout))
                else:
                    result = np.empty((len(matrix), cout), self.product)
                    target[...] = _product(matrix, matrices[g], result).reshape(target.shape)
        return acc.reshape(n, oh, ow, groups * cout)

    def depthwise_conv2d(
        self, x: Array, weights: Array, window: Window, pad_value: Array | None
    ) -> Array:
        """x: (n, h, w, c); weights: (kh, kw, c, m) -> (n, oh, ow, c * m)."""
        patches = self._patches(x.astype(self.product, copy=False), window, pad_value)
        n, oh, ow, kh, kw, c = patches.shape
        m = weights.shape[3]
        taps = weights.astype(self.product, copy=False)
        acc = np.empty((n, oh, ow, c, m), self.product)
        for images, rows in _pieces(n, oh, COLUMN_BYTES // (ow * c * self.product.itemsize)):
            for k in range(m):
                target = acc[images, rows, :, :, k]
                np.multiply(patches[images, rows, :, 0, 0], taps[0, 0, :, k], out=target)
                for i, j in list(np.ndindex(kh, kw))[1:]:
                    target += patches[images, rows, :, i, j] * taps[i, j, :, k]
        return acc.reshape(n, oh, ow, c * m)

    def dense(self, x: Array, weights: Array) -> Array:
        """x: (n, ..., in); weights: (in, out)."""
        matrix = weights.astype(self.product, copy=False)
        rows = x.astype(self.product, copy=False).reshape(-1, x.shape[-1])
        result = np.empty((len(rows), matrix.shape[1]), self.product)
        return _product(rows, matrix, result).reshape(*x.shape[:-1], matrix.shape[1])

    def add(self, x: Array, y: Array) -> Array:
        """Sum of two aligned tensors."""
        return np.add(x, y, dtype=self.product)

    def add_bias(self, acc: Array, bias: Array, shift: Array | None) -> Array:
        """``acc + (bias << shift)``, per channel."""
        bias = np.asarray(bias, np.int64)
        if shift is not None:
            bias = bias << np.asarray(shift, np.int64)
        flat, vector = _rows(acc, bias.astype(self.product))
        return np.add(flat, vector, out=self._target(flat), dtype=self.product).reshape(acc.shape)

    def max_pool(self, x: Array, window: Window) -> Array:
        """Padding never wins: it stands for minus infinity, and no window sees padding only."""
        seen = views(pad_map(x, window.pads(x.shape[1:3]), -np.inf), window)
        first, *others = np.ndindex(*window.size)
        best = seen[:, :, :, first[0], first[1]].copy()
        for i, j in others:
            np.maximum(best, seen[:, :, :, i, j], out=best)
        return best

    def sum_pool(self, x: Array, pool: Pool) -> Array:
        """Sum over the window, or over the whole map, without the division."""
        if pool.window is None:
            return np.asarray(x.sum((1, 2), dtype=self.total, keepdims=pool.keepdims))
        seen = views(pad_map(x, pool.window.pads(x.shape[1:3]), 0), pool.window)
        total = np.zeros((*seen.shape[:3], seen.shape[5]), self.total)
        for i, j in np.ndindex(*pool.window.size):
            total += seen[:, :, :, i, j]
        return total

    def relu(self, x: Array, max_value: Array | None) -> Array:
        """``clip(x, 0, max_value)``."""
        clipped = np.maximum(x, 0, out=self._target(x))
        if max_value is None:
            return clipped
        flat, limit = _rows(clipped, np.asarray(max_value).astype(x.dtype))
        return np.minimum(flat, limit, out=flat).reshape(x.shape)

    def rescale(self, acc: Array, params: LayerParams) -> Array:
        """``saturate((acc * scale + 2**(shift-1)) >> shift)``."""
        scale, shift = np.asarray(params.scale, np.int64), np.asarray(params.shift, np.int64)
        if self.integer_rescale:
            exact = shift_round(acc.astype(np.int64) * scale, shift)
            return saturate(exact, params.qmin, params.qmax).astype(self.output)
        factors, halves = np.broadcast_arrays(scale * pow2(-shift), np.where(shift > 0, 0.5, 0))
        (flat, factor), (_, half) = _rows(acc, factors), _rows(acc, halves)
        result = np.empty(flat.shape, self.output)
        step = max(1, RESCALE_ELEMENTS * len(flat) // max(1, flat.size))
        for start in range(0, len(flat), step):
            piece = np.multiply(flat[start : start + step], factor, dtype=np.float64)
            piece += half
            np.floor(piece, out=piece)
            target = result[start : start + step]
            np.clip(piece, params.qmin, params.qmax, out=target, casting="same_kind")
        return result.reshape(acc.shape)

    def lookup(self, y: Array, table: Array, qmin: int) -> Array:
        """``table[y - qmin]``."""
        index = (y - qmin).astype(np.intp)
        return np.asarray(np.asarray(table).astype(self.output)[index])

    def _patches(self, x: Array, window: Window, pad_value: Array | None) -> Array:
        value: float | Array = 0
        if pad_value is not None:
            value, x = np.asarray(pad_value, np.float64), x.astype(self.product, copy=False)
        return views(pad_map(x, window.pads(x.shape[1:3]), value), window)

    def _target(self, acc: Array) -> Array | None:
        """Where a step may write: over its input, if that belongs to this layer."""
        return acc if self.overwrite and acc.dtype == self.product else None


def _product(rows: Array, matrix: Array, out: Array) -> Array:
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


def _pieces(n: int, height: int, rows: int) -> list[tuple[slice, slice]]:
    """Cut n maps into pieces of about `rows` rows: whole maps, or parts of one map."""
    if rows >= height:
        step = rows // height
        return [(slice(i, i + step), slice(None)) for i in range(0, n, step)]
    step = max(1, rows)
    cuts = [slice(r, r + step) for r in range(0, height, step)]
    return [(slice(i, i + 1), cut) for i in range(n) for cut in cuts]


def _rows(x: Array, vector: npt.NDArray[Any]) -> tuple[Array, Array]:
    """Pair x (n, ..., w, c) with a vector for its channels, both as wide as a row: w * c.

    NumPy's inner loop then runs over w * c numbers instead of c, some times faster. Other
    shapes of vector, and tensors that are not contiguous, are left to ordinary broadcasting.
    """
    if x.ndim < 3 or not x.flags.c_contiguous or vector.shape not in ((), x.shape[-1:]):
        return x, vector
    width = x.shape[-2] * x.shape[-1]
    tiled = vector if vector.ndim == 0 else np.tile(vector, x.shape[-2])
    return x.reshape(-1, width), tiled
