"""Bare Keras operations that take parts of a tensor: index, split, take, reverse, repeat.

All become slices, and joins of slices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .call import Call, Entry, Slot, argument, to_numpy
from .emit import WHOLE, Limits, batched_axes, emit_reshape, emit_slice, emit_taken, inner_axis


def _split(call: Call) -> bool:
    """Pieces of equal size, or between given positions; each output is a slice."""
    axis = inner_axis(call, call.operation.axis)
    if axis is None:
        return False
    sizes = [shape[axis] for shape in call.outputs]
    start, results = 0, []
    for index, size in enumerate(sizes):
        if size is None:
            return call.refuse("it splits an axis of unknown length")
        limits = (start, start + size, 1)
        results.append((limits, f"{index}"))
        start += size
    call.results = [
        emit_slice(call, call.values[0], len(call.shapes[0]), axis, limits, suffix=suffix)
        for limits, suffix in results
    ]
    return True


def _unstack(call: Call) -> bool:
    axis = inner_axis(call, call.operation.axis)
    if axis is None:
        return False
    rank = len(call.shapes[0])
    call.results = [
        emit_slice(call, call.values[0], rank, axis, (i, i + 1, 1), drop=True, suffix=f"{i}")
        for i in range(len(call.outputs))
    ]
    return True


def _take(call: Call) -> bool:
    given = argument(call, 1, "indices")
    axis = inner_axis(call, call.operation.axis)
    if axis is None:
        return False
    if isinstance(given, Slot):
        return call.refuse("its positions are computed")
    indices = np.asarray(to_numpy(given))
    if indices.ndim == 0:
        at = int(indices)
        limits = (at, at + 1 if at != -1 else None, 1)
        emit_slice(call, call.values[0], len(call.shapes[0]), axis, limits, drop=True)
        return True
    if indices.ndim != 1:
        return call.refuse(f"its positions have the shape {indices.shape}")
    return emit_taken(call, call.values[0], call.shapes[0], axis, indices)


def _flip(call: Call) -> bool:
    axes = batched_axes(call.operation.axis, len(call.shapes[0]) + 1)
    if axes is None or 0 in axes:
        return call.refuse("it reverses the batch axis")
    limits = [
        (None, None, -1) if axis + 1 in axes else WHOLE for axis in range(len(call.shapes[0]))
    ]
    call.emit("slice", attrs={"slices": tuple(limits)})
    return True


def _roll(call: Call) -> bool:
    shift, axis = call.operation.shift, inner_axis(call, call.operation.axis)
    length = None if axis is None else call.shapes[0][axis]
    if axis is None or not isinstance(shift, int) or length is None:
        return False
    indices = np.roll(np.arange(length), shift)
    return emit_taken(call, call.values[0], call.shapes[0], axis, indices)


def _repeat(call: Call) -> bool:
    """Each row or column several times is nearest upsampling."""
    times, axis = call.operation.repeats, inner_axis(call, call.operation.axis)
    if axis is None or np.ndim(times) != 0:
        return False
    shape = call.shapes[0]
    if len(shape) == 3 and axis < 2:
        size = (int(times), 1) if axis == 0 else (1, int(times))
        call.emit("upsample", attrs={"size": size})
        return True
    length = shape[axis]
    if length is None:
        return False
    indices = np.repeat(np.arange(length), int(times))
    return emit_taken(call, call.values[0], shape, axis, indices)


def _tile(call: Call) -> bool:
    """The whole tensor several times along its axes, one join per axis."""
    times = [int(n) for n in np.ravel(call.operation.repeats)]
    rank = len(call.shapes[0])
    if len(times) > rank + 1:
        return call.refuse("it adds axes")
    times = [1] * (rank + 1 - len(times)) + times
    joined = [axis for axis in range(rank) if times[axis + 1] != 1]
    if times[0] != 1 or min(times) < 1:
        return call.refuse("it repeats the batch")
    value = call.values[0]
    for axis in joined:
        suffix = "" if axis == joined[-1] else f"axis{axis}"
        value = call.emit("concat", [value] * times[axis + 1], {"axis": axis}, suffix=suffix)
    if not joined:
        call.emit("identity")
    return True


def _get_item(call: Call) -> bool:
    key = call.args[1] if len(call.args) > 1 else call.kwargs.get("key")
    return emit_indexed(call, list(key) if isinstance(key, (list, tuple)) else [key])


def emit_indexed(call: Call, parts: list[Any]) -> bool:
    """Basic indexing of the only tensor, over all axes; new axes and dropped ones included.

    ``parts``: slices, integers, None for a new axis, and ... for as many whole axes as are left.
    """
    rank = len(call.shapes[0]) + 1
    given = [part for part in parts if part is not None and part is not Ellipsis]
    dots = [index for index, part in enumerate(parts) if part is Ellipsis]
    if not dots:
        dots, parts = [len(parts)], [*parts, Ellipsis]
    parts[dots[0] : dots[0] + 1] = [slice(None)] * (rank - len(given))
    added = any(part is None for part in parts)
    if parts[0] != slice(None) or any(isinstance(part, Slot) for part in parts):
        return call.refuse("it indexes the batch axis, or by a tensor")
    limits: list[Limits] = []
    drop: list[int] = []
    for axis, part in enumerate(part for part in parts[1:] if part is not None):
        if isinstance(part, slice):
            limits.append(_limits(part))
        elif isinstance(part, (int, np.integer)):
            limits.append((int(part), int(part) + 1 if part != -1 else None, 1))
            drop.append(axis)
        else:
            return call.refuse(f"it indexes by {part!r}")
    if any(not isinstance(edge, (int, type(None))) for triple in limits for edge in triple):
        return call.refuse("it cuts between positions that are computed")
    whole = all(triple == WHOLE for triple in limits)
    if whole and added:
        return emit_reshape(call)
    squeeze = {"squeeze": tuple(drop)} if drop and not added else {}
    suffix = "cut" if added else ""
    cut = call.emit("slice", attrs={"slices": tuple(limits), **squeeze}, suffix=suffix)
    return emit_reshape(call, [cut]) if added else True


def _limits(part: slice) -> Limits:
    """(start, stop, step), with 0 and 1 for a start and step that are left out."""
    step = 1 if part.step is None else part.step
    forward = not isinstance(step, int) or step > 0
    return (0 if part.start is None and forward else part.start), part.stop, step


INDEXING: Mapping[str, Entry] = {
    "Split": _split,
    "ArraySplit": _split,
    "Unstack": _unstack,
    "Take": _take,
    "Flip": _flip,
    "Roll": _roll,
    "Repeat": _repeat,
    "Tile": _tile,
    "GetItem": _get_item,
}
