"""Functions of a Keras 2 graph that only move values: reshape, transpose, pad, index."""

from typing import Any

import keras

from quantkeras.files.keras2.calls import CannotReplace, OpCall, Replacement, Tensor, tensor
from quantkeras.files.keras2.operations import inner_axes, operation


def reshape(call: OpCall) -> Replacement:
    """reshape(x, [-1 or the batch size, a, b]) -> Reshape((a, b))."""
    shape = call.rest.get("shape")
    if not isinstance(shape, list) or not (isinstance(shape[0], Tensor) or shape[0] == -1):
        raise CannotReplace(f"the first entry of its shape {shape} is not the batch size")
    if not all(isinstance(n, int) for n in shape[1:]):
        raise CannotReplace("its shape is computed in the graph")
    return Replacement("Reshape", {"target_shape": shape[1:]}, (tensor(call.first),))


def transpose(call: OpCall) -> Replacement:
    perm = call.rest.get("perm")
    if not isinstance(perm, list) or perm[0] != 0:
        raise CannotReplace(f"its order of axes {perm} moves the batch axis")
    return Replacement("Permute", {"dims": perm[1:]}, (tensor(call.first),))


def pad(call: OpCall) -> Replacement:
    """Zeros around height and width -> ZeroPadding1D or 2D; other padding -> the operation."""
    pads, fill = call.rest.get("paddings"), call.rest.get("constant_values", 0)
    mode = str(call.rest.get("mode", "CONSTANT")).lower()
    if not isinstance(pads, list) or pads[0] != [0, 0] or not isinstance(fill, int | float):
        raise CannotReplace("it pads the batch axis, or by what is computed in the graph")
    if mode == "constant" and not fill and pads[-1] == [0, 0] and len(pads) in (3, 4):
        config = {"padding": pads[1] if len(pads) == 3 else pads[1:-1]}
        return Replacement(f"ZeroPadding{len(pads) - 2}D", config, (tensor(call.first),))
    extra = {"constant_values": fill} if mode == "constant" else {}
    widths = tuple(tuple(sides) for sides in pads)
    return operation(lambda x: keras.ops.pad(x, widths, mode=mode, **extra), tensor(call.first))


def part(call: OpCall) -> Replacement:
    """slice(x, begin, size), -1 being all that is left -> Slice."""
    begin, size = call.rest.get("begin"), call.rest.get("size")
    if not (isinstance(begin, list) and isinstance(size, list)):
        raise CannotReplace("what it cuts out is computed in the graph")
    if not all(isinstance(n, int) for n in (*begin, *size)) or (begin[0], size[0]) != (0, -1):
        raise CannotReplace(f"it cuts the batch axis, from {begin} as far as {size}")
    ends = [None if n == -1 else b + n for b, n in zip(begin, size, strict=True)]
    index = [[b or None, end, None] for b, end in zip(begin, ends, strict=True)]
    return _slice(call, index)


def strided_part(call: OpCall) -> Replacement:
    """strided_slice(x, begin, end, strides) with the masks for open ends and dropped axes."""
    begin, end = call.rest.get("begin"), call.rest.get("end")
    if not (isinstance(begin, list) and isinstance(end, list)):
        raise CannotReplace("what it cuts out is computed in the graph")
    strides = call.rest.get("strides") or [1] * len(begin)
    if not all(isinstance(n, int) for n in (*begin, *end, *strides)):
        raise CannotReplace("what it cuts out is computed in the graph")
    if call.rest.get("ellipsis_mask") or call.rest.get("new_axis_mask"):
        raise CannotReplace("it adds axes, or leaves axes out")
    open_begin, open_end, drop = (
        int(call.rest.get(name) or 0) for name in ("begin_mask", "end_mask", "shrink_axis_mask")
    )
    index: list[Any] = []
    for axis, (first, last, step) in enumerate(zip(begin, end, strides, strict=True)):
        bit = 1 << axis
        if drop & bit:
            index.append(first)
        else:
            start = None if open_begin & bit or (first == 0 and step > 0) else first
            index.append([start, None if open_end & bit else last, None if step == 1 else step])
    return _slice(call, index)


def getitem(call: OpCall) -> Replacement:
    """x[spec] -> Slice(index)."""
    spec = call.rest.get("slice_spec")
    index = [_entry(entry) for entry in (spec if isinstance(spec, list) else [spec])]
    return _slice(call, index)


def _entry(entry: Any) -> Any:
    """One entry of a Keras 2 slice_spec as an entry of `Slice.index`."""
    if entry is None:
        return "newaxis"
    if isinstance(entry, dict) and entry.get("class_name") == "__ellipsis__":
        return "..."
    parts = [entry["start"], entry["stop"], entry["step"]] if isinstance(entry, dict) else [entry]
    if not all(part is None or isinstance(part, int) for part in parts):
        raise CannotReplace("its bounds are computed in the graph")
    return parts if isinstance(entry, dict) else entry


def expand_or_squeeze(call: OpCall) -> Replacement:
    """expand_dims, and squeeze with named axes -> Slice with "newaxis" or 0 at that place."""
    axes = inner_axes(call.rest.get("axis", call.rest.get("squeeze_dims")))
    if len({n > 0 for n in axes}) > 1:
        raise CannotReplace(f"its axes {axes} count from both ends")
    mark = "newaxis" if call.function == "expand_dims" else 0
    whole = [None, None, None]
    if axes[0] > 0:
        index = [mark if n in axes else whole for n in range(max(axes) + 1)]
    else:
        index = ["...", *(mark if n in axes else whole for n in range(min(axes), 0))]
    return _slice(call, index)


def _slice(call: OpCall, index: list[Any]) -> Replacement:
    if index[0] not in ("...", [None, None, None]):
        raise CannotReplace("it cuts the batch axis")
    return Replacement("quantkeras>Slice", {"index": index}, (tensor(call.first),))
