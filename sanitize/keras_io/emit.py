"""What several entries of the reader emit: specs, affine maps, reshapes, slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..shapes import Shape
from .call import Array, Call, compact

#: More pieces than this become one product with a matrix of zeros and ones.
MANY_PIECES = 8

Limits = tuple[Any, Any, Any]
#: (start, stop, step) of an axis that is kept whole.
WHOLE: Limits = (0, None, 1)


def emit_spec(call: Call, spec: Mapping[str, Any] | None) -> bool:
    """Emit a node for an activation spec; False when there is none."""
    if spec is None:
        return False
    call.emit(spec["kind"], attrs={key: value for key, value in spec.items() if key != "kind"})
    return True


def affine_weights(call: Call, scale: Any, offset: Any) -> dict[str, Any] | None:
    """Constants as Keras has them as weights of an affine node; None when they change the shape."""
    rank = len(call.shapes[0])
    found = {}
    for key, value in (("scale", scale), ("offset", offset)):
        array = compact(np.asarray(value, np.float32), rank)
        if array is None or call.outputs[0] != call.shapes[0]:
            return None
        for size, axis in zip(reversed(array.shape), reversed(call.shapes[0]), strict=False):
            if size not in (1, axis):
                return None
        found[key] = array
    return found


def emit_affine(call: Call, scale: Any, offset: Any, inputs: list[str] | None = None) -> bool:
    """Emit x * scale + offset for constants as Keras has them; False when they change the shape."""
    weights = affine_weights(call, scale, offset)
    if weights is None:
        return False
    call.emit("affine", inputs, weights=weights)
    return True


def emit_reshape(call: Call, inputs: list[str] | None = None) -> bool:
    """Emit a reshape to the shape that Keras worked out for the output."""
    if call.outputs[0].count(None) > 1:
        return call.refuse(f"it makes the shape {call.outputs[0]}, of which too little is known")
    call.emit("reshape", inputs, {"shape": tuple(call.outputs[0])})
    return True


def batched_axes(axis: Any, rank: int) -> tuple[int, ...] | None:
    """Axes of a batched tensor as non-negative numbers in order, the batch axis being 0."""
    if axis is None:
        return None
    listed = axis if isinstance(axis, (list, tuple)) else [axis]
    return tuple(sorted(int(a) + rank if a < 0 else int(a) for a in listed))


def inner_axis(call: Call, axis: Any, rank: int | None = None) -> int | None:
    """One axis of the operation as an axis of the unbatched tensor; None for the batch axis."""
    found = batched_axes(axis, (len(call.shapes[0]) if rank is None else rank) + 1)
    if found is None or len(found) != 1 or found[0] == 0:
        call.refuse(f"it works along axis {axis}, the batch or no single axis")
        return None
    return found[0] - 1


def emit_slice(
    call: Call, value: str, rank: int, axis: int, limits: Limits, drop: bool = False, **options: Any
) -> str:
    """Cut ``value`` along one axis; ``drop`` removes the axis, which has length 1 then."""
    slices: list[Limits] = [WHOLE] * rank
    slices[axis] = limits
    extra = {"squeeze": (axis,)} if drop else {}
    return call.emit("slice", [value], {"slices": tuple(slices), **extra}, **options)


def emit_taken(
    call: Call, value: str, shape: Shape, axis: int, indices: Array, prefix: str = ""
) -> bool:
    """Emit ``value`` with the positions ``indices`` of an axis, in that order, as the output.

    ``prefix`` goes before the suffixes of the nodes where there are more to come.
    """
    length = shape[axis]
    if length is None and (indices < 0).any():
        return call.refuse("it takes positions counted from the end of an axis of unknown length")
    positions = [int(i) + (length or 0) if i < 0 else int(i) for i in indices]
    if not positions or (length is not None and not 0 <= min(positions) <= max(positions) < length):
        return call.refuse(f"it takes positions {indices.tolist()} of an axis of length {length}")
    runs = _runs(positions)
    if len(runs) == 1:
        emit_slice(call, value, len(shape), axis, runs[0], suffix=prefix)
        return True
    if len(runs) > MANY_PIECES and axis == len(shape) - 1 and length is not None:
        emit_selection(call, value, len(shape), np.eye(length)[:, positions], prefix)
        return True
    if len(runs) > 8 * MANY_PIECES:
        return call.refuse(f"it takes an axis apart into {len(runs)} pieces")
    parts = [
        emit_slice(call, value, len(shape), axis, run, suffix=f"{prefix}part{index}")
        for index, run in enumerate(runs)
    ]
    call.emit("concat", parts, {"axis": axis}, suffix=prefix)
    return True


def emit_selection(call: Call, value: str, rank: int, matrix: Array, suffix: str = "") -> None:
    """Emit channels chosen by a matrix of zeros and ones, (in, out), as the output."""
    if rank == 3:
        window = {"strides": (1, 1), "padding": "valid", "dilation": (1, 1), "groups": 1}
        call.emit("conv2d", [value], window, {"kernel": matrix[None, None]}, suffix)
    else:
        call.emit("dense", [value], weights={"kernel": matrix}, suffix=suffix)


def _runs(positions: Sequence[int]) -> list[Limits]:
    """Positions as (start, stop, step) pieces of evenly spaced numbers, greedily from the left."""
    runs: list[Limits] = []
    start = 0
    while start < len(positions):
        end, step = start + 1, 1
        if end < len(positions) and positions[end] != positions[start]:
            step = positions[end] - positions[start]
            while end < len(positions) and positions[end] - positions[end - 1] == step:
                end += 1
        if end == start + 2 and abs(step) != 1:
            # Two that are apart may each begin a longer run.
            end, step = start + 1, 1
        stop = positions[end - 1] + (1 if step > 0 else -1)
        runs.append((positions[start], stop if stop >= 0 else None, step))
        start = end
    return runs
