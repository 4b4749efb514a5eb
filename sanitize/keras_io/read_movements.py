"""Bare Keras operations that move numbers: reshape, transpose, join, pad, resize."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from ..shapes import element_count
from .call import Call, Entry
from .emit import batched_axes, emit_reshape, emit_selection, inner_axis


def _reshape(call: Call) -> bool:
    """A reshape that leaves the batch axis alone, as the number of elements per sample tells."""
    counts = [element_count(shape) for shape in (call.shapes[0], call.outputs[0])]
    if counts[0] is None or counts[0] != counts[1]:
        return call.refuse("it reshapes the batch dimension too, or an unknown size")
    return emit_reshape(call)


def _squeeze(call: Call) -> bool:
    axes = batched_axes(call.operation.axis, len(call.shapes[0]) + 1)
    return axes is not None and 0 not in axes and emit_reshape(call)


def _expand_dims(call: Call) -> bool:
    axes = batched_axes(call.operation.axis, len(call.outputs[0]) + 1)
    return axes is not None and 0 not in axes and emit_reshape(call)


def _emit_permute(call: Call, order: Sequence[int]) -> bool:
    """``order``: of all axes, the batch axis included."""
    if order[0] != 0:
        return call.refuse("it moves the batch axis")
    call.emit("permute", attrs={"dims": tuple(int(axis) - 1 for axis in order[1:])})
    return True


def _transpose(call: Call) -> bool:
    rank = len(call.shapes[0]) + 1
    axes = call.operation.axes
    order = range(rank)[::-1] if axes is None else [a + rank if a < 0 else a for a in axes]
    return _emit_permute(call, list(order))


def _swapaxes(call: Call) -> bool:
    rank = len(call.shapes[0]) + 1
    order = list(range(rank))
    a, b = call.operation.axis1, call.operation.axis2
    order[a], order[b] = order[b], order[a]
    return _emit_permute(call, order)


def _moveaxis(call: Call) -> bool:
    rank = len(call.shapes[0]) + 1
    sizes = np.moveaxis(
        np.empty(tuple(range(1, rank + 1))), call.operation.source, call.operation.destination
    ).shape
    return _emit_permute(call, [size - 1 for size in sizes])


def _concatenate(call: Call) -> bool:
    if not isinstance(call.args[0], (list, tuple)) or len(call.values) != len(call.args[0]):
        return call.refuse("it joins constants")
    axis = inner_axis(call, call.operation.axis)
    if axis is None or len(call.values) < 2:
        return False
    call.emit("concat", attrs={"axis": axis})
    return True


def _stack(call: Call) -> bool:
    given = call.args[0] if call.args else ()
    if not isinstance(given, (list, tuple)) or len(call.values) != len(given):
        return call.refuse("it joins constants")
    shape = call.shapes[0]
    axis = inner_axis(call, call.operation.axis, len(shape) + 1)
    if axis is None or shape.count(None) > 1:
        return False
    thick = (*shape[:axis], 1, *shape[axis:])
    parts = [
        call.emit("reshape", [value], {"shape": thick}, suffix=f"part{index}")
        for index, value in enumerate(call.values)
    ]
    if len(parts) > 1:
        call.emit("concat", parts, {"axis": axis})
    return True


def emit_resized(call: Call) -> bool:
    """Emit what a Resize operation or Resizing layer does, where that is no interpolation."""
    operation, shape, out = call.operation, call.shapes[0], call.outputs[0]
    sizes = [size for size in (*shape[:2], *out[:2]) if size is not None]
    if operation.data_format != "channels_last" or len(shape) != 3 or len(sizes) != 4:
        return call.refuse("its pictures have no fixed size, or are channels first")
    if shape == out:
        call.emit("identity")
        return True
    height, width, tall, wide = sizes
    whole = tall % height == 0 and wide % width == 0
    distorts = operation.crop_to_aspect_ratio or operation.pad_to_aspect_ratio
    if operation.interpolation != "nearest" or not whole or distorts:
        return call.refuse("it interpolates; only nearest upsampling by whole numbers is known")
    call.emit("upsample", attrs={"size": (tall // height, wide // width)})
    return True


def _pad(call: Call) -> bool:
    operation = call.operation
    constant = [*call.args[1:], *call.kwargs.values()]
    value = constant[0] if constant and constant[0] is not None else 0.0
    if operation.mode != "constant" or not isinstance(value, (int, float)):
        return call.refuse(f"it pads with mode '{operation.mode}'")
    widths = [(int(before), int(after)) for before, after in operation.pad_width]
    if len(widths) != 4 or widths[0] != (0, 0):
        return call.refuse("it pads the batch axis, or no map of pixels")
    extra = {"value": float(value)} if value else {}
    spatial, channels = (widths[1], widths[2]), widths[3]
    attrs = {"padding": spatial, **extra}
    if channels == (0, 0):
        call.emit("pad", attrs=attrs)
        return True
    count = call.shapes[0][2]
    if value or count is None:
        return call.refuse("it adds channels that are not zero, or to an unknown number")
    inputs = None
    if spatial != ((0, 0), (0, 0)):
        inputs = [call.emit("pad", attrs=attrs, suffix="pixels")]
    emit_selection(call, (inputs or call.values)[0], 3, np.pad(np.eye(count), ((0, 0), channels)))
    return True


def _blocks(deep: bool) -> Entry:
    """Blocks of pixels into channels and back."""

    def entry(call: Call) -> bool:
        block, shape, out = int(call.operation.block_size), call.shapes[0], call.outputs[0]
        layout = call.operation.data_format or keras.config.image_data_format()
        if layout != "channels_last" or len(shape) != 3 or None in (*shape, *out):
            return call.refuse("its pictures have no fixed size, or are channels first")
        small = (out if deep else shape)[:2]
        channels = (shape if deep else out)[2]
        rows = (small[0], block, small[1], block, channels)
        pixels = (*small, block, block, channels)
        order = (0, 2, 1, 3, 4)
        apart = call.emit("reshape", attrs={"shape": rows if deep else pixels}, suffix="apart")
        turned = call.emit("permute", [apart], {"dims": order}, suffix="turned")
        return emit_reshape(call, [turned])

    return entry


def _cast(call: Call) -> bool:
    target = keras.backend.standardize_dtype(call.operation.dtype)
    if not target.startswith("float") or call.dtypes[0] == "bool":
        return call.refuse(f"it makes {target} of {call.dtypes[0]}")
    call.emit("identity")
    return True


MOVEMENTS: Mapping[str, Entry] = {
    "Reshape": _reshape,
    "Ravel": _reshape,
    "Squeeze": _squeeze,
    "ExpandDims": _expand_dims,
    "Transpose": _transpose,
    "Swapaxes": _swapaxes,
    "Moveaxis": _moveaxis,
    "Concatenate": _concatenate,
    "Stack": _stack,
    "Resize": emit_resized,
    "Pad": _pad,
    "DepthToSpace": _blocks(deep=False),
    "SpaceToDepth": _blocks(deep=True),
    "Cast": _cast,
}
