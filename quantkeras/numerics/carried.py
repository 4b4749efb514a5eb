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

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from .arrays import ELEMENTWISE_FUNCTIONS, Array, Movements, pad_map, views, widen
from .bounds import LayerBounds
from .cache_blocks import (
    COLUMN_BYTES,
    combine,
    cut_out,
    matmul,
    pieces_of_maps,
    pieces_of_rows,
    wide_rows,
)
from .interval import carrier
from .layer import LayerParams
from .layer_windows import Pool, Window
from .rounding import pow2, saturate, shift_round

FLOAT64_BITS = 53
"""Integers of magnitude up to 2**53 are exact in float64."""


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
        if _transposed(window, pad_value):
            return self._by_phases(
                x,
                weights,
                window,
                weights.shape[3],
                lambda part, kernel: self.conv2d(part, kernel, _over(kernel), groups, None),
            )
        patches = self._patches(x, window, pad_value)
        n, oh, ow, kh, kw, _ = patches.shape
        cin, cout = weights.shape[2], weights.shape[3] // groups
        matrices = weights.astype(self.product, copy=False).reshape(kh * kw * cin, groups, cout)
        matrices = np.ascontiguousarray(matrices.transpose(1, 0, 2))
        acc = np.empty((n, oh, ow, groups, cout), self.product)
        row_bytes = ow * kh * kw * cin * self.product.itemsize
        for images, rows in pieces_of_maps(n, oh, COLUMN_BYTES // row_bytes):
            for g in range(groups):
                taps = patches[images, rows, ..., g * cin : (g + 1) * cin]
                columns = np.empty(taps.shape, self.product)
                np.copyto(columns, taps, casting="same_kind")
                matrix, target = columns.reshape(-1, kh * kw * cin), acc[images, rows, :, g]
                if groups == 1:  # a piece of acc is contiguous: its reshape is a view
                    matmul(matrix, matrices[0], target.reshape(-1, cout))
                else:
                    result = np.empty((len(matrix), cout), self.product)
                    target[...] = matmul(matrix, matrices[g], result).reshape(target.shape)
        return acc.reshape(n, oh, ow, groups * cout)

    def depthwise_conv2d(
        self, x: Array, weights: Array, window: Window, pad_value: Array | None
    ) -> Array:
        """x: (n, h, w, c); weights: (kh, kw, c, m) -> (n, oh, ow, c * m)."""
        if _transposed(window, pad_value):
            return self._by_phases(
                x,
                weights,
                window,
                weights.shape[2] * weights.shape[3],
                lambda part, kernel: self.depthwise_conv2d(part, kernel, _over(kernel), None),
            )
        patches = self._patches(x.astype(self.product, copy=False), window, pad_value)
        n, oh, ow, kh, kw, c = patches.shape
        m = weights.shape[3]
        taps = weights.astype(self.product, copy=False)
        acc = np.empty((n, oh, ow, c, m), self.product)
        for images, rows in pieces_of_maps(n, oh, COLUMN_BYTES // (ow * c * self.product.itemsize)):
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
        return matmul(rows, matrix, result).reshape(*x.shape[:-1], matrix.shape[1])

    def elementwise(self, kind: str, x: Array, y: Array) -> Array:
        """Sum, difference, maximum, minimum or product of two tensors that broadcast."""
        return np.asarray(ELEMENTWISE_FUNCTIONS[kind](x, y, dtype=self.product))

    def add_bias(self, acc: Array, bias: Array, shift: Array | None) -> Array:
        """``acc + (bias << shift)``, per channel."""
        bias = np.asarray(bias, np.int64)
        if shift is not None:
            bias = bias << np.asarray(shift, np.int64)
        flat, vector = wide_rows(acc, bias.astype(self.product))
        return np.add(flat, vector, out=self._target(flat), dtype=self.product).reshape(acc.shape)

    def max_pool(self, x: Array, window: Window) -> Array:
        """Padding never wins: it stands for minus infinity, and no window sees padding only."""
        padded = pad_map(x, window.pads(x.shape[1:3]), -np.inf)
        return combine(np.maximum, padded, window, x.dtype)

    def sum_pool(self, x: Array, pool: Pool) -> Array:
        """Sum over the window, or over the whole map, without the division."""
        if pool.window is None:
            return np.asarray(x.sum((1, 2), dtype=self.total, keepdims=pool.keepdims))
        padded = pad_map(x, pool.window.pads(x.shape[1:3]), 0)
        total = combine(np.add, padded, pool.window, self.total)
        factors = pool.border_factors(x.shape[1:3])
        if factors is not None:
            total *= factors.astype(self.total)
        return total

    def relu(self, x: Array, max_value: Array | None) -> Array:
        """``clip(x, 0, max_value)``."""
        clipped = np.maximum(x, 0, out=self._target(x))
        if max_value is None:
            return clipped
        flat, limit = wide_rows(clipped, np.asarray(max_value).astype(x.dtype))
        return np.minimum(flat, limit, out=flat).reshape(x.shape)

    def rescale(self, acc: Array, params: LayerParams) -> Array:
        """``saturate((acc * scale + 2**(shift-1)) >> shift)``."""
        scale, shift = np.asarray(params.scale, np.int64), np.asarray(params.shift, np.int64)
        if self.integer_rescale:
            exact = shift_round(acc.astype(np.int64) * scale, shift)
            return saturate(exact, params.qmin, params.qmax).astype(self.output)
        factors, halves = np.broadcast_arrays(scale * pow2(-shift), np.where(shift > 0, 0.5, 0))
        (flat, factor), (_, half) = wide_rows(acc, factors), wide_rows(acc, halves)
        result = np.empty(flat.shape, self.output)
        for rows in pieces_of_rows(flat):
            piece = np.multiply(flat[rows], factor, dtype=np.float64)
            piece += half
            np.floor(piece, out=piece)
            np.clip(piece, params.qmin, params.qmax, out=result[rows], casting="same_kind")
        return result.reshape(acc.shape)

    def lookup(self, y: Array, table: Array, qmin: int) -> Array:
        """``table[y - qmin]``: columns of a table per channel are joined to one list."""
        entries, firsts = np.asarray(table).astype(self.output, copy=False), np.array(-qmin)
        if entries.ndim == 2:
            firsts = np.arange(entries.shape[1]) * len(entries) - qmin
        listed = np.ascontiguousarray(entries.T).reshape(-1)
        flat, first = wide_rows(y, firsts)
        result = np.empty(flat.shape, self.output)
        for rows in pieces_of_rows(flat):
            index = flat[rows].astype(np.intp)
            index += first
            # The bounds prove that nothing is clipped; the other modes copy once more.
            np.take(listed, index, out=result[rows], mode="clip")
        return result.reshape(y.shape)

    def _patches(self, x: Array, window: Window, pad_value: Array | None) -> Array:
        value: float | Array = 0
        pads, x = window.pads(x.shape[1:3]), widen(x, window)
        if pad_value is not None:
            value, x = np.asarray(pad_value, np.float64), x.astype(self.product, copy=False)
        return views(pad_map(x, pads, value), window)

    def _by_phases(
        self,
        x: Array,
        weights: Array,
        window: Window,
        channels: int,
        convolve: Callable[[Array, Array], Array],
    ) -> Array:
        """A transposed convolution without its products by zeros between the pixels.

        convolve: of a part of the map with a part of the kernel, without padding.
        """
        (sh, sw), (oh, ow) = window.input_dilation, window.output_size(x.shape[1:3])
        acc = np.zeros((len(x), oh, ow, channels), self.product)
        for rows, columns in product(*(window.phases(a, x.shape[a + 1]) for a in (0, 1))):
            kernel, target = weights[rows.taps, columns.taps], acc[:, rows.first :: sh]
            target = target[:, :, columns.first :: sw]
            if kernel.size:
                height, width = (
                    n + k - 1 for n, k in zip(target.shape[1:3], kernel.shape[:2], strict=True)
                )
                part = cut_out(cut_out(x, 1, rows.start, height), 2, columns.start, width)
                target[...] = convolve(part, kernel)
        return acc

    def _target(self, acc: Array) -> Array | None:
        """Where a step may write: over its input, if that belongs to this layer."""
        return acc if self.overwrite and acc.dtype == self.product else None


def _transposed(window: Window, pad_value: Array | None) -> bool:
    """Whether :meth:`Window.phases` describes the window, with zeros wherever no pixel is."""
    plain = window.strides == window.dilation == (1, 1) and pad_value is None
    return plain and window.input_dilation != (1, 1)


def _over(kernel: Array) -> Window:
    return Window((kernel.shape[0], kernel.shape[1]))
