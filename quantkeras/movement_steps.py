"""Nodes that only move integers: as layers of a program, and what becomes of formats on the way."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sanitize.graph import Node

from .numerics.arrays import IntArrays
from .numerics.layer import LayerParams, LayerSpec, Slices, run_layer
from .numerics.windows import Pool, Window

Shape = tuple[int, ...]


class Step(NamedTuple):
    """One layer of a program; shape: unbatched, of its output."""

    spec: LayerSpec
    shape: Shape


def movement_steps(node: Node, shape: Shape, output_shape: Shape) -> list[Step]:
    """The layers that do what a node does; two for a slice that drops axes of length 1.

    shape, output_shape: unbatched, of what it reads and makes.
    """
    if node.kind != "slice":
        return [Step(_spec(node, output_shape), output_shape)]
    slices = _whole_slices(node.attrs["slices"], shape)
    part = tuple(len(range(n)[slice(*s)]) for n, s in zip(shape, slices, strict=True))
    steps = [Step(LayerSpec("slice", slices=slices), part)]
    if part != output_shape:
        steps.append(Step(LayerSpec("reshape", shape=output_shape), output_shape))
    return steps


def moved(array: np.ndarray, spec: LayerSpec, shape: Shape) -> np.ndarray:
    """What belongs to the elements of a tensor, behind a layer that moves them.

    array: fracs or scales, broadcastable to ``shape``; without the leading axes along which the
    result is the same. Pooling and padding need arrays that do not differ by position.
    """
    if array.size == 1 or (spec.kind in ("identity", "pad") and array.ndim == 1):
        return array
    full = np.broadcast_to(array, shape)[None]
    result = run_layer(spec, LayerParams(), [full], IntArrays())[0]
    while result.ndim > 1 and (result == result[:1]).all():
        result = result[0]
    return np.asarray(result)


def _whole_slices(slices: Any, shape: Shape) -> Slices:
    """Slices as (start, stop, step) with all their numbers, but None as the end of a backward
    slice that takes the first element.
    """
    whole = []
    for limits, size in zip(slices, shape, strict=True):
        start, stop, step = slice(*limits).indices(size)
        whole.append((start, None if stop < 0 else stop, step))
    return tuple(whole)


def _spec(node: Node, output_shape: Shape) -> LayerSpec:
    if node.kind == "max_pool":
        window = Window(node.attrs["size"], node.attrs["strides"], node.attrs["padding"])
        return LayerSpec("identity", pool=Pool("max", window))
    if node.kind == "pad":
        return LayerSpec("pad", pads=node.attrs["padding"])
    if node.kind == "permute":
        return LayerSpec("permute", dims=tuple(node.attrs["dims"]))
    if node.kind == "upsample":
        return LayerSpec("upsample", size=tuple(node.attrs["size"]))
    if node.kind == "reshape":
        return LayerSpec("reshape", shape=output_shape)
    return LayerSpec("flatten")
