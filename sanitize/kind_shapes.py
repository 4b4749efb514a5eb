"""The shape of what each kind of node makes, from attributes, weight shapes and input shapes.

Every function takes (attrs, weights, inputs), with the shapes of the weights by name, and raises
ValueError where they do not fit; see :mod:`sanitize.shapes` for what a shape is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .shapes import (
    Shape,
    broadcast,
    element_count,
    slice_length,
    transpose_output,
    window_of,
    window_output,
)

Attrs = Mapping[str, Any]
WeightShapes = Mapping[str, Sequence[int]]
Inputs = Sequence[Shape]


def same_shape(attrs: Attrs, weights: WeightShapes, inputs: Inputs) -> Shape:
    """That of the input, which all weights must fit."""
    shape = inputs[0]
    for name, weight_shape in weights.items():
        if len(weight_shape) > len(shape) or any(
            size != 1 and axis is not None and size != axis
            for size, axis in zip(reversed(list(weight_shape)), reversed(shape), strict=False)
        ):
            raise ValueError(f"its {name} {tuple(weight_shape)} does not fit {shape}")
    return shape


def join_shape(attrs: Attrs, weights: WeightShapes, inputs: Inputs) -> Shape:
    return broadcast(inputs)


def concat_shape(attrs: Attrs, weights: WeightShapes, inputs: Inputs) -> Shape:
    axis, rank = attrs["axis"], len(inputs[0])
    if any(len(shape) != rank for shape in inputs) or not 0 <= axis < rank:
        raise ValueError(f"cannot concatenate {list(inputs)} along axis {axis}")
    rest = [[size for i, size in enumerate(shape) if i != axis] for shape in inputs]
    for sizes in zip(*rest, strict=True):
        if len({size for size in sizes if size is not None}) > 1:
            raise ValueError(f"cannot concatenate {list(inputs)} along axis {axis}")
    total: int | None = 0
    for shape in inputs:
        size = shape[axis]
        total = None if total is None or size is None else total + size
    merged = list(inputs[0])
    merged[axis] = total
    return tuple(merged)


def dense_shape(attrs: Attrs, weights: WeightShapes, inputs: Inputs) -> Shape:
    _check_channels(inputs[0], weights["kernel"][0])
    return (*inputs[0][:-1], int(weights["kernel"][1]))


def flatten_shape(attrs: Attrs, weights: WeightShapes, inputs: Inputs) -> Shape:
    return (element_count(inputs[0]),)


def reshape_shape(attrs: Attrs, weights: WeightShapes, inputs: Inputs) -> Shape:
    target = tuple(attrs["shape"])
    count = element_count(inputs[0])
    if count is not None and count != element_count(target):
        raise ValueError(f"{inputs[0]} cannot be reshaped to {target}")
    return target


def permute_shape(attrs: Attrs, weights: WeightShapes, inputs: Inputs) -> Shape:
    shape = inputs[0]
    if sorted(attrs["dims"]) != list(range(len(shape))):
        raise ValueError(f"{attrs['dims']} is not a permutation of the axes of {shape}")
    return tuple(shape[axis] for axis in attrs["dims"])


def slice_shape(attrs: Attrs, weights: WeightShapes, inputs: Inputs) -> Shape:
    lengths = [
        slice_length(size, *limits) for size, limits in zip(inputs[0], attrs["slices"], strict=True)
    ]
    drop = attrs.get("squeeze", ())
    return tuple(length for axis, length in enumerate(lengths) if axis not in drop)


def pad_shape(attrs: Attrs, weights: WeightShapes, inputs: Inputs) -> Shape:
    height, width, channels = _map(inputs)
    (top, bottom), (left, right) = attrs["padding"]
    return (
        None if height is None else height + top + bottom,
        None if width is None else width + left + right,
        channels,
    )


def upsample_shape(attrs: Attrs, weights: WeightShapes, inputs: Inputs) -> Shape:
    height, width, channels = _map(inputs)
    scale = attrs["size"]
    return (
        None if height is None else height * scale[0],
        None if width is None else width * scale[1],
        channels,
    )


def global_pool_shape(attrs: Attrs, weights: WeightShapes, inputs: Inputs) -> Shape:
    channels = _map(inputs)[2]
    return (1, 1, channels) if attrs["keepdims"] else (channels,)


def pool_shape(attrs: Attrs, weights: WeightShapes, inputs: Inputs) -> Shape:
    return (*_windows_of(attrs, weights, inputs), inputs[0][2])


def conv2d_shape(attrs: Attrs, weights: WeightShapes, inputs: Inputs) -> Shape:
    out, kernel = _windows_of(attrs, weights, inputs), weights["kernel"]
    _check_channels(inputs[0], int(kernel[2]) * attrs["groups"])
    return (*out, int(kernel[3]))


def depthwise_conv2d_shape(attrs: Attrs, weights: WeightShapes, inputs: Inputs) -> Shape:
    out, kernel = _windows_of(attrs, weights, inputs), weights["kernel"]
    _check_channels(inputs[0], kernel[2])
    return (*out, int(kernel[2]) * int(kernel[3]))


def conv2d_transpose_shape(attrs: Attrs, weights: WeightShapes, inputs: Inputs) -> Shape:
    kernel = weights["kernel"]
    _check_channels(_map(inputs), kernel[3])
    return (*_transposed(attrs, kernel, inputs), int(kernel[2]))


def depthwise_conv2d_transpose_shape(attrs: Attrs, weights: WeightShapes, inputs: Inputs) -> Shape:
    kernel = weights["kernel"]
    _check_channels(_map(inputs), kernel[2])
    return (*_transposed(attrs, kernel, inputs), int(kernel[2]) * int(kernel[3]))


def _map(inputs: Inputs) -> Shape:
    """The shape of the input, a map (h, w, c)."""
    if len(inputs[0]) != 3:
        raise ValueError(f"it works on (h, w, c) but receives {inputs[0]}")
    return inputs[0]


def _windows_of(attrs: Attrs, weights: WeightShapes, inputs: Inputs) -> Shape:
    padding, size, strides, dilation = window_of(attrs, weights)
    return window_output(padding, _map(inputs)[:2], size, strides, dilation)


def _transposed(attrs: Attrs, kernel: Sequence[int], inputs: Inputs) -> Shape:
    extra = attrs.get("output_padding") or (None, None)
    return tuple(
        transpose_output(
            size,
            int(kernel[axis]),
            attrs["strides"][axis],
            attrs["padding"],
            extra[axis],
            attrs["dilation"][axis],
        )
        for axis, size in enumerate(inputs[0][:2])
    )


def _check_channels(shape: Shape, wanted: int) -> None:
    if shape[-1] is not None and shape[-1] != wanted:
        raise ValueError(f"its kernel expects {wanted} channels but it receives {shape}")
