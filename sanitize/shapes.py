"""Shapes of node outputs, worked out from attributes, weight shapes and input shapes.

All shapes are unbatched and channels-last; ``None`` is a dimension that is not known, and stays
unknown through everything that cannot tell. A wrong combination is a ValueError that says what is
wrong; the caller adds the name of the node.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Shape = tuple[int | None, ...]
Pads = tuple[tuple[int, int], tuple[int, int]]

_SAME_SHAPE = frozenset({"relu", "activation", "softmax", "identity", "batchnorm", "affine"})
_ELEMENTWISE = frozenset({"add", "subtract", "multiply", "maximum", "minimum"})
#: Kinds that slide a window over the two spatial axes.
WINDOWED = frozenset({"conv2d", "depthwise_conv2d", "max_pool", "avg_pool"})


def same_pads(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Pads (before, after) of 'same' for an axis of ``size``: the odd one goes after."""
    span = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


def window_pads(
    padding: str | Pads,
    size: Sequence[int | None],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int] = (1, 1),
) -> Pads | None:
    """Explicit pads ((top, bottom), (left, right)) of a window; None where the size is unknown."""
    if padding == "valid":
        return ((0, 0), (0, 0))
    if not isinstance(padding, str):
        (top, bottom), (left, right) = padding
        return ((int(top), int(bottom)), (int(left), int(right)))
    height, width = size
    if height is None or width is None:
        return None
    return (
        same_pads(height, kernel[0], strides[0], dilation[0]),
        same_pads(width, kernel[1], strides[1], dilation[1]),
    )


