"""Affine maps on their way through a graph.

A map is y = x * scale + offset on one value. What it becomes on the other side of a node that moves
or pools data is the same question for every rule that folds: :func:`to_inputs` answers it against
the stream, :func:`to_output` with the stream. Both answer with a sentence where no map on the other
side does the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph, Node
from ..kinds import Trait, kinds_with
from ..shapes import Shape, element_count
from .linear import affine_map

Array = NDArray[np.float64]

_POOLS = kinds_with(Trait.AVERAGES) | kinds_with(Trait.MAXIMA)
_CROSSED = _POOLS | kinds_with(Trait.MOVES)
_MIXING = _POOLS | {"upsample", "pad"}


@dataclass(frozen=True)
class Map:
    """``scale`` and ``offset`` with the rank of their value; an axis of size 1 stretches."""

    scale: Array
    offset: Array

    def per_channel(self, channels: int | None) -> tuple[Array, Array] | None:
        """(scale, offset), both (c,); None when pixels differ or the size is not known."""
        if channels is None or any(np.prod(a.shape[:-1]) != 1 for a in (self.scale, self.offset)):
            return None
        scale, offset = (
            np.broadcast_to(array.reshape(-1), (channels,)) for array in (self.scale, self.offset)
        )
        return scale, offset

    def each(self, change: Any) -> Map:
        """The map whose arrays are ``change`` of these."""
        return Map(_compact(change(self.scale)), _compact(change(self.offset)))


def map_of(node: Node) -> Map:
    """The map that an affine node or batch normalization is."""
    rank = len(node.shape)
    arrays = (a.reshape((1,) * (rank - a.ndim) + a.shape) for a in affine_map(node))
    return Map(*(_compact(array) for array in arrays))


def _compact(array: Array) -> Array:
    """The array with size 1 along every axis that it is constant along."""
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if array.shape[axis] > 1 and np.array_equal(np.broadcast_to(first, array.shape), array):
            array = first
    return array


def to_inputs(graph: Graph, node: Node, after: Map) -> list[tuple[str, Map]] | str:
    """Maps on the inputs of ``node`` that together do what ``after`` does on its output."""
    if node.kind == "concat":
        return _split(graph, node, after)
    if node.kind == "add":
        if any(graph.shape_of(value) != node.shape for value in node.inputs):
            return f"the inputs of '{node.name}' are stretched"
        scaled = Map(after.scale, np.zeros_like(after.offset))
        return [(v, after if i == 0 else scaled) for i, v in enumerate(node.inputs)]
    if len(node.inputs) != 1 or not _may_cross(node, after):
        return f"its input comes from '{node.name}' ({node.kind}), which has no weights"
    before = graph.shape_of(node.inputs[0])
    problem = _blocked(node, after)
    if problem is not None:
        return problem
    if Trait.RESHAPES in node.traits:
        reshaped = _reshaped(after, node.shape, before)
        return reshaped if isinstance(reshaped, str) else [(node.inputs[0], reshaped)]
    if node.kind == "permute":
        back = np.argsort(node.attrs["dims"])
        return [(node.inputs[0], after.each(lambda array: array.transpose(back)))]
    if node.kind == "slice":
        whole = node.attrs["slices"][-1] == (0, None, 1) and not node.attrs.get("squeeze")
        if not whole or after.per_channel(node.channels) is None:
            return f"'{node.name}' cuts out a part of it"
    rank = len(before)
    if len(node.shape) != rank:
        after = after.each(lambda array: array.reshape((1,) * (rank - 1) + (-1,)))
    return [(node.inputs[0], after)]


def to_output(graph: Graph, node: Node, value: str, before: Map) -> Map | str:
    """The map behind ``node`` that does what ``before`` does on its input ``value``."""
    if node.kind == "concat":
        return _joined(graph, node, value, before)
    if len(node.inputs) != 1 or not _may_cross(node, before):
        return f"its value is read by '{node.name}' ({node.kind}), which has no weights"
    shape = graph.shape_of(value)
    problem = _blocked(node, before)
    if problem is not None:
        return problem
    if Trait.RESHAPES in node.traits:
        return _reshaped(before, shape, node.shape)
    if node.kind == "permute":
        return before.each(lambda array: array.transpose(node.attrs["dims"]))
    if node.kind == "slice":
        if None in shape:
            return f"the size of '{value}' is not known"
        cut = tuple(slice(*limits) for limits in node.attrs["slices"])
        drop = tuple(node.attrs.get("squeeze", ()))
        return before.each(lambda a: np.squeeze(np.broadcast_to(a, _sizes(shape))[cut], axis=drop))
    rank = len(node.shape)
    if rank == len(shape):
        return before
    return before.each(lambda array: array.reshape((1,) * (rank - 1) + (-1,)))


def _may_cross(node: Node, crossing: Map) -> bool:
    """Whether ``node`` is of a kind that maps like this one cross."""
    if node.kind in _CROSSED:
        return True
    plain = node.kind == "relu" and not node.weights and node.attrs.get("max_value") is None
    leaky = node.kind == "activation" and node.attrs["function"] == "leaky_relu"
    return (plain or leaky) and bool((crossing.scale > 0).all() and not crossing.offset.any())


def _blocked(node: Node, crossing: Map) -> str | None:
    """Why this map cannot cross ``node``, of a kind that some can; the same in both directions."""
    if node.kind not in _MIXING:
        return None
    # These mix pixels, so that all must have one map.
    if crossing.per_channel(node.channels) is None:
        return "it is not one scale and offset per channel"
    if Trait.MAXIMA in node.traits and not (crossing.scale >= 0).all():
        return f"a scale is negative, so it cannot cross the maximum of '{node.name}'"
    value = node.attrs.get("value", 0.0)
    if node.kind == "pad" and not (value * crossing.scale + crossing.offset == value).all():
        return f"it would change the {value:g} that '{node.name}' puts around its input"
    return None


def _sizes(shape: Shape) -> tuple[int, ...]:
    return tuple(size for size in shape if size is not None)


def _reshaped(crossing: Map, shape: Shape, wanted: Shape) -> Map | str:
    """The map on a value of ``shape``, seen where the value has the shape ``wanted``."""
    rank = len(wanted)
    arrays = (crossing.scale, crossing.offset)
    if all(array.size == 1 for array in arrays):
        return crossing.each(lambda array: array.reshape((1,) * rank))
    if all(np.prod(a.shape[:-1]) == 1 for a in arrays) and shape[-1] == wanted[-1] is not None:
        return crossing.each(lambda array: array.reshape((1,) * (rank - 1) + (-1,)))
    if element_count(shape) is None or element_count(wanted) is None:
        return "a size is not known, so there is no telling which element has which scale"
    return crossing.each(lambda a: np.broadcast_to(a, _sizes(shape)).reshape(_sizes(wanted)))


def _split(graph: Graph, node: Node, after: Map) -> list[tuple[str, Map]] | str:
    """The part of a map that falls to each input of a concatenation."""
    axis, start = node.attrs["axis"], 0
    parts: list[tuple[str, Map]] = []
    for value in node.inputs:
        size = graph.shape_of(value)[axis]
        if size is None:
            return f"the sizes of the inputs of '{node.name}' are not known"

        def part(array: Array, start: int = start, size: int = size) -> Array:
            return array if array.shape[axis] == 1 else array.take(range(start, start + size), axis)

        parts.append((value, after.each(part)))
        start += size
    return parts


def _joined(graph: Graph, node: Node, value: str, before: Map) -> Map | str:
    """A map on some inputs of a concatenation, and none on the others, as a map on the whole."""
    axis = node.attrs["axis"]
    shapes = [graph.shape_of(part) for part in node.inputs]
    if any(shape[axis] is None for shape in shapes):
        return f"the sizes of the inputs of '{node.name}' are not known"
    rest = [max(a.shape[i] for a in (before.scale, before.offset)) for i in range(len(node.shape))]

    def joined(array: Array, neutral: float) -> Array:
        parts = []
        for part, shape in zip(node.inputs, shapes, strict=True):
            size = [*rest]
            size[axis] = shape[axis] or 1
            filled = array if part == value else np.asarray(neutral)
            parts.append(np.broadcast_to(filled, size))
        return _compact(np.concatenate(parts, axis))

    return Map(joined(before.scale, 1.0), joined(before.offset, 0.0))
