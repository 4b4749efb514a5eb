"""Sizes of windows, pads and broadcasts: the geometry that kinds of nodes share.

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


def span(kernel: int, dilation: int = 1) -> int:
    """How far a dilated kernel reaches along an axis."""
    return (kernel - 1) * dilation + 1


def same_pads(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Pads (before, after) of 'same' for an axis of ``size``: the odd one goes after."""
    total = max((-(-size // stride) - 1) * stride + span(kernel, dilation) - size, 0)
    return total // 2, total - total // 2


def window_places(
    size: int, pads: tuple[int, int], kernel: int, stride: int, dilation: int = 1
) -> int:
    """How often a window finds place along an axis of ``size``; below 1 where it does not fit."""
    return (size + sum(pads) - span(kernel, dilation)) // stride + 1


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
    known = [1 if length is None else length for length in size]
    pads = window_pads(padding, known, kernel, strides, dilation)
    assert pads is not None
    result: list[int | None] = []
    for axis, length in enumerate(size):
        if length is None:
            result.append(None)
            continue
        count = window_places(length, pads[axis], kernel[axis], strides[axis], dilation[axis])
        if count < 1:
            raise ValueError(
                f"a window of {span(kernel[axis], dilation[axis])} does not fit into {length} plus "
                f"pads {pads[axis]}"
            )
        result.append(count)
    return result[0], result[1]


def window_of(
    attrs: Mapping[str, Any], weights: Mapping[str, Sequence[int]]
) -> tuple[str | Pads, tuple[int, int], tuple[int, int], tuple[int, int]]:
    """(padding, size, strides, dilation) of a node that slides a window: a kernel or a pool.

    ``weights`` maps weight names to their shapes.
    """
    height, width = weights["kernel"][:2] if "kernel" in weights else attrs["size"]
    size = (int(height), int(width))
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
    reach = span(kernel, dilation)
    if output_padding is None:
        return size * stride if padding == "same" else size * stride + max(reach - stride, 0)
    pad = reach // 2 if padding == "same" else 0
    return (size - 1) * stride + reach - 2 * pad + output_padding


def transpose_pads(
    kernel: int, stride: int, padding: str, output_padding: int | None, dilation: int = 1
) -> tuple[int, int]:
    """Pads (before, after) of the convolution with the flipped kernel that does the same.

    A transposed convolution is a convolution of stride 1 over the input with ``stride`` - 1 zeros
    between its values and these pads around it. A negative pad cuts.
    """
    reach = span(kernel, dilation)
    # Sizes drop out of the difference, so any will do.
    full = (4 - 1) * stride + reach
    target = transpose_output(4, kernel, stride, padding, output_padding, dilation)
    assert target is not None
    cut = max(full - target, 0) // 2 if padding == "same" else 0
    return reach - 1 - cut, reach - 1 + target - full + cut


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
