"""Operators that move data without computing: reshape, transpose, join, and repeat."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from .layout import Rows, Tensor
from .state import NotUnderstood, Reading, axes_setting, error_at
from .view import OnnxNode


def reshape(r: Reading, node: OnnxNode) -> Tensor | Rows:
    value = _value(r, node.input(0))
    wanted = r.known(node.input(1))
    if wanted is None:
        raise error_at(node, "takes its shape from data; only fixed shapes are read")
    keep_zero = bool(node.get("allowzero", 0))
    numbers = [[int(n) for n in wanted.at(index)] for index in range(len(r.batches))]
    shapes = [
        _resolved(row, value.sizes(batch), keep_zero)
        for row, batch in zip(numbers, r.batches, strict=True)
    ]
    choices = [(shapes, r.batches)]
    if wanted.constant is not None:
        # Exported for one sample: the shape holds its count.
        choices.append(([_resolved(numbers[0], value.sizes(1), keep_zero)], (1,)))
    return _to_shapes(r, node, value, choices)


def _value(r: Reading, name: str) -> Tensor | Rows:
    value = r.values[name]
    return value if isinstance(value, Rows) else r.tensor(name)


def _to_shapes(
    r: Reading,
    node: OnnxNode,
    value: Tensor | Rows,
    choices: Sequence[tuple[Sequence[list[int] | None], Sequence[int]]],
) -> Tensor | Rows:
    """The value in another shape. choices: (shapes, batch sizes that they are for), of which one
    has to keep samples apart.
    """
    tensor = value.tensor if isinstance(value, Rows) else value
    for shapes, batches in choices:
        found = _per_sample(tensor, shapes, batches)
        if found is not None:
            return r.reshaped(tensor, *found)
    # Rows only where the model itself keeps them: not for a shape that fits any number of samples.
    for shapes, batches in choices if None in choices[0][0] else choices[:1]:
        rows = _in_rows(r, tensor, shapes, batches)
        if rows is not None:
            return rows
    sizes = tuple(tensor.onnx_shape)
    raise error_at(
        node,
        f"reshapes {sizes} (None counts samples) to {choices[0][0][0]}, which mixes samples. Export"
        " the model so that one axis counts samples throughout",
    )


def _in_rows(
    r: Reading, tensor: Tensor, shapes: Sequence[list[int] | None], batches: Sequence[int]
) -> Rows | None:
    """The value where an axis of its shapes counts samples times something; of several the first.

    That axis is taken apart into what is in front of the samples, they, and what is behind them.
    """
    given = [shape for shape in shapes if shape is not None]
    if len(given) < len(shapes):
        return None
    before = _in_front(tensor)
    for axis in range(min(map(len, given))):
        rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in given}
        times = {divmod(shape[axis], n) for shape, n in zip(given, batches, strict=True)}
        front = math.prod(given[0][:axis])
        if len(rest) > 1 or len(times) > 1 or front == 0 or before % front:
            continue
        (count, left), first = times.pop(), before // front
        if left or not count or count % first:
            continue
        parts = (first, count // first)
        outer = [part for part in parts if part != 1]
        sizes = (*given[0][:axis], *outer, *given[0][axis + 1 :])
        inner = r.unfolded(r.reshaped(tensor, sizes, axis + (first != 1)))
        return Rows(inner, axis, 1 + len(outer))
    return None


def _resolved(numbers: Sequence[int], concrete: Sequence[int], keep_zero: bool) -> list[int] | None:
    """A shape with its 0 (as before) and -1 (the rest) worked out; None where it does not fit."""
    result = list(numbers)
    for index, number in enumerate(result):
        if number == 0 and not keep_zero:
            if index >= len(concrete):
                return None
            result[index] = concrete[index]
    total = int(np.prod(concrete))
    if -1 in result:
        rest = -int(np.prod(result))
        if rest <= 0 or total % rest:
            return None
        result[result.index(-1)] = total // rest
    return result if int(np.prod(result)) == total else None


def _per_sample(
    tensor: Tensor, shapes: Sequence[list[int] | None], batches: Sequence[int]
) -> tuple[tuple[int, ...], int] | None:
    """(shape of one sample, axis that counts samples), where there is such an axis.

    It has the size of the batch, no other depends on that, and what is in front of it is of the
    size that it was; of several the first.
    """
    if any(shape is None for shape in shapes):
        return None
    given = [shape for shape in shapes if shape is not None]
    before = _in_front(tensor)
    for axis in range(min(map(len, given))):
        if any(shape[axis] != batch for shape, batch in zip(given, batches, strict=True)):
            continue
        found = {(*shape[:axis], *shape[axis + 1 :]) for shape in given}
        if len(found) == 1 and math.prod(given[0][:axis]) == before:
            return found.pop(), axis
    return None


def _in_front(tensor: Tensor) -> int:
    """How many values the axes in front of the one that counts samples have."""
    return math.prod(size or 1 for size in tensor.onnx_shape[: tensor.batch_axis])


def flatten(r: Reading, node: OnnxNode) -> Tensor | Rows:
    value = _value(r, node.input(0))
    axis = int(node.get("axis", 1))
    axis = axis + value.rank if axis < 0 else axis
    shapes = []
    for batch in r.batches:
        sizes = value.sizes(batch)
        shapes.append([math.prod(sizes[:axis]), math.prod(sizes[axis:])])
    return _to_shapes(r, node, value, [(shapes, r.batches)])


def squeeze(r: Reading, node: OnnxNode) -> Tensor:
    tensor = r.tensor(node.input(0))
    sizes = tensor.onnx_shape
    axes = axes_setting(r, node, tensor.rank)
    if axes is None:
        axes = tuple(axis for axis, size in enumerate(sizes) if size == 1)
    if any(sizes[axis] != 1 for axis in axes):
        raise error_at(node, f"squeezes the axes {axes} of {sizes} (None counts samples)")
    rest = [size for axis, size in enumerate(sizes) if axis not in axes]
    return r.reshaped(tensor, tuple(size for size in rest if size is not None), rest.index(None))


def unsqueeze(r: Reading, node: OnnxNode) -> Tensor:
    tensor = r.tensor(node.input(0))
    given = r.setting(node, "axes", 1)
    given = (given,) if isinstance(given, int) else tuple(given)
    rank = tensor.rank + len(given)
    axes = {int(axis) % rank for axis in given}
    rest = iter(tensor.onnx_shape)
    sizes = [1 if axis in axes else next(rest) for axis in range(rank)]
    return r.reshaped(tensor, tuple(size for size in sizes if size is not None), sizes.index(None))


def transpose(r: Reading, node: OnnxNode) -> Tensor | Rows:
    value = _value(r, node.input(0))
    if isinstance(value, Rows):
        return _transposed_rows(value, node.get("perm", tuple(reversed(range(value.rank)))))
    tensor = r.unfolded(value)
    return tensor.relabelled(node.get("perm", tuple(reversed(range(tensor.rank)))))


def _transposed_rows(rows: Rows, perm: Sequence[int]) -> Rows:
    """Axes that are merged move together."""
    inner: list[int] = []
    for axis in perm:
        merged = range(rows.start, rows.start + rows.count)
        inner += merged if axis == rows.start else [rows.inner_axis(axis)]
    return Rows(rows.tensor.relabelled(inner), inner.index(rows.start), rows.count)


def concat(r: Reading, node: OnnxNode) -> Tensor:
    tensors = [r.unfolded(r.tensor(name)) for name in node.inputs]
    first = tensors[0]
    axis = int(node.get("axis", 0)) % first.rank
    if len({tensor.rank for tensor in tensors}) > 1 or axis == first.batch_axis:
        raise NotUnderstood("it joins along the axis that counts samples")
    leader = max(tensors, key=lambda tensor: int(np.prod(tensor.shape)))
    tensors = [r.arranged(tensor, leader.order) for tensor in tensors]
    if len(tensors) == 1:
        return tensors[0]
    place = leader.place(axis)
    value = r.emit("concat", [tensor.value for tensor in tensors], {"axis": place})
    return r.made(value, leader.order, leader.dtype)


def tile(r: Reading, node: OnnxNode) -> Tensor:
    tensor = r.unfolded(r.tensor(node.input(0)))
    counts = [int(n) for n in r.constant(node.input(1))]
    return _repeated(r, tensor, counts)


def expand(r: Reading, node: OnnxNode) -> Tensor:
    tensor = r.unfolded(r.tensor(node.input(0)))
    wanted = r.known(node.input(1))
    if wanted is None:
        raise error_at(node, "takes its shape from data; only fixed shapes are read")
    sizes = tensor.onnx_shape
    target = [int(n) for n in wanted.at(0)]
    if len(target) > tensor.rank:
        raise NotUnderstood("it adds axes in front of the one that counts samples")
    target = [1] * (tensor.rank - len(target)) + target
    counts = [max(n, 1) if size == 1 else 1 for n, size in zip(target, sizes, strict=True)]
    return _repeated(r, tensor, counts)


def _repeated(r: Reading, tensor: Tensor, counts: Sequence[int]) -> Tensor:
    """Copies along each ONNX axis: pictures of one pixel are stretched, the rest is joined."""
    if counts[tensor.batch_axis] != 1:
        raise NotUnderstood("it repeats samples")
    order = tensor.order
    times = [counts[axis] for axis in order[1:]]
    value = tensor.value
    if len(times) == 3 and tensor.shape[:2] == (1, 1) and (times[0] > 1 or times[1] > 1):
        value = r.emit("upsample", [value], {"size": (times[0], times[1])}, suffix="repeat")
        times = [1, 1, times[2]]
    for axis, count in enumerate(times):
        if count > 1:
            value = r.emit("concat", [value] * count, {"axis": axis}, suffix="repeat")
    return r.made(value, order, tensor.dtype)


def depth_to_space(r: Reading, node: OnnxNode) -> Tensor:
    """(n, b*b*c, h, w) -> (n, c, h*b, w*b): a reshape, a transpose and a reshape."""
    tensor = r.tensor(node.input(0))
    block = int(node.get("blocksize"))
    channels, height, width = (int(n or 0) for n in tensor.onnx_shape[1:])
    rest = channels // block**2
    if node.get("mode", "DCR") == "DCR":
        split, perm = (block, block, rest, height, width), (0, 3, 4, 1, 5, 2)
    else:
        split, perm = (rest, block, block, height, width), (0, 1, 4, 2, 5, 3)
    tensor = r.reshaped(tensor, split).relabelled(perm)
    return r.reshaped(tensor, (rest, height * block, width * block))


def space_to_depth(r: Reading, node: OnnxNode) -> Tensor:
    tensor = r.tensor(node.input(0))
    block = int(node.get("blocksize"))
    channels, height, width = (int(n or 0) for n in tensor.onnx_shape[1:])
    split = (channels, height // block, block, width // block, block)
    tensor = r.reshaped(tensor, split).relabelled((0, 3, 5, 1, 2, 4))
    return r.reshaped(tensor, (channels * block**2, height // block, width // block))


SHAPE_OPERATORS: dict[str, Callable[[Reading, OnnxNode], Tensor | Rows]] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Concat": concat,
    "Tile": tile,
    "Expand": expand,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
}
