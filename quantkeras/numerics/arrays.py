"""The normative array namespace of :func:`~quantkeras.numerics.layer.run_layer`: NumPy int64.

:class:`IntArrays` says what a hardware layer computes, with no floating point and no trick of
speed; every other implementation answers to it. Its tensors are int64, batch first, channels
last, and they do not overflow: whoever runs a layer proves that first (``interval.py``).
The windows and the movements of data are shared with the fast twin in ``carried.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .layer import LayerParams, Slices
from .layer_windows import Pads, Pool, Window
from .rounding import saturate, shift_round
from .tables import look_up

Array = npt.NDArray[Any]

ELEMENTWISE_FUNCTIONS: dict[str, Callable[..., Array]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


class Movements:
    """Operations that move numbers and compute nothing: the same for integers and floats."""

    def concat(self, xs: Sequence[Array], axis: int) -> Array:
        """axis: counted without the batch dimension, or from the end."""
        return np.concatenate(xs, axis=axis + 1 if axis >= 0 else axis)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """shape: unbatched, one element may be -1."""
        return x.reshape(x.shape[0], *shape)

    def permute(self, x: Array, dims: tuple[int, ...]) -> Array:
        """dims: order of the unbatched axes, zero-based."""
        return x.transpose(0, *(d + 1 for d in dims))

    def pad(self, x: Array, pads: Pads) -> Array:
        """Zeros around height and width."""
        return pad_map(x, pads, 0)

    def slice(self, x: Array, slices: Slices) -> Array:
        """``x[:, start:stop:step, ...]``."""
        return x[(slice(None), *(slice(*limits) for limits in slices))]

    def upsample(self, x: Array, size: tuple[int, int]) -> Array:
        """Repeat every row and column."""
        return x.repeat(size[0], axis=1).repeat(size[1], axis=2)


class IntArrays(Movements):
    """Integer arithmetic in int64; every other implementation answers to this one."""

    def align(self, x: Array, shift: Array) -> Array:
        """``x << shift``; shift >= 0, broadcastable to the unbatched shape."""
        return x << np.asarray(shift, np.int64)

    def conv2d(
        self, x: Array, weights: Array, window: Window, groups: int, pad_value: Array | None
    ) -> Array:
        """x: (n, h, w, cin); weights: (kh, kw, cin/groups, cout) -> (n, oh, ow, cout)."""
        patches = self._patches(x, window, pad_value)
        n, oh, ow, kh, kw, _ = patches.shape
        cin, cout = weights.shape[2], weights.shape[3] // groups
        parts = []
        for g in range(groups):
            columns = patches[..., g * cin : (g + 1) * cin].reshape(n * oh * ow, kh * kw * cin)
            matrix = weights[..., g * cout : (g + 1) * cout].reshape(kh * kw * cin, cout)
            parts.append(columns @ matrix.astype(np.int64))
        return np.concatenate(parts, axis=-1).reshape(n, oh, ow, -1)

    def depthwise_conv2d(
        self, x: Array, weights: Array, window: Window, pad_value: Array | None
    ) -> Array:
        """x: (n, h, w, c); weights: (kh, kw, c, m) -> (n, oh, ow, c * m)."""
        patches = self._patches(x, window, pad_value)
        n, oh, ow, kh, kw, c = patches.shape
        taps = weights.astype(np.int64)
        acc = np.zeros((n, oh, ow, c, weights.shape[3]), np.int64)
        for i in range(kh):
            for j in range(kw):
                acc += patches[:, :, :, i, j, :, None] * taps[i, j]
        return acc.reshape(n, oh, ow, -1)

    def dense(self, x: Array, weights: Array) -> Array:
        """x: (n, ..., in); weights: (in, out)."""
        return np.asarray(x.astype(np.int64) @ weights.astype(np.int64))

    def elementwise(self, kind: str, x: Array, y: Array) -> Array:
        """Sum, difference, maximum, minimum or product of two tensors that broadcast."""
        return np.asarray(ELEMENTWISE_FUNCTIONS[kind](x, y))

    def add_bias(self, acc: Array, bias: Array, shift: Array | None) -> Array:
        """``acc + (bias << shift)``, per channel; shift >= 0."""
        bias = np.asarray(bias, np.int64)
        return acc + (bias if shift is None else bias << np.asarray(shift, np.int64))

    def max_pool(self, x: Array, window: Window) -> Array:
        """Padding never wins: it stands for the smallest integer."""
        low = int(x.min(initial=0))
        return np.asarray(views(pad_map(x, window.pads(x.shape[1:3]), low), window).max((3, 4)))

    def sum_pool(self, x: Array, pool: Pool) -> Array:
        """Sum over the window, or over the whole map, without the division."""
        if pool.window is None:
            return np.asarray(x.sum((1, 2), keepdims=pool.keepdims))
        padded = pad_map(x, pool.window.pads(x.shape[1:3]), 0)
        total = np.asarray(views(padded, pool.window).sum((3, 4)))
        factors = pool.border_factors(x.shape[1:3])
        return total if factors is None else total * factors

    def relu(self, x: Array, max_value: Array | None) -> Array:
        """``clip(x, 0, max_value)``, max_value per channel or None."""
        return np.clip(x, 0, None if max_value is None else np.asarray(max_value, np.int64))

    def rescale(self, acc: Array, params: LayerParams) -> Array:
        """``saturate((acc * scale + 2**(shift-1)) >> shift)``."""
        scaled = acc * np.asarray(params.scale, np.int64)
        rounded = shift_round(scaled, np.asarray(params.shift, np.int64))
        return saturate(rounded, params.qmin, params.qmax)

    def lookup(self, y: Array, table: Array, qmin: int) -> Array:
        """``table[y - qmin]``."""
        return look_up(table, y, qmin)

    def _patches(self, x: Array, window: Window, pad_value: Array | None) -> Array:
        value = 0 if pad_value is None else np.asarray(pad_value, np.int64)
        pads = window.pads(x.shape[1:3])
        return views(pad_map(widen(x.astype(np.int64), window), pads, value), window)


def pad_map(x: Array, pads: Pads, value: float | Array) -> Array:
    """Pad height and width of (n, h, w, c) with one number, or one per channel."""
    (top, bottom), (left, right) = pads
    if top == bottom == left == right == 0:
        return x
    n, h, w, c = x.shape
    padded = np.empty((n, h + top + bottom, w + left + right, c), x.dtype)
    padded[:, :top] = value
    padded[:, top + h :] = value
    padded[:, top : top + h, :left] = value
    padded[:, top : top + h, left + w :] = value
    padded[:, top : top + h, left : left + w] = x
    return padded


def widen(x: Array, window: Window) -> Array:
    """Zeros between the pixels of (n, h, w, c), as the window's input_dilation asks."""
    (sh, sw), (n, h, w, c) = window.input_dilation, x.shape
    if sh == sw == 1:
        return x
    wide = np.zeros((n, window.widened(0, h), window.widened(1, w), c), x.dtype)
    wide[:, ::sh, ::sw] = x
    return wide


def views(x: Array, window: Window) -> Array:
    """(n, h, w, c), padded -> (n, oh, ow, kh, kw, c): a view of what each position sees."""
    (kh, kw), (sh, sw), (dh, dw) = window.size, window.strides, window.dilation
    n, h, w, c = x.shape
    oh, ow = window.places(0, h), window.places(1, w)
    s0, s1, s2, s3 = x.strides
    return np.lib.stride_tricks.as_strided(
        x,
        (n, oh, ow, kh, kw, c),
        (s0, s1 * sh, s2 * sw, s1 * dh, s2 * dw, s3),
        writeable=False,
    )
