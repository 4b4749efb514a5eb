"""Calls on values whose samples are elsewhere, and those that bring them there: see ``moved``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from ..shapes import Shape
from .call import Call, Slot, argument, to_numpy
from .emit import batched_axes
from .keras_functions import OPERATION_NAMES
from .moved import Moved, ordinary, with_samples
from .read_layers import LAYERS, NOTHING_AT_INFERENCE, layer_entry
from .read_operations import OPERATIONS
from .read_steps import ALONG_THE_LAST_AXIS
from .understood import WithAttributes

layers = keras.layers

_BINARY = ("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Minimum")
_ONE_BY_ONE = frozenset(
    {*OPERATION_NAMES, *_BINARY, "Relu", "Relu6", "ReLU", "LeakyRelu", "Negative", "Power", "Clip",
     "Cast", "Copy", "StopGradient", "Identity"}
)  # fmt: skip
_PRODUCTS = ("Matmul", "Dot")
_ALONG_AXES = ("Softmax", "Concatenate", "Split", "ArraySplit", "Unstack", "Take", "Flip", "Roll",
               "Mean", "Max")  # fmt: skip
_LAYERS_ONE_BY_ONE = (
    *(layers.Add, layers.Subtract, layers.Multiply, layers.Maximum, layers.Minimum, layers.Average),
    *(layers.ReLU, layers.LeakyReLU, layers.ELU, *NOTHING_AT_INFERENCE),
)


def moves_samples(call: Call, given: Sequence[str | Moved]) -> bool:
    """Whether a call has something to do with samples that are not along the first axis alone."""
    return any(isinstance(value, Moved) for value in given) or (
        len(given) == 1 and _name(call.operation) in _MOVING
    )


def read_moved(
    call: Call, given: Sequence[str | Moved], inputs: Sequence[Shape], outputs: Sequence[Shape]
) -> list[Moved] | None:
    """Read a call some values of which are Moved, or which moves samples; what its outputs are.

    inputs, outputs: shapes with all axes. None, and nothing emitted, where the call does not look
    at each row alone, or the graph has no kind for it.
    """
    values = [
        value if isinstance(value, Moved) else ordinary(value, shape)
        for value, shape in zip(given, inputs, strict=True)
    ]
    first = values[0]
    if first is None or any(value is None or value.axes != first.axes for value in values):
        return None
    emitted = len(call.emitted)
    movement = _MOVING.get(_name(call.operation))
    if movement is not None:
        made = movement(call, first, outputs[0])
        # One that leaves the samples alone where they are is read as any other.
        found = (
            None if made is None or (made.ordinary and first.ordinary) else [_settled(call, made)]
        )
    else:
        found = _read_rows(call, [_apart(call, value) for value in values if value], outputs)
    if found is None:
        del call.emitted[emitted:]
    return found


def _name(operation: Any) -> str:
    """The name under which an operation or layer of Keras' stands in the tables here."""
    if isinstance(operation, keras.layers.Layer):
        return f"layers.{type(operation).__name__}" if type(operation) in LAYERS else ""
    known = type(operation).__module__.partition(".")[0] == "keras"
    return type(operation).__name__ if known else ""


# -- movements ------------------------------------------------------------------------------------


def _settled(call: Call, moved: Moved) -> Moved:
    """An ordinary value for what has its samples along the first axis alone again."""
    return _in_shape(call, moved, moved.sizes[1:]) if moved.ordinary else moved


def _apart(call: Call, moved: Moved) -> Moved:
    """The value with its axes in the order of the model, those of the samples apart."""
    return _in_shape(call, moved, moved.apart()[1].shape)


def _in_shape(call: Call, moved: Moved, shape: Sequence[int | None]) -> Moved:
    order, made = moved.apart()
    value, sizes = moved.value, tuple(moved.shape[axis] for axis in order)
    if order != tuple(range(len(order))):
        value = call.emit("permute", [value], {"dims": order}, suffix="apart")
    if sizes != tuple(shape):
        value = call.emit("reshape", [value], {"shape": tuple(shape)}, suffix="joined")
    if tuple(shape) == made.shape:
        return replace(made, value=value)
    found = ordinary(value, (moved.batch, *shape))
    assert found is not None
    return found


def _transpose(order_of: Callable[[Any, int], Sequence[int]]) -> Any:
    def movement(call: Call, moved: Moved, out: Shape) -> Moved:
        return moved.transposed(order_of(call.operation, len(moved.axes)))

    return movement


def _transposed(operation: Any, rank: int) -> list[int]:
    axes = operation.axes
    return [*range(rank)][::-1] if axes is None else [axis % rank for axis in axes]


def _swapped(operation: Any, rank: int) -> list[int]:
    order = [*range(rank)]
    a, b = operation.axis1, operation.axis2
    order[a], order[b] = order[b], order[a]
    return order


def _carried(operation: Any, rank: int) -> list[int]:
    sizes = np.empty(range(1, rank + 1))
    return [n - 1 for n in np.moveaxis(sizes, operation.source, operation.destination).shape]


def _permuted(layer: Any, rank: int) -> list[int]:
    return [0, *layer.dims]


def _reshape(call: Call, moved: Moved, out: Shape) -> Moved | None:
    sizes = with_samples(out, moved)
    return None if sizes is None else _regrouped(call, moved, sizes)


