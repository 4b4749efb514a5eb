"""Nodes that only move integers: as layers of a program, and what becomes of formats on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sanitize.graph import Node

from ..numerics.carry import carry
from ..numerics.layer import LayerSpec, Slices
from ..numerics.layer_shapes import fixed_shape
from ..numerics.layer_windows import Pool, Window

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


def carry_through(
    array: np.ndarray, node: Node, shape: Sequence[Any], output_shape: Sequence[Any]
) -> np.ndarray:
    """What belongs to the elements of a tensor, behind a node that moves them.

    array: broadcastable to ``shape``; see :func:`~quantkeras.numerics.carry.carry`. shape,
    output_shape: as in :func:`movement_steps`.
    """
    before = fixed_shape(shape, node.name)
    for step in movement_steps(node, before, fixed_shape(output_shape, node.name)):
        array, before = carry(array, step.spec, before), step.shape
    return array


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
    return LayerSpec(node.kind)  # flatten, identity
