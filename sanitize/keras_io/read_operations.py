"""What bare Keras operations (``x + y``, ``ops.relu(x)``, ``x[:, 1:]``) are in the graph.

The table goes by the class name of the operation, which is the name of the function in
``keras.ops`` in camel case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from ..shapes import element_count
from .call import Call, Entry, Slot, to_numpy
from .functions import PLAIN, relu_spec
from .read_layers import emit_affine, emit_reshape, emit_spec


def _operands(call: Call) -> tuple[Any, Any] | None:
    """The two operands of a binary operation, constants as arrays; None when they are not two."""
    given = [*call.args, *call.kwargs.values()]
    if len(given) != 2:
        return None
    first, second = (
        value if isinstance(value, Slot) else np.asarray(to_numpy(value), np.float64)
        for value in given
    )
    return first, second


def _binary(kind: str) -> Entry:
    """Two tensors of one rank become a merge, a tensor and a constant an affine map."""

    def entry(call: Call) -> bool:
        operands = _operands(call)
        if operands is None:
            return False
        a, b = operands
        if isinstance(a, Slot) and isinstance(b, Slot):
            if kind == "divide" or len(call.shapes[0]) != len(call.shapes[1]):
                return False
            call.emit(kind)
            return True
        if kind == "add":
            return emit_affine(call, 1.0, b if isinstance(a, Slot) else a)
        if kind == "multiply":
            return emit_affine(call, b if isinstance(a, Slot) else a, 0.0)
        if kind == "subtract":
            return emit_affine(call, 1.0, -b) if isinstance(a, Slot) else emit_affine(call, -1.0, a)
        if kind == "divide" and isinstance(a, Slot) and bool(np.all(b != 0)):
            return emit_affine(call, 1.0 / b, 0.0)
        if kind in ("maximum", "minimum"):
            constant = b if isinstance(a, Slot) else a
            if kind == "maximum" and constant.size == 1 and float(constant.item()) == 0.0:
                return emit_spec(call, {"kind": "relu"})
        return False

    return entry


def _negative(call: Call) -> bool:
    return emit_affine(call, -1.0, 0.0)


def _square(call: Call) -> bool:
    call.emit("multiply", [call.values[0], call.values[0]])
    return True


def _clip(call: Call) -> bool:
    low, high = call.operation.x_min, call.operation.x_max
    if not isinstance(low, (int, float)) or not isinstance(high, (int, float)):
        return False
    if float(low) == 0.0 and float(high) > 0.0:
        return emit_spec(call, relu_spec(high))
    if (float(low), float(high)) == (-1.0, 1.0):
        return emit_spec(call, {"kind": "activation", "function": "hard_tanh"})
    return False


def _spec(kind: str, **attrs: Any) -> Entry:
    """An activation without parameters."""

    def entry(call: Call) -> bool:
        return call.only_one_tensor and emit_spec(call, {"kind": kind, **attrs})

    return entry


def _leaky_relu(call: Call) -> bool:
    return emit_spec(call, relu_spec(None, call.operation.negative_slope))


def _general_relu(call: Call) -> bool:
    operation = call.operation
    return emit_spec(
        call, relu_spec(operation.max_value, operation.negative_slope, operation.threshold)
    )


def _elu(call: Call) -> bool:
    spec = {"kind": "activation", "function": "elu", "alpha": float(call.operation.alpha)}
    return emit_spec(call, spec)


def _gelu(call: Call) -> bool:
    approximate = bool(call.operation.approximate)
    return emit_spec(call, {"kind": "activation", "function": "gelu", "approximate": approximate})


def _softmax(call: Call) -> bool:
    axis, rank = call.operation.axis, len(call.shapes[0])
    if not isinstance(axis, int) or axis == 0:
        return False
    return emit_spec(call, {"kind": "softmax", "axis": axis - 1 if axis > 0 else rank + axis})


def _axes(axis: Any, rank: int) -> tuple[int, ...] | None:
    """Axes of a batched tensor as non-negative numbers, the batch axis being 0."""
    if axis is None:
        return None
    listed = axis if isinstance(axis, (list, tuple)) else [axis]
    return tuple(sorted(a + rank if a < 0 else a for a in listed))


def _reduce(kind: str) -> Entry:
    """A mean or maximum over height and width is global pooling."""

    def entry(call: Call) -> bool:
        operation, rank = call.operation, len(call.shapes[0]) + 1
        if _axes(operation.axis, rank) != (1, 2) or rank != 4:
            return False
        if kind == "global_max_pool" and operation.initial is not None:
            return False
        call.emit(kind, attrs={"keepdims": bool(operation.keepdims)})
        return True

    return entry


def _pool(kind: str) -> Entry:
    def entry(call: Call) -> bool:
        operation = call.operation
        layout = operation.data_format or keras.config.image_data_format()
        if len(call.shapes[0]) != 3 or layout != "channels_last":
            return False
        size = _two(operation.pool_size)
        strides = size if operation.strides is None else _two(operation.strides)
        attrs = {"size": size, "strides": strides, "padding": operation.padding}
        call.emit(kind, attrs=attrs)
        return True

    return entry


def _two(value: Any) -> tuple[int, int]:
    listed = tuple(value) if isinstance(value, Sequence) else (value, value)
    return int(listed[0]), int(listed[1])


def _reshape(call: Call) -> bool:
    """A reshape that leaves the batch axis alone, as the number of elements per sample tells."""
    shapes = (call.shapes[0], call.outputs[0])
    counts = [element_count(shape) for shape in shapes]
    if counts[0] is None or counts[0] != counts[1]:
        return False
    return emit_reshape(call)


def _squeeze(call: Call) -> bool:
    axes = _axes(call.operation.axis, len(call.shapes[0]) + 1)
    return axes is not None and 0 not in axes and emit_reshape(call)


def _expand_dims(call: Call) -> bool:
    axes = _axes(call.operation.axis, len(call.outputs[0]) + 1)
    return axes is not None and 0 not in axes and emit_reshape(call)


def _transpose(call: Call) -> bool:
    axes = call.operation.axes
    if axes is None or _axes(list(axes), len(axes)) is None:
        return False
    axes = [axis + len(axes) if axis < 0 else axis for axis in axes]
    if axes[0] != 0:
        return False
    call.emit("permute", attrs={"dims": tuple(int(axis) - 1 for axis in axes[1:])})
    return True


def _concatenate(call: Call) -> bool:
    if not isinstance(call.args[0], (list, tuple)) or len(call.values) != len(call.args[0]):
        return False
    axis, rank = call.operation.axis, len(call.shapes[0])
    axis = axis - 1 if axis > 0 else rank + axis
    if axis < 0 or call.operation.axis == 0 or len(call.values) < 2:
        return False
    call.emit("concat", attrs={"axis": axis})
    return True


def _pad(call: Call) -> bool:
    operation = call.operation
    constant = [*call.args[1:], *call.kwargs.values()]
    value = constant[0] if constant and constant[0] is not None else 0.0
    if operation.mode != "constant" or not isinstance(value, (int, float)):
        return False
    widths = [tuple(int(side) for side in pair) for pair in operation.pad_width]
    if len(widths) != 4 or widths[0] != (0, 0) or widths[3] != (0, 0):
        return False
    extra = {"value": float(value)} if value else {}
    call.emit("pad", attrs={"padding": (widths[1], widths[2]), **extra})
    return True


def _get_item(call: Call) -> bool:
    """Basic indexing with slices and integers that takes the whole batch."""
    key = call.args[1] if len(call.args) > 1 else call.kwargs.get("key")
    parts = list(key) if isinstance(key, (list, tuple)) else [key]
    rank = len(call.shapes[0]) + 1
    if Ellipsis in parts:
        where = parts.index(Ellipsis)
        missing = rank - (len(parts) - 1)
        parts[where : where + 1] = [slice(None)] * missing
    parts += [slice(None)] * (rank - len(parts))
    if len(parts) != rank or parts[0] != slice(None):
        return False
    limits: list[tuple[Any, Any, Any]] = []
    drop: list[int] = []
    for axis, part in enumerate(parts[1:]):
        if isinstance(part, slice):
            limits.append(_limits(part))
        elif isinstance(part, int):
            limits.append((part, part + 1 if part != -1 else None, 1))
            drop.append(axis)
        else:
            return False
    if any(not isinstance(edge, (int, type(None))) for triple in limits for edge in triple):
        return False
    squeeze = {"squeeze": tuple(drop)} if drop else {}
    call.emit("slice", attrs={"slices": tuple(limits), **squeeze})
    return True


def _limits(part: slice) -> tuple[Any, Any, Any]:
    """(start, stop, step), with 0 and 1 for a start and step that are left out."""
    step = 1 if part.step is None else part.step
    forward = not isinstance(step, int) or step > 0
    return (0 if part.start is None and forward else part.start), part.stop, step


def _cast(call: Call) -> bool:
    target = keras.backend.standardize_dtype(call.operation.dtype)
    if not target.startswith("float") or call.dtypes[0] == "bool":
        return False
    call.emit("identity")
    return True


def _identity(call: Call) -> bool:
    call.emit("identity")
    return True


_PLAIN_OPERATIONS = {
    "".join(part.capitalize() for part in name.split("_")): mine for name, mine in PLAIN.items()
}
OPERATIONS: Mapping[str, Entry] = {
    **{name: _spec("activation", function=mine) for name, mine in _PLAIN_OPERATIONS.items()},
    "Exp": _spec("activation", function="exponential"),
    "Relu": _spec("relu"),
    "Relu6": _spec("relu", max_value=6.0),
    "ReLU": _general_relu,
    "LeakyRelu": _leaky_relu,
    "Elu": _elu,
    "Gelu": _gelu,
    "Softmax": _softmax,
    "Add": _binary("add"),
    "Subtract": _binary("subtract"),
    "Multiply": _binary("multiply"),
    "Divide": _binary("divide"),
    "TrueDivide": _binary("divide"),
    "Maximum": _binary("maximum"),
    "Minimum": _binary("minimum"),
    "Negative": _negative,
    "Square": _square,
    "Clip": _clip,
    "Mean": _reduce("global_avg_pool"),
    "Max": _reduce("global_max_pool"),
    "MaxPool": _pool("max_pool"),
    "AveragePool": _pool("avg_pool"),
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "ExpandDims": _expand_dims,
    "Transpose": _transpose,
    "Concatenate": _concatenate,
    "Pad": _pad,
    "GetItem": _get_item,
    "Cast": _cast,
    "StopGradient": _identity,
    "Identity": _identity,
}