def window_output(
    padding: str | Pads,
    size: Sequence[int | None],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int] = (1, 1),
) -> tuple[int | None, int | None]:
    """Spatial output size of a sliding window; ValueError when no window fits."""
    result: list[int | None] = []
    for axis in (0, 1):
        length = size[axis]
        if length is None:
            result.append(None)
            continue
        if padding == "same":
            result.append(-(-length // strides[axis]))
            continue
        pads = (0, 0) if padding == "valid" else padding[axis]
        span = (kernel[axis] - 1) * dilation[axis] + 1
        room = length + int(pads[0]) + int(pads[1]) - span
        if room < 0:
            raise ValueError(f"a window of {span} does not fit into {length} plus pads {pads}")
        result.append(room // strides[axis] + 1)
    return result[0], result[1]


def window_of(
    kind: str, attrs: Mapping[str, Any], weights: Mapping[str, Sequence[int]]
) -> tuple[str | Pads, tuple[int, int], tuple[int, int], tuple[int, int]]:
    """(padding, kernel size, strides, dilation) of a windowed node."""
    if kind in ("max_pool", "avg_pool"):
        size: tuple[int, int] = tuple(attrs["size"])
    else:
        size = (int(weights["kernel"][0]), int(weights["kernel"][1]))
    return attrs["padding"], size, tuple(attrs["strides"]), tuple(attrs.get("dilation", (1, 1)))


def transpose_output(
    size: int | None,
    kernel: int,
    stride: int,
    padding: str,
    output_padding: int | None,
    dilation: int = 1,
) -> int | None:
    """Output length of one axis of a transposed convolution."""
    if size is None:
        return None
    span = (kernel - 1) * dilation + 1
    if output_padding is None:
        return size * stride if padding == "same" else size * stride + max(span - stride, 0)
    pad = span // 2 if padding == "same" else 0
    return (size - 1) * stride + span - 2 * pad + output_padding


def transpose_pads(
    kernel: int, stride: int, padding: str, output_padding: int | None, dilation: int = 1
) -> tuple[int, int]:
    """Pads (before, after) of the convolution with the flipped kernel that does the same.

    A transposed convolution is a convolution of stride 1 over the input with ``stride`` - 1 zeros
    between its values and these pads around it. A negative pad cuts.
    """
    span = (kernel - 1) * dilation + 1
    # Sizes drop out of the difference, so any will do.
    full = (4 - 1) * stride + span
    target = transpose_output(4, kernel, stride, padding, output_padding, dilation)
    assert target is not None
    cut = max(full - target, 0) // 2 if padding == "same" else 0
    return span - 1 - cut, span - 1 + target - full + cut


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """Shape of an element-wise operation; size 1 stretches, unknown sizes must not clash."""
    rank = len(shapes[0])
    if any(len(shape) != rank for shape in shapes):
        raise ValueError(f"inputs of different rank: {list(shapes)}")
    result: list[int | None] = []
    for sizes in zip(*shapes, strict=True):
        known = {size for size in sizes if size not in (1, None)}
        if len(known) > 1:
            raise ValueError(f"shapes {list(shapes)} do not broadcast")
        result.append(known.pop() if known else (None if None in sizes else 1))
    return tuple(result)


def element_count(shape: Shape) -> int | None:
    """Number of elements; None when a dimension is unknown."""
    known = [size for size in shape if size is not None]
    return math.prod(known) if len(known) == len(shape) else None


def slice_length(size: int | None, start: Any, stop: Any, step: Any) -> int | None:
    """Length of ``range(size)[start:stop:step]``."""
    if size is None:
        return None
    return len(range(size)[slice(start, stop, step)])


def infer_shape(
    kind: str,
    attrs: Mapping[str, Any],
    weights: Mapping[str, Sequence[int]],
    inputs: Sequence[Shape],
) -> Shape:
    """Output shape of one node. ``weights`` maps weight names to their shapes."""
    if not inputs:
        raise ValueError("it has no input")
    if kind in _ELEMENTWISE:
        if len(inputs) < 2:
            raise ValueError("it needs at least two inputs")
        return broadcast(inputs)
    if kind == "concat":
        return _concat_shape(attrs["axis"], inputs)
    if len(inputs) != 1:
        raise ValueError(f"it takes one input, not {len(inputs)}")
    shape = inputs[0]
    if kind in _SAME_SHAPE:
        _check_channel_weights(kind, weights, shape)
        return shape
    if kind == "dense":
        _check_channels(shape, weights["kernel"][0])
        return (*shape[:-1], int(weights["kernel"][1]))
    if kind == "flatten":
        return (element_count(shape),)
    if kind == "reshape":
        target = tuple(attrs["shape"])
        count = element_count(shape)
        if count is not None and count != element_count(target):
            raise ValueError(f"{shape} cannot be reshaped to {target}")
        return target
    if kind == "permute":
        if sorted(attrs["dims"]) != list(range(len(shape))):
            raise ValueError(f"{attrs['dims']} is not a permutation of the axes of {shape}")
        return tuple(shape[axis] for axis in attrs["dims"])
    if kind == "slice":
        lengths = [
            slice_length(size, *limits) for size, limits in zip(shape, attrs["slices"], strict=True)
        ]
        drop = attrs.get("squeeze", ())
        return tuple(length for axis, length in enumerate(lengths) if axis not in drop)
    return _spatial_shape(kind, attrs, weights, shape)


def _spatial_shape(
    kind: str, attrs: Mapping[str, Any], weights: Mapping[str, Sequence[int]], shape: Shape
) -> Shape:
    if len(shape) != 3:
        raise ValueError(f"it works on (h, w, c) but receives {shape}")
    height, width, channels = shape
    if kind in ("global_avg_pool", "global_max_pool"):
        return (1, 1, channels) if attrs["keepdims"] else (channels,)
    if kind == "pad":
        (top, bottom), (left, right) = attrs["padding"]
        return (
            None if height is None else height + top + bottom,
            None if width is None else width + left + right,
            channels,
        )
    if kind == "upsample":
        scale = attrs["size"]
        return (
            None if height is None else height * scale[0],
            None if width is None else width * scale[1],
            channels,
        )
    if kind in ("conv2d_transpose", "depthwise_conv2d_transpose"):
        taps, plain = weights["kernel"], kind == "conv2d_transpose"
        _check_channels(shape, taps[3] if plain else taps[2])
        output_padding = attrs.get("output_padding") or (None, None)
        sizes = [
            transpose_output(
                size,
                int(weights["kernel"][axis]),
                attrs["strides"][axis],
                attrs["padding"],
                output_padding[axis],
                attrs["dilation"][axis],
            )
            for axis, size in enumerate((height, width))
        ]
        return (sizes[0], sizes[1], int(taps[2]) if plain else int(taps[2]) * int(taps[3]))
    out = window_output(*_reordered(window_of(kind, attrs, weights), (height, width)))
    if kind == "conv2d":
        _check_channels(shape, int(weights["kernel"][2]) * attrs["groups"])
        return (*out, int(weights["kernel"][3]))
    if kind == "depthwise_conv2d":
        _check_channels(shape, weights["kernel"][2])
        return (*out, int(weights["kernel"][2]) * int(weights["kernel"][3]))
    return (*out, channels)


def _reordered(window: tuple[Any, ...], size: tuple[int | None, int | None]) -> tuple[Any, ...]:
    padding, kernel, strides, dilation = window
    return padding, size, kernel, strides, dilation


def _concat_shape(axis: int, inputs: Sequence[Shape]) -> Shape:
    rank = len(inputs[0])
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


def _check_channels(shape: Shape, wanted: int) -> None:
    if shape[-1] is not None and shape[-1] != wanted:
        raise ValueError(f"its kernel expects {wanted} channels but it receives {shape}")


def _check_channel_weights(kind: str, weights: Mapping[str, Sequence[int]], shape: Shape) -> None:
    for name, weight_shape in weights.items():
        if len(weight_shape) > len(shape) or any(
            size != 1 and axis is not None and size != axis
            for size, axis in zip(reversed(list(weight_shape)), reversed(shape), strict=False)
        ):
            raise ValueError(f"its {name} {tuple(weight_shape)} does not fit {shape}")
