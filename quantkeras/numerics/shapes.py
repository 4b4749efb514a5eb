"""Shapes of hardware layers: what comes out for what goes in, and what does not fit."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import QuantizationError
from .kinds import Trait
from .layer import LayerSpec
from .windows import Window

Shape = tuple[int | None, ...]
"""Unbatched; None is a size that is not known yet."""


def fixed_shape(shape: Sequence[int | None], name: str = "a tensor") -> tuple[int, ...]:
    """The shape, if all sizes are known; else QuantizationError naming whose shape it is."""
    if None in shape:
        raise QuantizationError(f"{name} has the shape {tuple(shape)}; its sizes must all be known")
    return tuple(size for size in shape if size is not None)


def output_shape(
    spec: LayerSpec, shapes: Sequence[tuple[int | None, ...]], channels: int | None
) -> tuple[int | None, ...]:
    """Unbatched output shape for the unbatched input shapes; None stands for an unknown size.

    channels: output channels of a weighted kind, None for the others. Raises QuantizationError
    where the inputs do not fit the layer, or each other.
    """
    shape = _core_shape(spec, [tuple(shape) for shape in shapes], channels)
    if spec.pool is not None:
        height, width, depth = _map(shape)
        if spec.pool.window is not None:
            shape = (*_slid(spec.pool.window, height, width), depth)
        else:
            shape = (1, 1, depth) if spec.pool.keepdims else (depth,)
    if any(size is not None and size < 1 for size in shape):
        raise QuantizationError(f"nothing is left of {_text(shapes)}: the output is {shape}")
    return shape


def _core_shape(spec: LayerSpec, shapes: Sequence[Shape], channels: int | None) -> Shape:
    shape = shapes[0]
    if Trait.WINDOWED in spec.traits:
        assert spec.window is not None
        height, width, _ = _map(shape)
        return (*_slid(spec.window, height, width), channels)
    if spec.kind == "dense":
        return (*shape[:-1], channels)
    if Trait.ELEMENTWISE in spec.traits:
        if len({len(shape) for shape in shapes}) > 1:
            raise QuantizationError(f"{_text(shapes)} have not the same number of axes")
        return tuple(_broadcast(sizes, shapes) for sizes in zip(*shapes, strict=True))
    if spec.kind == "concat":
        return _joined(shapes, spec.axis)
    if Trait.VIEWS in spec.traits:
        return _refilled(shape, spec.shape if spec.kind == "reshape" else (-1,))
    if spec.kind == "permute":
        if sorted(spec.dims) != list(range(len(shape))):
            raise QuantizationError(f"dims {spec.dims} are no order of the axes of {shape}")
        return tuple(shape[d] for d in spec.dims)
    if spec.kind == "pad":
        height, width, depth = _map(shape)
        (top, bottom), (left, right) = spec.pads
        tall = None if height is None else height + top + bottom
        return tall, None if width is None else width + left + right, depth
    if spec.kind == "slice":
        if len(spec.slices) != len(shape) or any(step == 0 for *_, step in spec.slices):
            raise QuantizationError(
                f"slices {spec.slices} for the shape {shape}; give one (start, stop, step) for "
                "each axis, with a step other than 0"
            )
        sizes = zip(fixed_shape(shape), spec.slices, strict=True)
        return tuple(len(range(size)[slice(*limits)]) for size, limits in sizes)
    if spec.kind == "upsample":
        height, width, depth = fixed_shape(_map(shape))
        return height * spec.size[0], width * spec.size[1], depth
    return shape


def _map(shape: Shape) -> tuple[int | None, int | None, int | None]:
    if len(shape) != 3:
        raise QuantizationError(f"the input has the shape {shape}, not (height, width, channels)")
    return shape[0], shape[1], shape[2]


def _slid(window: Window, height: int | None, width: int | None) -> tuple[int, int]:
    if height is None or width is None:
        raise QuantizationError(f"height and width must be known, not {(height, width)}")
    return window.output_size((height, width))


def _broadcast(sizes: Sequence[int | None], shapes: Sequence[Shape]) -> int | None:
    """The size of one axis: equal in all shapes, or 1."""
    if None in sizes:
        return None
    wide = {size for size in sizes if size != 1}
    if len(wide) > 1:
        raise QuantizationError(f"{_text(shapes)} do not broadcast to one shape")
    return wide.pop() if wide else 1


def _joined(shapes: Sequence[Shape], axis: int) -> Shape:
    first = shapes[0]
    axis = axis % len(first)
    if any((*s[:axis], *s[axis + 1 :]) != (*first[:axis], *first[axis + 1 :]) for s in shapes):
        raise QuantizationError(f"{_text(shapes)} differ beside the axis {axis} that joins them")
    sizes = [shape[axis] for shape in shapes]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    return (*first[:axis], total, *first[axis + 1 :])


def _refilled(shape: Shape, target: tuple[int, ...]) -> Shape:
    """The target of a reshape, its -1 written out."""
    if None in shape:
        return tuple(None if size == -1 else size for size in target)
    total, known = math.prod(fixed_shape(shape)), math.prod(size for size in target if size != -1)
    filled = tuple(total // max(known, 1) if size == -1 else size for size in target)
    if math.prod(filled) != total or target.count(-1) > 1:
        raise QuantizationError(f"{shape} does not fill the shape {target}")
    return filled


def _text(shapes: Sequence[Shape]) -> str:
    return "shapes " + ", ".join(map(str, shapes)) if len(shapes) > 1 else f"shape {shapes[0]}"
