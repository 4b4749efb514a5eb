"""Functions of a Keras 2 graph that Keras 3 has an operation for, but no layer: wrapped in one.

`operation(function, x)` is the layer that computes `function(x)`, which must be a single operation
of `keras.ops`. The layer, an `OperationLayer` of `sanitize.keras_io`, saves as .keras and .h5.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from quantkeras.files.keras2.calls import (
    CannotReplace,
    OpCall,
    Replacement,
    Tensor,
    constant,
    tensor,
)
from sanitize.keras_io.opaque_layers import operation_layer

_TRIAL_SHAPES = ((None, None, None), (None, None), (None,), (None,) * 4, (4, 4, 4), (4, 4), (4,))
"""Unbatched shapes to try an operation on: its rank is not known while the file is read."""


def operation(function: Callable[..., Any], *inputs: Tensor) -> Replacement:
    """The layer for `function` of as many tensors as there are inputs."""
    reason = ""
    for shape in _TRIAL_SHAPES:
        try:
            layer = operation_layer(function, count=len(inputs), shape=shape)
        except (ValueError, TypeError, IndexError, AttributeError) as error:
            reason = reason or str(error).partition("\n")[0]
            continue
        config = layer.get_config()
        kept = {key: config[key] for key in ("operation", "arguments")}
        return Replacement("sanitize>OperationLayer", kept, inputs)
    raise CannotReplace(f"no Keras operation takes its arguments: {reason}")


def unary(function: Callable[[Any], Any]) -> Callable[[OpCall], Replacement]:
    """y = function(x), whatever else is given."""
    return lambda call: operation(function, tensor(call.first))


def binary(function: Callable[[Any, Any], Any], first: Any, second: Any) -> Replacement:
    """function(first, second), one of them or both a tensor of the graph."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return operation(function, first, second)
    if isinstance(first, Tensor):
        fixed = _value(second)
        return operation(lambda x: function(x, fixed), first)
    fixed = _value(first)
    return operation(lambda x: function(fixed, x), tensor(second))


def two_operands(function: Callable[[Any, Any], Any]) -> Callable[[OpCall], Replacement]:
    return lambda call: binary(function, call.first, call.rest.get("y"))


def _value(operand: Any) -> Any:
    """A number as it is, nested lists as a float32 array."""
    fixed = constant(operand)
    return np.asarray(fixed, np.float32) if isinstance(fixed, list) else fixed


def choose(call: OpCall) -> Replacement:
    """where(condition, x, y), of tensors and constants."""
    given = (call.first, call.rest.get("x"), call.rest.get("y"))
    if None in (given[1], given[2]):
        raise CannotReplace("it asks for the places of what is true")
    inputs = [operand for operand in given if isinstance(operand, Tensor)]
    fixed = [None if isinstance(operand, Tensor) else _value(operand) for operand in given]

    def function(*tensors: Any) -> Any:
        flowing = iter(tensors)
        return ops.where(*(next(flowing) if value is None else value for value in fixed))

    return operation(function, *inputs)


def reduce(function: Callable[..., Any]) -> Callable[[OpCall], Replacement]:
    """function(x, axis, keepdims), over axes other than the batch axis."""

    def remedy(call: OpCall) -> Replacement:
        axis, keepdims = inner_axes(call.rest.get("axis")), bool(call.rest.get("keepdims"))
        whole = axis[0] if len(axis) == 1 else tuple(axis)
        return operation(lambda x: function(x, axis=whole, keepdims=keepdims), tensor(call.first))

    return remedy


def inner_axes(axis: Any) -> list[int]:
    """One axis or several as a list; none of them the batch axis, as far as can be told."""
    axes = axis if isinstance(axis, list) else [axis]
    if not axes or not all(isinstance(n, int) and n != 0 for n in axes):
        raise CannotReplace(f"its axis is {axis}: it must name axes other than the batch axis")
    return axes


def split(call: OpCall) -> Replacement:
    """split(x, 3 or [sizes], axis); several outputs."""
    parts, axis = call.rest.get("num_or_size_splits"), inner_axes(call.rest.get("axis", 0))[0]
    if isinstance(parts, list):
        # The last part may be what is left, -1.
        known = parts[:-1] if parts and parts[-1] == -1 else parts
        if not all(isinstance(n, int) and n >= 0 for n in known):
            raise CannotReplace(
                f"the sizes {parts} of its parts are not all known: the length of the axis is open"
            )
        parts = [int(n) for n in np.cumsum(parts[:-1])]
    if not isinstance(parts, int | list):
        raise CannotReplace("its parts are computed in the graph")
    return operation(lambda x: ops.split(x, parts, axis=axis), tensor(call.first))


