"""The kinds that slide a window over height and width, in NumPy; see :mod:`sanitize.kinds`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .shapes import transpose_output, window_of, window_pads

Array = NDArray[Any]

#: Bytes of the matrix of windows that a convolution is computed with.
_LARGEST_MATRIX = 2**26

Run = Callable[[Mapping[str, Any], Mapping[str, Array], list[Array]], Array]


def pad_hw(x: Array, pads: Any, value: Any = 0.0) -> Array:
    """The picture x (n, h, w, c) with ``value`` (a number, or (c,)) around it."""
    (top, bottom), (left, right) = pads
    if not (top or bottom or left or right):
        return x
    batch, height, width, channels = x.shape
    padded = np.empty((batch, height + top + bottom, width + left + right, channels), x.dtype)
    padded[...] = value
    padded[:, top : top + height, left : left + width] = x
    return padded


def _windows(
    attrs: Mapping[str, Any], weights: Mapping[str, Array], x: Array, fill: Any
) -> tuple[Array, tuple[int, int]]:
    """View (n, ho, wo, c, kh, kw) of the padded input, and the kernel size."""
    shapes = {key: value.shape for key, value in weights.items()}
    padding, size, strides, dilation = window_of(attrs, shapes)
    pads = window_pads(padding, x.shape[1:3], size, strides, dilation)
    x = pad_hw(x, pads, fill)
    span = tuple((k - 1) * d + 1 for k, d in zip(size, dilation, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=(1, 2))
    view = view[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]]
    return view, size


def with_bias(x: Array, weights: Mapping[str, Array]) -> Array:
    return np.asarray(x + weights["bias"]) if "bias" in weights else x


def _times(view: Array, matrix: Array) -> Array:
    """Product of the windows of a view (n, ho, wo, kh, kw, c) with a matrix (kh * kw * c, out).

    A matrix of all windows holds each number of the input once per tap: where the kernels are
    large, gigabytes. So it is made for a part of the positions at a time.
    """
    batch, height, width = view.shape[:3]
    result = np.empty((batch, height, width, matrix.shape[1]), np.result_type(view, matrix))
    position = max(matrix.shape[0] * view.itemsize, 1)
    columns = min(width, max(1, _LARGEST_MATRIX // position))
    rows = min(height, max(1, _LARGEST_MATRIX // (position * columns)))
    samples = min(batch, max(1, _LARGEST_MATRIX // (position * columns * max(rows, 1))))
    for n in range(0, batch, samples):
        for row in range(0, height, rows):
            for column in range(0, width, columns):
                place = (
                    slice(n, n + samples),
                    slice(row, row + rows),
                    slice(column, column + columns),
                )
                part = view[place]
                product = part.reshape(-1, matrix.shape[0]) @ matrix
                result[place] = product.reshape(*part.shape[:3], -1)
    return result


def conv2d(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    view, _ = _windows(attrs, weights, inputs[0], weights.get("pad_value", 0.0))
    kernel, groups = weights["kernel"], attrs["groups"]
    cin, cout = kernel.shape[2], kernel.shape[3] // groups
    parts = []
    for group in range(groups):
        part = view[:, :, :, group * cin : (group + 1) * cin].transpose(0, 1, 2, 4, 5, 3)
        matrix = kernel[..., group * cout : (group + 1) * cout].reshape(-1, cout)
        parts.append(_times(part, matrix))
    return with_bias(parts[0] if groups == 1 else np.concatenate(parts, -1), weights)


def depthwise_conv2d(
    attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]
) -> Array:
    fill = weights.get("pad_value", 0.0)
    view, (kh, kw) = _windows(attrs, weights, inputs[0], fill)
    kernel = weights["kernel"]
    total = np.zeros((*view.shape[:4], kernel.shape[3]), view.dtype)
    for row in range(kh):
        for column in range(kw):
            total += view[..., row, column, None] * kernel[row, column]
    return with_bias(total.reshape(*view.shape[:3], -1), weights)


def _transposed(
    attrs: Mapping[str, Any],
    x: Array,
    taps: Array,
    one_tap: Callable[[Array], Array],
    channels: int,
) -> Array:
    """Sum of ``one_tap(kernel[row, column])``, each spread by the strides and moved to its place.

    ``one_tap`` gives (n, h, w, channels) for one position of the kernel.
    """
    batch, strides, dilation = x.shape[0], attrs["strides"], attrs["dilation"]
    output_padding = attrs.get("output_padding") or (None, None)
    full, out, before = [], [], []
    for axis in (0, 1):
        size, count = x.shape[1 + axis], taps.shape[axis]
        length = (size - 1) * strides[axis] + (count - 1) * dilation[axis] + 1
        target = transpose_output(
            size, count, strides[axis], attrs["padding"], output_padding[axis], dilation[axis]
        )
        assert target is not None
        cut = max(length - target, 0) // 2 if attrs["padding"] == "same" else 0
        full.append(max(length, target + cut))
        out.append(target)
        before.append(cut)
    canvas = np.zeros((batch, full[0], full[1], channels), x.dtype)
    for row in range(taps.shape[0]):
        for column in range(taps.shape[1]):
            top, left = row * dilation[0], column * dilation[1]
            canvas[
                :,
                top : top + (x.shape[1] - 1) * strides[0] + 1 : strides[0],
                left : left + (x.shape[2] - 1) * strides[1] + 1 : strides[1],
            ] += one_tap(taps[row, column])
    rows = slice(before[0], before[0] + out[0])
    columns = slice(before[1], before[1] + out[1])
    return canvas[:, rows, columns]


def conv2d_transpose(
    attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]
) -> Array:
    x, kernel = inputs[0], weights["kernel"]
    result = _transposed(attrs, x, kernel, lambda tap: x @ tap.T, kernel.shape[2])
    return with_bias(result, weights)


def depthwise_conv2d_transpose(
    attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]
) -> Array:
    x, kernel = inputs[0], weights["kernel"]
    channels = kernel.shape[2] * kernel.shape[3]

    def one_tap(tap: Array) -> Array:
        return np.asarray((x[..., None] * tap).reshape(*x.shape[:3], channels))

    return with_bias(_transposed(attrs, x, kernel, one_tap, channels), weights)


def max_pool(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    view, _ = _windows(attrs, {}, inputs[0], -np.inf)
    return np.asarray(view.max(axis=(-2, -1)))


def avg_pool(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    view, _ = _windows(attrs, {}, inputs[0], 0.0)
    counts, _ = _windows(attrs, {}, np.ones_like(inputs[0][:1, :, :, :1]), 0.0)
    return np.asarray(view.sum(axis=(-2, -1)) / counts.sum(axis=(-2, -1)))


def global_avg_pool(
    attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]
) -> Array:
    return np.asarray(inputs[0].mean(axis=(1, 2), keepdims=attrs["keepdims"]))


def global_max_pool(
    attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]
) -> Array:
    return np.asarray(inputs[0].max(axis=(1, 2), keepdims=attrs["keepdims"]))
