"""Windows over maps in ONNX: sums, largest elements, and zeros between pixels.

ONNX pools floats, and bytes for MaxPool; wider integers are pooled by adding or comparing shifted
views of the map, along the rows first and along the columns then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..numerics.layer_windows import NO_PADS, Pads, Window
from .layer_builder import LayerBuilder, Tensor

ROWS, COLUMNS = 2, 3
"""Axes of a stored map."""


def emit_max_pool(builder: LayerBuilder, x: Tensor, window: Window) -> Tensor:
    """The largest element under the window; padding never wins."""
    height_width = x.shape[:2]
    pads = window.pads(height_width)
    kind = np.dtype(x.dtype)
    operator = kind in (np.int8, np.uint8, np.float32)
    if not operator or not fits(window, height_width):
        lowest = np.finfo(kind).min if kind == np.float32 else np.iinfo(kind).min
        x, pads = pad_map(builder, x, pads, lowest), NO_PADS
    if not operator:
        return _pooled(builder, x, window, "Max")
    if any(node.op_type == "Pad" and node.output[0] == x.name for node in builder.nodes):
        x = _apart(builder, x)
    attributes = window_attributes(window, pads)
    shape = (*window.output_size(height_width), x.shape[2])
    return x._replace(name=builder.node("MaxPool", [x.name], **attributes), shape=shape)


def _apart(builder: LayerBuilder, x: Tensor) -> Tensor:
    """The same, behind a Clip that clips nothing.

    onnxruntime 1.31 makes zeros that a Pad puts in front of a MaxPool into pads of the pooling,
    which never win where the zeros would (Pad_Fusion, found at every level but "disabled").
    """
    limits = np.finfo(x.dtype) if np.dtype(x.dtype).kind == "f" else np.iinfo(x.dtype)
    ends = [builder.constant(end, x.dtype) for end in (limits.min, limits.max)]
    return x._replace(name=builder.node("Clip", [x.name, *ends]))


def emit_average_pool(builder: LayerBuilder, x: Tensor, window: Window) -> Tensor:
    """The mean of the floats under the window, padding left out where the window ``fits``."""
    height_width = x.shape[:2]
    pads, shape = window.pads(height_width), (*window.output_size(height_width), x.shape[2])
    if not fits(window, height_width):
        x, pads = pad_map(builder, x, pads, 0), NO_PADS
    name = builder.node("AveragePool", [x.name], **window_attributes(window, pads))
    return x._replace(name=name, shape=shape)


def fits(window: Window, height_width: Sequence[int]) -> bool:
    """Whether every window has a pixel under it, as the pooling operators want it."""
    pads = window.pads(height_width)
    return all(max(pads[axis]) < window.size[axis] for axis in (0, 1))


def emit_sum_pool(builder: LayerBuilder, x: Tensor, window: Window) -> Tensor:
    """The sum of the elements under the window, for int32 or int64; padding adds nothing."""
    padded = pad_map(builder, x, window.pads(x.shape[:2]), 0)
    return _pooled(builder, padded, window, "Add")


def emit_global_sum(builder: LayerBuilder, x: Tensor, keepdims: bool) -> Tensor:
    """The sum over the whole map."""
    axes = builder.constant([ROWS, COLUMNS])
    name = builder.node("ReduceSum", [x.name, axes], keepdims=int(keepdims))
    shape = (1, 1, x.shape[2]) if keepdims else x.shape[2:]
    return x._replace(name=name, shape=shape)


def emit_widened(builder: LayerBuilder, x: Tensor, window: Window) -> Tensor:
    """Zeros between the pixels, as the window's input_dilation asks."""
    (sh, sw), (h, w, c) = window.input_dilation, x.shape
    if sh == sw == 1:
        return x
    split = builder.reshape_stored(x, (c, h, 1, w, 1), (c, h, 1, w, 1))
    filled = _padded(builder, split, (0,) * 6, (0, 0, 0, sh - 1, 0, sw - 1), 0)
    wide = builder.reshape_stored(filled, (c, h * sh, w * sw), (h * sh, w * sw, c))
    rows, columns = window.widened(0, h), window.widened(1, w)
    return cut_map(builder, wide, ((0, rows, 1), (0, columns, 1)))


def pad_map(builder: LayerBuilder, x: Tensor, pads: Pads, value: float) -> Tensor:
    """Rows and columns of one number around a map."""
    if pads == NO_PADS:
        return x
    (top, bottom), (left, right) = pads
    h, w, c = x.shape
    padded = _padded(builder, x, (0, 0, top, left), (0, 0, bottom, right), value)
    return padded._replace(shape=(h + top + bottom, w + left + right, c))


def cut_map(builder: LayerBuilder, x: Tensor, limits: Sequence[tuple[int, int, int]]) -> Tensor:
    """Rows and columns start, start + step, ... below stop; limits: (start, stop, step) of both."""
    sizes = tuple(len(range(*each)) for each in limits)
    if sizes == x.shape[:2]:
        return x
    starts, ends, steps = (builder.constant(each) for each in zip(*limits, strict=True))
    axes = builder.constant([ROWS, COLUMNS])
    name = builder.node("Slice", [x.name, starts, ends, axes, steps])
    return x._replace(name=name, shape=(*sizes, x.shape[2]))


def window_attributes(window: Window, pads: Pads) -> dict[str, Any]:
    """Attributes of the ONNX operators with a window; those at their default are left out."""
    (top, bottom), (left, right) = pads
    found = {
        "kernel_shape": list(window.size),
        "strides": list(window.strides),
        "dilations": list(window.dilation),
        "pads": [top, left, bottom, right],
    }
    defaults = {"strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0]}
    return {name: value for name, value in found.items() if value != defaults.get(name)}


def _padded(
    builder: LayerBuilder, x: Tensor, before: Sequence[int], after: Sequence[int], value: float
) -> Tensor:
    inputs = [x.name, builder.constant([*before, *after]), builder.constant(value, x.dtype)]
    return x._replace(name=builder.node("Pad", inputs, mode="constant"))


def _pooled(builder: LayerBuilder, x: Tensor, window: Window, op: str) -> Tensor:
    """Elements under the window of a padded map, joined by an operator of two operands."""
    for axis in (0, 1):
        size, stride, dilation = window.size[axis], window.strides[axis], window.dilation[axis]
        count = window.places(axis, x.shape[axis])
        views = []
        for tap in range(size):
            start = tap * dilation
            limits = [(0, x.shape[0], 1), (0, x.shape[1], 1)]
            limits[axis] = (start, start + (count - 1) * stride + 1, stride)
            views.append(cut_map(builder, x, limits))
        total = views[0]
        for view in views[1:]:
            total = total._replace(name=builder.combine(op, total, view.name))
        x = total
    return x