def unstack(call: OpCall) -> Replacement:
    axis, count = inner_axes(call.rest.get("axis", 0))[0], call.rest.get("num")
    return operation(lambda x: ops.unstack(x, num=count, axis=axis), tensor(call.first))


def stack(call: OpCall) -> Replacement:
    axis = inner_axes(call.rest.get("axis", 0))[0]
    given = call.first if isinstance(call.first, list) else [call.first]
    return operation(lambda *x: ops.stack(x, axis=axis), *(tensor(part) for part in given))


def gather(call: OpCall) -> Replacement:
    """gather(x, constant positions, axis)."""
    axis, batched = call.rest.get("axis"), call.rest.get("batch_dims", 0)
    if axis is None or batched:
        raise CannotReplace("it picks from the batch, or per sample")
    positions = np.asarray(constant(call.rest.get("indices")), np.int32)
    where = inner_axes(axis)[0]
    return operation(lambda x: ops.take(x, positions, axis=where), tensor(call.first))


def reverse(call: OpCall) -> Replacement:
    axes = tuple(inner_axes(call.rest.get("axis")))
    return operation(lambda x: ops.flip(x, axis=axes), tensor(call.first))


def roll(call: OpCall) -> Replacement:
    axes, shift = inner_axes(call.rest.get("axis")), call.rest.get("shift")
    if len(axes) != 1 or not isinstance(shift, int):
        raise CannotReplace("it rolls several axes, or by a computed number")
    return operation(lambda x: ops.roll(x, shift, axis=axes[0]), tensor(call.first))


def repeat(call: OpCall) -> Replacement:
    axis, times = inner_axes(call.rest.get("axis"))[0], call.rest.get("repeats")
    if not isinstance(times, int):
        raise CannotReplace("it repeats parts differently often")
    return operation(lambda x: ops.repeat(x, times, axis=axis), tensor(call.first))


def tile(call: OpCall) -> Replacement:
    times = call.rest.get("multiples")
    if not isinstance(times, list) or not all(isinstance(n, int) for n in times) or times[0] != 1:
        raise CannotReplace(f"its multiples {times} repeat the batch, or are computed")
    return operation(lambda x: ops.tile(x, tuple(times)), tensor(call.first))


def resize(call: OpCall) -> Replacement:
    """image.resize(x, size, method), the picture channels-last."""
    size, method = call.rest.get("size"), str(call.rest.get("method", "bilinear"))
    if not isinstance(size, list) or not all(isinstance(n, int) for n in size):
        raise CannotReplace("the size it makes is computed in the graph")
    if method not in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"):
        raise CannotReplace(f"Keras has no interpolation '{method}'")
    if call.rest.get("preserve_aspect_ratio"):
        raise CannotReplace("it keeps the aspect ratio")
    settings = {
        "interpolation": method,
        "antialias": bool(call.rest.get("antialias")),
        "data_format": "channels_last",
    }
    return operation(lambda x: ops.image.resize(x, tuple(size), **settings), tensor(call.first))


def blocks(name: str) -> Callable[[OpCall], Replacement]:
    """depth_to_space and space_to_depth, which not every Keras 3 has."""

    def remedy(call: OpCall) -> Replacement:
        function = getattr(ops, name, None)
        if function is None:
            raise CannotReplace(f"Keras {keras.__version__} has no {name}")
        if call.rest.get("data_format", "NHWC") not in ("NHWC", None):
            raise CannotReplace("its data are not channels-last")
        size = call.rest.get("block_size")
        settings = {"block_size": size, "data_format": "channels_last"}
        return operation(lambda x: function(x, **settings), tensor(call.first))

    return remedy


def matmul(call: OpCall) -> Replacement:
    """matmul(x, y or a constant matrix)."""
    if any(call.rest.get(f"{how}_{side}") for how in ("transpose", "adjoint") for side in "ab"):
        raise CannotReplace("it transposes an operand")
    return binary(ops.matmul, call.first, call.rest.get("b"))


def normalize(call: OpCall) -> Replacement:
    """x over its length along an axis; epsilon bounds the squared length."""
    axis, least = inner_axes(call.rest.get("axis")), call.rest.get("epsilon", 1e-12)
    whole = axis[0] if len(axis) == 1 else tuple(axis)
    return operation(
        lambda x: ops.normalize(x, axis=whole, order=2, epsilon=least**0.5), tensor(call.first)
    )
