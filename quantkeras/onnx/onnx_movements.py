"""Movements of data as ONNX operators, for tensors of any type.

They are described for channels-last tensors and done on stored ones: maps are channels first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..numerics.layer import Slices
from .layer_builder import FROM_MAP, TO_MAP, LayerBuilder, Shape, Tensor


def emit_concat(builder: LayerBuilder, parts: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors of one type, joined along an axis of the unbatched shape."""
    first = parts[0].shape
    axis %= len(first)
    stored = TO_MAP.index(axis) if parts[0].is_map else axis
    name = builder.node("Concat", [part.name for part in parts], axis=stored + 1)
    size = sum(part.shape[axis] for part in parts)
    return Tensor(name, parts[0].dtype, (*first[:axis], size, *first[axis + 1 :]))


def emit_reshape(builder: LayerBuilder, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """By way of channels-last, in which the program numbers the elements.

    shape: unbatched, one element may be -1.
    """
    total = int(np.prod(x.shape))
    known = int(np.prod([size for size in shape if size != -1]))
    target = tuple(total // max(known, 1) if size == -1 else size for size in shape)
    if x.is_map and _moves(x.shape):
        x = x._replace(name=builder.to_order(x, FROM_MAP))
    if len(target) != 3 or not _moves(target):
        return builder.reshape_stored(x, Tensor("", x.dtype, target).stored, target)
    x = builder.reshape_stored(x, target, target)
    return x._replace(name=builder.to_order(x, TO_MAP))


def emit_permute(builder: LayerBuilder, x: Tensor, dims: Sequence[int]) -> Tensor:
    """The unbatched axes in another order."""
    order = tuple(dims)
    if x.is_map:
        order = tuple(TO_MAP.index(dims[axis]) for axis in TO_MAP)
    return x._replace(name=builder.to_order(x, order), shape=tuple(x.shape[d] for d in dims))


def emit_slice(builder: LayerBuilder, x: Tensor, slices: Slices) -> Tensor:
    """``x[:, start:stop:step, ...]``."""
    limits = [slice(*each).indices(size) for each, size in zip(slices, x.shape, strict=True)]
    shape = tuple(len(range(*each)) for each in limits)
    # -1 as the end of a backward slice would count from the end.
    rows = [
        (start, -size - 1 if stop < 0 else stop, step)
        for (start, stop, step), size in zip(limits, x.shape, strict=True)
    ]
    stored = [rows[axis] for axis in TO_MAP] if x.is_map else rows
    starts, stops, steps = (builder.constant(row) for row in zip(*stored, strict=True))
    axes = builder.constant(range(1, len(rows) + 1))
    return x._replace(name=builder.node("Slice", [x.name, starts, stops, axes, steps]), shape=shape)


def emit_upsample(builder: LayerBuilder, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize to the nearest pixel, or a Gather of rows and columns for 64-bit integers."""
    height, width, channels = x.shape
    shape = (height * size[0], width * size[1], channels)
    if np.dtype(x.dtype).itemsize == 8:
        name = x.name
        for axis in (0, 1):
            rows = builder.constant(np.repeat(np.arange(x.shape[axis]), size[axis]))
            name = builder.node("Gather", [name, rows], axis=axis + 2)
        return x._replace(name=name, shape=shape)
    scales = builder.constant([1.0, 1.0, *size], np.float32)
    name = builder.node(
        "Resize",
        [x.name, "", scales],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    return x._replace(name=name, shape=shape)


def _moves(shape: Shape) -> bool:
    """Whether a map's elements come in another order channels first than channels last."""
    return shape[2] > 1 and shape[0] * shape[1] > 1
