"""Operators that move data without computing: reshape, transpose, join, and repeat."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .layout import Tensor
from .operators_elementwise import Entry
from .state import NotUnderstood, Reading, axes_setting, error_at
from .view import OnnxNode


def reshape(r: Reading, node: OnnxNode) -> Tensor:
    tensor = r.tensor(node.input(0))
    wanted = r.known(node.input(1))
    if wanted is None:
        raise error_at(node, "takes its shape from data; only fixed shapes are read")
    sizes = tensor.onnx_shape
    keep_zero = bool(node.get("allowzero", 0))
    results = []
    for index, batch in enumerate(r.batches):
        numbers = [int(n) for n in wanted.at(index)]
        results.append(_resolved(numbers, sizes, batch, keep_zero))
    found = _per_sample(tensor, results, r.batches)
    if found is None and wanted.constant is not None:
        # Exported for one sample: the shape holds its count.
        numbers = [int(n) for n in wanted.constant]
        found = _per_sample(tensor, [_resolved(numbers, sizes, 1, keep_zero)], (1,))
    if found is None:
        raise error_at(
            node,
            f"reshapes {sizes} (None counts samples) to {results[0]}, which mixes samples. Export"
            " the model so that one axis counts samples throughout",
        )
    return r.reshaped(tensor, *found)


def _resolved(
    numbers: Sequence[int], sizes: Sequence[int | None], batch: int, keep_zero: bool
) -> list[int] | None:
    """A shape with its 0 (as before) and -1 (the rest) worked out; None where it does not fit."""
    concrete = [batch if size is None else size for size in sizes]
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


def flatten(r: Reading, node: OnnxNode) -> Tensor:
    tensor = r.tensor(node.input(0))
    axis = int(node.get("axis", 1))
    axis = axis + tensor.rank if axis < 0 else axis
    sizes = tensor.onnx_shape
    left = math.prod(size for size in sizes[:axis] if size is not None)
    right = math.prod(size for size in sizes[axis:] if size is not None)
    first = tensor.batch_axis < axis
    if (left if first else right) != 1:
        raise error_at(node, f"flattens {sizes} from axis {axis}, which mixes samples (None)")
    return r.reshaped(tensor, (right if first else left,), 0 if first else 1)


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


def transpose(r: Reading, node: OnnxNode) -> Tensor:
    tensor = r.unfolded(r.tensor(node.input(0)))
    return tensor.relabelled(node.get("perm", tuple(reversed(range(tensor.rank)))))


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


SHAPE_OPERATORS: dict[str, Entry] = {
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
