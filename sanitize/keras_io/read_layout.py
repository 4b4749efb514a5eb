"""Keras layers that move numbers: flatten, reshape, permute, pad, crop, repeat, resize.

What works along one axis, (t, c), becomes the same along (1, t, c) between two reshapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from .call import Call, Entry
from .emit import WHOLE, emit_reshape
from .read_indexing import emit_indexed
from .read_movements import emit_resized
from .read_windows import pair

layers = keras.layers


def _flatten(call: Call) -> bool:
    if call.operation.data_format != "channels_last" or not call.shapes[0]:
        return False
    call.emit("flatten")
    return True


def _permute(call: Call) -> bool:
    call.emit("permute", attrs={"dims": tuple(axis - 1 for axis in call.operation.dims)})
    return True


def _zero_padding2d(call: Call) -> bool:
    layer = call.operation
    if layer.data_format != "channels_last":
        return False
    (top, bottom), (left, right) = layer.padding
    call.emit("pad", attrs={"padding": ((int(top), int(bottom)), (int(left), int(right)))})
    return True


def _cropping2d(call: Call) -> bool:
    layer = call.operation
    if layer.data_format != "channels_last":
        return False
    limits = [(int(a), -int(b) if b else None, 1) for a, b in layer.cropping]
    call.emit("slice", attrs={"slices": (*limits, WHOLE)})
    return True


def _upsampling2d(call: Call) -> bool:
    layer = call.operation
    if layer.data_format != "channels_last" or layer.interpolation != "nearest":
        return call.refuse(f"it is {layer.data_format} with {layer.interpolation} interpolation")
    call.emit("upsample", attrs={"size": pair(layer.size)})
    return True


def _along_one_axis(kind: str, attrs: dict[str, Any], call: Call) -> bool:
    tall = call.emit("reshape", attrs={"shape": (1, *call.shapes[0])}, suffix="expand")
    done = call.emit(kind, [tall], attrs, suffix=kind)
    return emit_reshape(call, [done])


def _zero_padding1d(call: Call) -> bool:
    before, after = call.operation.padding
    attrs = {"padding": ((0, 0), (int(before), int(after)))}
    return _along_one_axis("pad", attrs, call)


def _upsampling1d(call: Call) -> bool:
    return _along_one_axis("upsample", {"size": (1, int(call.operation.size))}, call)


def _cropping1d(call: Call) -> bool:
    before, after = (int(n) for n in call.operation.cropping)
    call.emit("slice", attrs={"slices": ((before, -after if after else None, 1), WHOLE)})
    return True


def _center_crop(call: Call) -> bool:
    layer, shape, out = call.operation, call.shapes[0], call.outputs[0]
    if layer.data_format != "channels_last" or None in (*shape, *out):
        return call.refuse("its pictures have no fixed size, or are channels first")
    room = [int(big or 0) - int(small or 0) for big, small in zip(shape[:2], out[:2], strict=True)]
    if min(room) < 0:
        return call.refuse("its pictures are smaller than what it cuts out, so it interpolates")
    limits = tuple((r // 2, r // 2 + int(n or 0), 1) for r, n in zip(room, out[:2], strict=True))
    call.emit("slice", attrs={"slices": (*limits, WHOLE)})
    return True


def _random_crop(call: Call) -> bool:
    """At inference it cuts out the middle of a picture as large as it wants, else it resizes."""
    if call.shapes[0] != call.outputs[0] or None in call.shapes[0][:2]:
        return call.refuse("it resizes at inference; only pictures of its own size are known")
    call.emit("identity")
    return True


def _repeat_vector(call: Call) -> bool:
    row = call.emit("reshape", attrs={"shape": (1, *call.shapes[0])}, suffix="row")
    if call.operation.n > 1:
        call.emit("concat", [row] * int(call.operation.n), {"axis": 0})
    return True


def index_layer(call: Call) -> bool:
    """``quantkeras>Slice``: entries [start, stop, step], integers, "newaxis" and "..."."""
    named = {"newaxis": None, "...": Ellipsis}
    parts: list[Any] = []
    for entry in call.operation.index:
        if isinstance(entry, str):
            parts.append(named[entry])
        else:
            parts.append(entry if isinstance(entry, int) else slice(*entry))
    return emit_indexed(call, parts)


LAYOUT: Mapping[type, Entry] = {
    layers.Flatten: _flatten,
    layers.Reshape: emit_reshape,
    layers.Permute: _permute,
    layers.ZeroPadding1D: _zero_padding1d,
    layers.ZeroPadding2D: _zero_padding2d,
    layers.Cropping1D: _cropping1d,
    layers.Cropping2D: _cropping2d,
    layers.UpSampling1D: _upsampling1d,
    layers.UpSampling2D: _upsampling2d,
    layers.RepeatVector: _repeat_vector,
    layers.CenterCrop: _center_crop,
    layers.RandomCrop: _random_crop,
    layers.Resizing: emit_resized,
}
