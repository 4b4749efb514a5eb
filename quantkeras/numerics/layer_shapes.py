"""Shapes of hardware layers: what comes out for what goes in, and what does not fit.

:class:`ShapeArrays` is the array namespace of :func:`~quantkeras.numerics.layer.run_layer` whose
tensors are nothing but their shapes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import QuantizationError
from .layer import LayerParams, LayerSpec, Slices, run_layer
from .layer_windows import Pads, Pool, Window

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
    inputs = [tuple(shape) for shape in shapes]
    shape: Shape = run_layer(spec, LayerParams(weights=channels), inputs, ShapeArrays(inputs))
    if any(size is not None and size < 1 for size in shape):
        raise QuantizationError(f"nothing is left of {_text(shapes)}: the output is {shape}")
    return shape


def core_shape(
    spec: LayerSpec, shapes: Sequence[tuple[int | None, ...]], channels: int | None, name: str
) -> tuple[int, ...]:
    """:func:`output_shape` before the pooling at the end; QuantizationError if sizes are unknown,
    naming whose shape it is.
    """
    return fixed_shape(output_shape(replace(spec, pool=None), shapes, channels), name)


def output_channels(spec: LayerSpec, weights: npt.ArrayLike | None) -> int | None:
    """Output channels of a layer with these weights; None without."""
    if weights is None:
        return None
    *_, before, last = np.shape(weights)
    return int(last * before if spec.kind == "depthwise_conv2d" else last)


class ShapeArrays:
    """Tensors are unbatched shapes, and the weights of a layer its number of output channels.

    inputs: shapes of the inputs of the layer, for what is said of those that do not fit.
    """

    def __init__(self, inputs: Sequence[Shape]) -> None:
        self._inputs = inputs

    def conv2d(self, x: Shape, weights: int, window: Window, groups: int, pad_value: Any) -> Shape:
        del groups, pad_value
        return (*_slid(x, window), weights)

    def depthwise_conv2d(self, x: Shape, weights: int, window: Window, pad_value: Any) -> Shape:
        del pad_value
        return (*_slid(x, window), weights)

    def dense(self, x: Shape, weights: int) -> Shape:
        return (*x[:-1], weights)

    def elementwise(self, kind: str, x: Shape, y: Shape) -> Shape:
        if len(x) != len(y):
            raise QuantizationError(f"{_text(self._inputs)} have not the same number of axes")
        return tuple(self._broadcast(a, b) for a, b in zip(x, y, strict=True))

    def _broadcast(self, a: int | None, b: int | None) -> int | None:
        """The size of one axis: equal in both shapes, or 1 in one."""
        if a is None or b is None:
            return None
        if a != b and 1 not in (a, b):
            raise QuantizationError(f"{_text(self._inputs)} do not broadcast to one shape")
        return b if a == 1 else a

    def concat(self, xs: Sequence[Shape], axis: int) -> Shape:
        first = xs[0]
        axis = axis % len(first)
        if any((*x[:axis], *x[axis + 1 :]) != (*first[:axis], *first[axis + 1 :]) for x in xs):
            raise QuantizationError(f"{_text(xs)} differ beside the axis {axis} that joins them")
        sizes = [x[axis] for x in xs]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        return (*first[:axis], total, *first[axis + 1 :])

    def align(self, x: Shape, shift: Any) -> Shape:
        return x

    def add_bias(self, acc: Shape, bias: Any, shift: Any) -> Shape:
        return acc

    def relu(self, x: Shape, max_value: Any) -> Shape:
        return x

    def rescale(self, acc: Shape, params: LayerParams) -> Shape:
        return acc

    def lookup(self, y: Shape, table: Any, qmin: int) -> Shape:
        return y

    def max_pool(self, x: Shape, window: Window) -> Shape:
        return (*_slid(x, window), x[2])

    def sum_pool(self, x: Shape, pool: Pool) -> Shape:
        _, _, channels = _map(x)
        if pool.window is not None:
            return (*_slid(x, pool.window), channels)
        return (1, 1, channels) if pool.keepdims else (channels,)

    def reshape(self, x: Shape, shape: tuple[int, ...]) -> Shape:
        if None in x:
            return tuple(None if size == -1 else size for size in shape)
        total, known = math.prod(fixed_shape(x)), math.prod(size for size in shape if size != -1)
        filled = tuple(total // max(known, 1) if size == -1 else size for size in shape)
        if math.prod(filled) != total or shape.count(-1) > 1:
            raise QuantizationError(f"{x} does not fill the shape {shape}")
        return filled

    def permute(self, x: Shape, dims: tuple[int, ...]) -> Shape:
        if sorted(dims) != list(range(len(x))):
            raise QuantizationError(f"dims {dims} are no order of the axes of {x}")
        return tuple(x[d] for d in dims)

    def pad(self, x: Shape, pads: Pads) -> Shape:
        height, width, channels = _map(x)
        tall = None if height is None else height + sum(pads[0])
        return tall, None if width is None else width + sum(pads[1]), channels

    def slice(self, x: Shape, slices: Slices) -> Shape:
        if len(slices) != len(x) or any(step == 0 for *_, step in slices):
            raise QuantizationError(
                f"slices {slices} for the shape {x}; give one (start, stop, step) for each axis, "
                "with a step other than 0"
            )
        sizes = zip(fixed_shape(x), slices, strict=True)
        return tuple(len(range(size)[slice(*limits)]) for size, limits in sizes)

    def upsample(self, x: Shape, size: tuple[int, int]) -> Shape:
        height, width, channels = fixed_shape(_map(x))
        return height * size[0], width * size[1], channels


def _map(shape: Shape) -> tuple[int | None, int | None, int | None]:
    if len(shape) != 3:
        raise QuantizationError(f"the input has the shape {shape}, not (height, width, channels)")
    return shape[0], shape[1], shape[2]


def _slid(shape: Shape, window: Window) -> tuple[int, int]:
    height, width, _ = _map(shape)
    if height is None or width is None:
        raise QuantizationError(f"height and width must be known, not {(height, width)}")
    return window.output_size((height, width))


def _text(shapes: Sequence[Shape]) -> str:
    return "shapes " + ", ".join(map(str, shapes)) if len(shapes) > 1 else f"shape {shapes[0]}"