def _reshape_each(call: Call, moved: Moved, out: Shape) -> Moved | None:
    """A layer that reshapes what is behind the first axis, which counts samples."""
    return None if moved.rows else _regrouped(call, moved, (None, *out[1:]))


def _regrouped(call: Call, moved: Moved, sizes: Sequence[int | None]) -> Moved | None:
    if list(sizes).count(None) != 1:
        return None
    made = moved.reshaped(sizes)
    if made is None or made.shape == moved.shape:
        return made
    value = call.emit("reshape", [moved.value], {"shape": made.shape}, suffix="split")
    return replace(made, value=value)


_MOVING: Mapping[str, Any] = {
    "Transpose": _transpose(_transposed),
    "Swapaxes": _transpose(_swapped),
    "Moveaxis": _transpose(_carried),
    "layers.Permute": _transpose(_permuted),
    **dict.fromkeys(("Reshape", "Ravel", "Squeeze", "ExpandDims"), _reshape),
    **dict.fromkeys(("layers.Reshape", "layers.Flatten"), _reshape_each),
}


# -- what looks at each row alone -----------------------------------------------------------------


def _read_rows(call: Call, values: list[Moved], outputs: Sequence[Shape]) -> list[Moved] | None:
    """A call on values with their axes apart, by the entry for its operation."""
    operation, first = call.operation, values[0]
    name, rank = _name(operation), len(first.axes)
    inner = replace(
        call,
        values=[value.value for value in values],
        shapes=[value.shape for value in values],
        batched=True,
        results=[],
    )
    dropped: set[int] = set()
    if name in _ONE_BY_ONE or isinstance(operation, _LAYERS_ONE_BY_ONE):
        if name in _BINARY and not _with_constants(inner, first):
            return None
    elif name in _PRODUCTS or isinstance(operation, ALONG_THE_LAST_AXIS):
        if first.rows == rank - 1 or getattr(operation, "axis", -1) not in _last(rank):
            return None
        if hasattr(operation, "axis"):
            inner.operation = WithAttributes(operation, axis=-1)
    elif name in _ALONG_AXES or name == "layers.Concatenate":
        axes = batched_axes(operation.axis, rank)
        if axes is None or first.rows in axes:
            return None
        places = [first.axes[axis][0] for axis in axes]
        listed = isinstance(operation.axis, (list, tuple))
        inner.operation = WithAttributes(operation, axis=places if listed else places[0])
        if len(outputs[0]) < rank:
            dropped = set(axes)
    elif name == "GetItem":
        key = argument(call, 1, "key")
        parts = list(key) if isinstance(key, (list, tuple)) else [key]
        found = _inner_key(parts, first)
        if found is None:
            return None
        inner.args, inner.kwargs = (call.args[0], tuple(found)), {}
        dropped = {place for place, part in enumerate(parts) if isinstance(part, (int, np.integer))}
    else:
        return None
    kept = [group for place, group in enumerate(first.axes) if place not in dropped]
    if any(len(shape) != len(kept) for shape in outputs):
        return None
    inner.outputs = [_inner_shape(first, kept, shape) for shape in outputs]
    entry = _entry(operation)
    if entry is None or not entry(inner):
        return None
    call.results = inner.results
    numbers = sorted(axis for group in kept for axis in group)
    axes_now = tuple(tuple(map(numbers.index, group)) for group in kept)
    made = inner.results or [call.last] * len(outputs)
    return [
        Moved(value, tuple(int(size or 0) for size in shape), axes_now, first.batch)
        for value, shape in zip(made, inner.outputs, strict=True)
    ]


def _entry(operation: Any) -> Any:
    if isinstance(operation, keras.layers.Layer):
        return layer_entry(operation)
    return OPERATIONS.get(type(operation).__name__)


def _last(rank: int) -> tuple[Any, ...]:
    return (-1, [-1], (-1,), rank - 1, [rank - 1], (rank - 1,))


def _inner_shape(moved: Moved, kept: Sequence[tuple[int, ...]], out: Shape) -> tuple[int, ...]:
    """Unbatched sizes of an output with its axes apart; axis i of ``out`` is ``kept[i]``."""
    sizes: list[int] = []
    for group, size in zip(kept, out, strict=True):
        sizes += (
            [moved.shape[axis - 1] for axis in group if axis] if 0 in group else [int(size or 0)]
        )
    return tuple(sizes)


def _with_constants(call: Call, moved: Moved) -> bool:
    """Replace the constants of a call by those for the value with its axes apart."""

    def fitted(part: Any) -> Any:
        return part if isinstance(part, Slot) else moved.constant(np.asarray(to_numpy(part)))

    call.args = tuple(map(fitted, call.args))
    call.kwargs = {key: fitted(part) for key, part in call.kwargs.items()}
    return all(part is not None for part in (*call.args, *call.kwargs.values()))


def _inner_key(parts: Sequence[Any], moved: Moved) -> list[Any] | None:
    """The key of an index for the value with its axes apart; None where it picks rows."""
    if any(part is None or part is Ellipsis for part in parts):
        return None
    whole = slice(None)
    per_axis = [*parts, *[whole] * (len(moved.axes) - len(parts))]
    if per_axis[moved.rows] != whole:
        return None
    inner = [whole] * (len(moved.shape) + 1)
    for group, part in zip(moved.axes, per_axis, strict=True):
        if 0 not in group:
            inner[group[0]] = part
    return inner
