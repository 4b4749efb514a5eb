"""Resize by nearest neighbours: tried out on the numbers of the pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fold import run_operator
from .layout import Tensor
from .operators_part import cut
from .state import NotUnderstood, Reading, needs_float
from .view import OnnxNode

Array = NDArray[Any]


def resize(r: Reading, node: OnnxNode) -> Tensor:
    if node.get("mode", "nearest") != "nearest":
        raise NotUnderstood(f"it interpolates by the mode '{node.get('mode')}'")
    tensor = r.unfolded(r.tensor(node.input(0)))
    needs_float(tensor)
    if tensor.batch_axis != 0:
        raise NotUnderstood("its first axis does not count samples")
    sizes = [int(size or 0) for size in tensor.onnx_shape]
    found = {axis: _picked(r, node, tensor, axis) for axis in range(1, tensor.rank)}
    changed = {
        axis: places
        for axis, places in found.items()
        if not np.array_equal(places, np.arange(sizes[axis]))
    }
    if not changed:
        return tensor
    factors = {axis: _upsampling(places, sizes[axis]) for axis, places in changed.items()}
    if None not in factors.values():
        return _upsampled(r, tensor, {axis: int(n or 1) for axis, n in factors.items()})
    limits = {axis: _subsampling(places) for axis, places in changed.items()}
    return cut(r, tensor, limits)


def _picked(r: Reading, node: OnnxNode, tensor: Tensor, axis: int) -> Array:
    """For every position of the result along an ONNX axis, the position that it is taken from."""
    size = int(tensor.onnx_shape[axis] or 0)
    if r.graph.opset == 10:
        # This opset leaves no choice: pixel i of the result is pixel floor(i / scale).
        scale = float(r.constant(node.input(1))[axis])
        return np.floor(np.arange(int(size * scale)) / scale).astype(np.int64)
    given: dict[str, Array] = {}
    for name in node.inputs[1:]:
        known = r.known(name) if name else None
        if name and known is None:
            raise NotUnderstood("its scale is not a constant")
        if known is not None:
            given[name] = known.at(0)
    shape = [r.batches[0] if n is None else n for n in tensor.onnx_shape]
    line = np.arange(size, dtype=np.float32)
    line = line.reshape([size if other == axis else 1 for other in range(tensor.rank)])
    probe = np.broadcast_to(line, shape).astype(np.float32)
    result = run_operator(node, {node.input(0): probe, **given}, r.graph)[0]
    if result.shape[0] != shape[0]:
        raise NotUnderstood("it changes the number of samples")
    index = tuple(slice(None) if other == axis else 0 for other in range(tensor.rank))
    return np.rint(result[index]).astype(np.int64)


def _upsampled(r: Reading, tensor: Tensor, factors: Mapping[int, int]) -> Tensor:
    """Every pixel ``factors[axis]`` times along the ONNX axes that it names."""
    kept = [axis for axis in tensor.order[1:] if axis not in factors]
    if not kept or tensor.rank not in (3, 4):
        raise NotUnderstood("it stretches more than height and width")
    others = [axis for axis in tensor.order[1:] if axis != kept[-1]]
    tensor = r.arranged(tensor, (0, *others, kept[-1]))
    value = tensor.value
    times = tuple(factors.get(axis, 1) for axis in others)
    if tensor.rank == 3:
        shape = (1, *tensor.shape)
        value = r.emit("reshape", [value], {"shape": shape}, suffix="expand")
        value = r.emit("upsample", [value], {"size": (1, *times)}, suffix="upsample")
        value = r.emit("reshape", [value], {"shape": r.shape_of(value)[1:]})
    else:
        value = r.emit("upsample", [value], {"size": times})
    return r.made(value, tensor.order, tensor.dtype)


def _upsampling(found: Array, size: int) -> int | None:
    factor = len(found) // size
    same = factor >= 1 and np.array_equal(found, np.arange(size).repeat(factor))
    return factor if same else None


def _subsampling(found: Array) -> tuple[int, int, int]:
    steps = set(np.diff(found).tolist()) or {1}
    if len(steps) != 1 or min(steps) < 1:
        raise NotUnderstood("its scale is not a whole number")
    return int(found[0]), int(found[-1]) + 1, int(steps.pop())


RESIZE_OPERATORS = {"Resize": resize}
