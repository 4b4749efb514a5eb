"""Functions of a Keras 2 graph that only move values: reshape, transpose, pad, index."""

from typing import Any

from quantkeras.keras2.calls import CannotReplace, OpCall, Replacement, Tensor, tensor


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
    """Zero padding of the axes between batch and channels -> ZeroPadding1D or 2D."""
    pads, fill = call.rest.get("paddings"), call.rest.get("constant_values", 0)
    constant = str(call.rest.get("mode", "CONSTANT")).upper() == "CONSTANT" and not fill
    if not (constant and isinstance(pads, list) and pads[0] == pads[-1] == [0, 0]):
        raise CannotReplace("only zero padding of height and width has a Keras layer")
    if len(pads) not in (3, 4):
        raise CannotReplace(f"a tensor of {len(pads)} axes cannot be padded by a Keras layer")
    config = {"padding": pads[1] if len(pads) == 3 else pads[1:-1]}
    return Replacement(f"ZeroPadding{len(pads) - 2}D", config, (tensor(call.first),))


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
    axis = call.rest.get("axis", call.rest.get("squeeze_dims"))
    axes = axis if isinstance(axis, list) else [axis]
    if not axes or not all(isinstance(n, int) and n != 0 for n in axes):
        raise CannotReplace(f"its axis is {axis}: it must name axes other than the batch axis")
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
