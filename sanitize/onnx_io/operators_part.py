"""Operators that take parts, add borders, or reduce axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layout import Tensor
from .operators_elementwise import affine
from .operators_linear import reordered_channels, selection
from .state import NotUnderstood, Reading, axes_setting, needs_float
from .view import OnnxNode

Array = NDArray[Any]
Limits = tuple[int, int | None, int]


def slice_(r: Reading, node: OnnxNode) -> Tensor:
    tensor = r.unfolded(r.tensor(node.input(0)))
    starts, ends = (_numbers(r.constant(node.input(index))) for index in (1, 2))
    axes, steps = r.optional(node, 3), r.optional(node, 4)
    places = list(range(len(starts))) if axes is None else _numbers(axes)
    strides = [1] * len(starts) if steps is None else _numbers(steps)
    sizes = tensor.onnx_shape
    limits: dict[int, Limits] = {}
    for axis, start, end, step in zip(places, starts, ends, strides, strict=True):
        axis %= tensor.rank
        size = sizes[axis]
        if size is None:
            if start not in (0,) or step != 1 or end < 2**31 - 1:
                raise NotUnderstood("it takes some samples out of the batch")
            continue
        if step < 0:
            raise NotUnderstood("it reverses an axis")
        begin, stop, _ = slice(start, end, step).indices(size)
        if stop <= begin:
            raise NotUnderstood("nothing is left of its input")
        limits[axis] = (begin, stop, step)
    return cut(r, tensor, limits)


def _numbers(array: Array) -> list[int]:
    return [int(n) for n in np.atleast_1d(array)]


def cut(
    r: Reading, tensor: Tensor, limits: Mapping[int, Limits], squeeze: int | None = None
) -> Tensor:
    """Slices (begin, end, step) by ONNX axis; ``squeeze`` is an ONNX axis of length 1 to drop."""
    sizes = tensor.onnx_shape
    slices = []
    for axis in tensor.order[1:]:
        size = sizes[axis]
        begin, stop, step = limits.get(axis, (0, None, 1))
        whole = begin == 0 and (stop is None or stop == size)
        slices.append((0, None, step) if whole else (begin, stop, step))
    if squeeze is None and all(part == (0, None, 1) for part in slices):
        return tensor
    source, slices = _merged(r, tensor.value, slices)
    if squeeze is None:
        value = r.emit("slice", [source], {"slices": tuple(slices)})
        return r.made(value, tensor.order, tensor.dtype)
    attrs = {"slices": tuple(slices), "squeeze": (tensor.place(squeeze),)}
    order = tuple(axis - (axis > squeeze) for axis in tensor.order if axis != squeeze)
    return r.made(r.emit("slice", [source], attrs), order, tensor.dtype)


def _merged(r: Reading, value: str, slices: Sequence[Any]) -> tuple[str, list[Any]]:
    """One slice for a slice of a slice where each axis is cut by one of them only."""
    before = r.nodes[value]
    if before.kind != "slice" or before.attrs.get("squeeze"):
        return value, list(slices)
    first = before.attrs["slices"]
    if any(a != (0, None, 1) and b != (0, None, 1) for a, b in zip(first, slices, strict=True)):
        return value, list(slices)
    joined = [b if a == (0, None, 1) else a for a, b in zip(first, slices, strict=True)]
    return before.inputs[0], joined


def split(r: Reading, node: OnnxNode) -> list[Tensor]:
    tensor = r.unfolded(r.tensor(node.input(0)))
    axis = int(node.get("axis", 0)) % tensor.rank
    size = tensor.onnx_shape[axis]
    if size is None:
        raise NotUnderstood("it splits the axis that counts samples")
    count = len(node.outputs)
    lengths = r.setting(node, "split", 1)
    if lengths is None:
        longest = -(-size // count)
        lengths = [min(longest, size - index * longest) for index in range(count)]
    ends = np.cumsum(lengths).tolist()
    starts = [0, *ends[:-1]]
    return [
        cut(r, tensor, {axis: (start, end, 1)}) for start, end in zip(starts, ends, strict=True)
    ]


def gather(r: Reading, node: OnnxNode) -> Tensor:
    tensor = r.unfolded(r.tensor(node.input(0)))
    axis = int(node.get("axis", 0)) % tensor.rank
    size = tensor.onnx_shape[axis]
    if size is None:
        raise NotUnderstood("it picks samples out of the batch")
    indices = r.constant(node.input(1)).astype(np.int64)
    indices = np.where(indices < 0, indices + size, indices)
    if indices.ndim == 0:
        return cut(r, tensor, {axis: (int(indices), int(indices) + 1, 1)}, squeeze=axis)
    if indices.ndim > 1:
        raise NotUnderstood("its indices have more than one axis")
    steps = set(np.diff(indices).tolist())
    step = steps.pop() if len(steps) == 1 else 1
    if not steps and step > 0:
        return cut(r, tensor, {axis: (int(indices[0]), int(indices[-1]) + 1, int(step))})
    if tensor.place(axis) != len(tensor.shape) - 1:
        raise NotUnderstood("it picks in any order along an axis that is not the channels")
    return selection(r, tensor, reordered_channels(size, indices), None)


def pad(r: Reading, node: OnnxNode) -> Tensor:
    if node.get("mode", "constant") != "constant":
        raise NotUnderstood(f"it pads by the mode '{node.get('mode')}'")
    tensor = r.unfolded(r.tensor(node.input(0)))
    needs_float(tensor)
    amounts = r.setting(node, "pads", 1)
    value = float(r.setting(node, "value", 2, 0.0))
    axes = axes_in_order(r, node, tensor.rank)
    half = len(amounts) // 2
    pads = {a: (int(amounts[i]), int(amounts[i + half])) for i, a in enumerate(axes)}
    pads = {axis: pair for axis, pair in pads.items() if pair != (0, 0)}
    if tensor.batch_axis in pads:
        raise NotUnderstood("it pads the axis that counts samples")
    negative = {axis: pair for axis, pair in pads.items() if min(pair) < 0}
    if negative:
        sizes = tensor.onnx_shape
        limits = {
            axis: (max(-before, 0), int(sizes[axis] or 0) - max(-after, 0), 1)
            for axis, (before, after) in negative.items()
        }
        tensor = cut(r, tensor, limits)
        pads = {axis: (max(before, 0), max(after, 0)) for axis, (before, after) in pads.items()}
    inner = [pads.get(axis, (0, 0)) for axis in tensor.order[1:]]
    if inner[-1] != (0, 0):
        tensor = _padded_channels(r, tensor, inner[-1], value)
    border = inner[:-1]
    if all(pair == (0, 0) for pair in border):
        return tensor
    attrs: dict[str, Any] = {"padding": tuple(border)}
    if value:
        attrs["value"] = value
    if tensor.rank == 4:
        return r.same(tensor, r.emit("pad", [tensor.value], attrs))
    if tensor.rank != 3:
        raise NotUnderstood("it pads something that is no picture")
    shape = tensor.shape
    wide = r.emit("reshape", [tensor.value], {"shape": (1, *shape)}, suffix="expand")
    wide = r.emit("pad", [wide], {**attrs, "padding": ((0, 0), border[0])}, suffix="pad")
    return r.same(tensor, r.emit("reshape", [wide], {"shape": r.shape_of(wide)[1:]}))


def axes_in_order(r: Reading, node: OnnxNode, rank: int) -> list[int]:
    """The axes that Pad names, in its order; all where it names none."""
    axes = r.optional(node, 3)
    return list(range(rank)) if axes is None else [axis % rank for axis in _numbers(axes)]


def _padded_channels(r: Reading, tensor: Tensor, amounts: tuple[int, int], value: float) -> Tensor:
    size = tensor.shape[-1]
    places = np.array([-1] * amounts[0] + list(range(size)) + [-1] * amounts[1])
    offset = np.where(places < 0, np.float32(value), np.float32(0)) if value else None
    return selection(r, tensor, reordered_channels(size, places), offset)


def reduced(kind: str, scaled: bool = False) -> Any:
    """ReduceMean, ReduceMax and ReduceSum over the spatial axes."""

    def read(r: Reading, node: OnnxNode) -> Tensor:
        tensor = r.unfolded(r.tensor(node.input(0)))
        needs_float(tensor)
        axes = axes_setting(r, node, tensor.rank)
        if not axes:
            if node.get("noop_with_empty_axes", 0):
                return tensor
            axes = tuple(range(tensor.rank))
        kept = [axis for axis in tensor.order[1:] if axis not in axes]
        if tensor.batch_axis in axes or len(kept) != 1 or len(axes) > 2:
            raise NotUnderstood(f"it reduces the axes {axes}, which are not height and width")
        spatial = [axis for axis in tensor.order[1:] if axis in axes]
        tensor = r.arranged(tensor, (tensor.batch_axis, *spatial, *kept))
        keep = bool(node.get("keepdims", 1))
        value, count = tensor.value, int(np.prod(tensor.shape[:-1]))
        suffix = "mean" if scaled else ""
        if len(axes) == 1:
            shape = (1, *tensor.shape)
            value = r.emit("reshape", [value], {"shape": shape}, suffix="expand")
        picture = keep and len(axes) == 2
        value = r.emit(kind, [value], {"keepdims": picture}, suffix=suffix)
        if keep and not picture:
            value = r.emit("reshape", [value], {"shape": (1, tensor.shape[-1])}, suffix="keep")
        order = tensor.order
        if not keep:
            left = (tensor.batch_axis, *kept)
            order = tuple(axis - sum(other < axis for other in axes) for axis in left)
        result = r.made(value, order, tensor.dtype)
        return affine(r, result, float(count), 0.0) if scaled else result

    return read


PART_OPERATORS = {
    "Slice": slice_,
    "Split": split,
    "Gather": gather,
    "Pad": pad,
    "ReduceMean": reduced("global_avg_pool"),
    "ReduceMax": reduced("global_max_pool"),
    "ReduceSum": reduced("global_avg_pool", scaled=True),
}
