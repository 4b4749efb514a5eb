"""Which entry reads a call of a layer or operation, and in what order of axes it sees the data."""

from __future__ import annotations

from typing import Any

import keras

from .call import Call, Entry, Slot
from .read_layers import layer_entry
from .read_operations import OPERATIONS
from .read_steps import read_steps


def read_understood(call: Call) -> bool:
    """Let the entry for the operation read the call; False when nothing understands it."""
    if not call.values:
        return call.refuse("it has no input tensor")
    if not call.batched:
        return call.refuse("it changes the batch dimension, or mixes batches of different sizes")
    operation: Any = call.operation
    if not isinstance(operation, keras.layers.Layer):
        known = type(operation).__module__.partition(".")[0] == "keras"
        entry = OPERATIONS.get(type(operation).__name__) if known else None
        return entry is not None and _read_channels_last(call, entry)
    # training=False and mask=None say nothing new; any other keyword may change the meaning.
    for keyword, value in call.kwargs.items():
        if value is not None and value is not False:
            given = "a tensor" if isinstance(value, Slot) else value
            return call.refuse(f"it is called with {keyword}={given}")
    if isinstance(operation, keras.layers.TimeDistributed):
        return read_steps(call)
    entry = layer_entry(operation)
    return entry is not None and _read_channels_last(call, entry)


class WithAttributes:
    """A layer that says something else of itself where it is asked for ``changed``."""

    def __init__(self, layer: Any, **changed: Any) -> None:
        self._layer = layer
        self._changed = changed

    def __getattr__(self, name: str) -> Any:
        if name in self._changed:
            return self._changed[name]
        return getattr(self._layer, name)


def _read_channels_last(call: Call, entry: Entry) -> bool:
    """Read a layer whose channels stand elsewhere as one behind them last, between two permutes."""
    operation, rank = call.operation, len(call.shapes[0])
    if len(call.values) != 1 or rank < 2:
        return entry(call)
    if isinstance(operation, keras.layers.BatchNormalization):
        axis = operation.axis[0] if isinstance(operation.axis, (list, tuple)) else operation.axis
        place = axis + rank if axis < 0 else axis - 1
        if place in (rank - 1, -1):
            return entry(call)
        return _read_moved(call, entry, place, axis=-1)
    layout = getattr(operation, "data_format", "channels_last")
    if layout is None:
        layout = keras.config.image_data_format()
    if layout != "channels_first":
        return entry(call)
    return _read_moved(call, entry, 0, data_format="channels_last")


def _read_moved(call: Call, entry: Entry, channels: int, **changed: Any) -> bool:
    """Let ``entry`` read the call with the axis ``channels`` of the data moved to the end."""
    rank = len(call.shapes[0])
    order = (*(axis for axis in range(rank) if axis != channels), channels)
    whole = len(call.outputs[0]) == rank
    emitted = len(call.emitted)
    first = call.emit("permute", attrs={"dims": order}, suffix="channels_last")
    inner = Call(
        WithAttributes(call.operation, **changed),
        call.args,
        call.kwargs,
        [first],
        [tuple(call.shapes[0][place] for place in order)],
        call.dtypes,
        [tuple(shape[place] for place in order) if whole else shape for shape in call.outputs],
        call.batched,
        call.emitted,
    )
    if not entry(inner) or inner.results:
        del call.emitted[emitted:]
        return call.refuse(inner.reason)
    if whole:
        back = tuple(order.index(place) for place in range(rank))
        call.emit("permute", [inner.last], {"dims": back}, suffix="channels_first")
    return True


def unwrapped(call: Call) -> Call:
    """The call of the operation inside an OperationLayer."""

    def fill(part: Any) -> Any:
        if isinstance(part, dict):
            if set(part) == {"slot"}:
                return Slot(part["slot"])
            return {key: fill(value) for key, value in part.items()}
        if isinstance(part, (list, tuple)):
            return type(part)(fill(value) for value in part)
        return part

    args, kwargs = fill(call.operation.arguments.value)
    return Call(
        call.operation.operation,
        tuple(args),
        kwargs,
        call.values,
        call.shapes,
        call.dtypes,
        call.outputs,
        call.batched,
    )
