"""What each field of a program may hold: its type, its size, its range.

A program may come from a stranger, so that nothing it says is believed: what is checked here comes
before anything that takes time or memory by it. What the fields mean together is checked by
``check.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import NonFiniteError, QuantizationError
from ..numerics import Format
from ..numerics.hardware_kinds import Trait
from ..numerics.layer import LayerParams, LayerSpec
from ..numerics.layer_shapes import core_shape
from ..numerics.layer_windows import Pool, Window
from .parts import ProgramInput, ProgramLayer, Shape
from .program_data import ProgramData

Array = npt.NDArray[Any]

LARGEST_TENSOR = 2**28
"""Elements of a tensor, of one sample, with what pads or widens it."""
LARGEST_VECTOR = 2**21
"""Numbers per channel or position, of which bounds are worked out one by one."""
LARGEST_RESCALE_SHIFT = 1023
LARGEST_LEFT_SHIFT = 62
LARGEST_INPUT_DILATION = 64
LARGEST_DIVISOR = 2**53
"""Of an average: no engine carries sums beyond it."""
LARGEST_WEIGHT = 2**15
WIDEST_NUMBER = 64

POOLS = ("max", "average", "global_average")


def check_program_fields(program: ProgramData) -> None:
    """Names and what stayed behind in floats are text."""
    _texts("the program", "name", [program.name])
    _texts("the program", "outputs", program.outputs)
    for tail in program.float_tail:
        _texts("the program", "float_tail", tail)


def check_input_fields(entry: ProgramInput) -> None:
    """Raises QuantizationError naming the field of the input that cannot be."""
    _texts("an input", "name", [entry.name])
    owner = f"input {entry.name!r}"
    _whole(owner, "shape", entry.shape, 1, LARGEST_TENSOR)
    _tensor(owner, entry.shape)
    _format(owner, entry.format, entry.shape)
    _floats(owner, "scale", entry.scale, entry.shape)
    _floats(owner, "offset", entry.offset, entry.shape)


def check_layer_fields(layer: ProgramLayer) -> None:
    """Raises QuantizationError naming the field of the layer that cannot be, for any inputs."""
    _texts("a layer", "name", [layer.name])
    owner = f"layer {layer.name!r}"
    _texts(owner, "inputs", layer.inputs)
    _texts(owner, "source", layer.source)
    _whole(owner, "weight_bits", [layer.weight_bits], 0, WIDEST_NUMBER)
    _whole(owner, "output_shape", layer.output_shape, 1, LARGEST_TENSOR)
    _tensor(owner, layer.output_shape)
    _spec(owner, layer.spec)
    _weights(owner, layer.params.weights)


def check_layer_sizes(layer: ProgramLayer, shapes: Sequence[Shape], channels: int | None) -> None:
    """What depends on the shapes, which fit: what the layer forms on the way is bounded, and its
    numbers are of a shape that fits, and within their range.
    """
    owner, spec, params = f"layer {layer.name!r}", layer.spec, layer.params
    core = core_shape(spec, shapes, channels, owner)
    _tensor(owner, core)
    if spec.window is not None:
        _padded(owner, spec.window, shapes[0])
    if spec.pool is not None:
        _pool_sizes(owner, spec.pool, core)
    if layer.output_format is not None:
        _format(owner, layer.output_format, layer.output_shape)
    _floats(owner, "output_scale", layer.output_scale, layer.output_shape)
    _numbers(owner, params, layer.output_shape[-1:])
    for shift, shape in zip(params.input_shifts, shapes, strict=False):
        if shift is not None:
            _integers(owner, "input_shifts", shift, shape, 0, LARGEST_LEFT_SHIFT)
    if params.pad_value is not None:
        _integers(owner, "pad_value", params.pad_value, shapes[0][-1:])


# -- the parts of a layer ---------------------------------------------------------------------


def _spec(owner: str, spec: LayerSpec) -> None:
    if (Trait.WINDOWED in spec.traits) != (spec.window is not None):
        has = "has no" if spec.window is None else "cannot have a"
        raise QuantizationError(f"{owner} ({spec.kind}) {has} window")
    if spec.window is not None:
        _window(owner, spec.window)
    _whole(owner, "groups", [spec.groups], 1, LARGEST_TENSOR)
    _flag(owner, "relu", spec.relu)
    _whole(owner, "axis", [spec.axis], -WIDEST_NUMBER, WIDEST_NUMBER)
    _whole(owner, "shape", spec.shape, -1, LARGEST_TENSOR)
    _whole(owner, "dims", spec.dims, 0, WIDEST_NUMBER)
    _pairs(owner, "pads", spec.pads, 0)
    _whole(owner, "size", spec.size, 1, LARGEST_TENSOR, count=2)
    for limits in spec.slices:
        given = [limit for limit in limits if limit is not None]
        _whole(owner, "slices", given, -LARGEST_TENSOR, LARGEST_TENSOR)
        if len(limits) != 3 or limits[0] is None or limits[2] is None:
            raise QuantizationError(f"{owner}: slices are (start, stop, step), not {limits}")
    if spec.pool is not None:
        _pool(owner, spec.pool)


def _pool(owner: str, pool: Pool) -> None:
    if pool.kind not in POOLS:
        raise QuantizationError(f"{owner}: there is no pool {pool.kind!r}, but {', '.join(POOLS)}")
    if (pool.kind == "global_average") != (pool.window is None):
        raise QuantizationError(f"{owner}: a pool has a window, unless it is global")
    _flag(owner, "keepdims", pool.keepdims)
    if pool.window is not None:
        _window(owner, pool.window)


def _window(owner: str, window: Window) -> None:
    for field in ("size", "strides", "dilation"):
        _whole(owner, field, getattr(window, field), 1, LARGEST_TENSOR, count=2)
    widened = window.input_dilation
    _whole(owner, "input_dilation", widened, 1, LARGEST_INPUT_DILATION, count=2)
    if not isinstance(window.padding, str):
        _pairs(owner, "padding", window.padding, 0)


def _weights(owner: str, value: Any) -> None:
    if value is None:
        return
    weights = _whole_array(owner, "weights", value)
    if weights.size == 0 or not 2 <= weights.ndim <= 4:
        raise QuantizationError(f"{owner}: weights of shape {weights.shape}")
    _within(owner, "weights", weights, -LARGEST_WEIGHT, LARGEST_WEIGHT)


def _numbers(owner: str, params: LayerParams, channels: Shape) -> None:
    """Everything but weights and what belongs to the inputs; channels: () or (c_out,)."""
    for field, low, high in (
        ("bias", None, None),
        ("bias_shift", 0, LARGEST_LEFT_SHIFT),
        ("max_value", 0, None),
        ("scale", 0, None),
        ("shift", -LARGEST_LEFT_SHIFT, LARGEST_RESCALE_SHIFT),
    ):
        value = getattr(params, field)
        if value is not None:
            _integers(owner, field, value, channels, low, high)
    _whole(owner, "qmin, qmax", [params.qmin, params.qmax], -(2**53), 2**53)
    if params.qmin > params.qmax:
        raise QuantizationError(f"{owner}: it saturates to {params.qmin} .. {params.qmax}")


def _format(owner: str, fmt: Any, shape: Shape) -> None:
    if not isinstance(fmt, Format):
        raise QuantizationError(f"{owner}: its format is a {type(fmt).__name__}")
    _fitting(owner, "frac of its format", fmt.frac, shape)


# -- sizes ------------------------------------------------------------------------------------


def _tensor(owner: str, shape: Shape) -> None:
    elements = math.prod(shape)
    if elements > LARGEST_TENSOR:
        raise QuantizationError(
            f"{owner}: a tensor of {elements:.3g} elements; {LARGEST_TENSOR:.3g} at most"
        )


def _padded(owner: str, window: Window, shape: Shape) -> None:
    """The map that a window slides over."""
    pads = window.pads(shape[:2])
    sides = [window.widened(axis, shape[axis]) + sum(pads[axis]) for axis in (0, 1)]
    _tensor(owner, (*sides, shape[-1]))


def _pool_sizes(owner: str, pool: Pool, shape: Shape) -> None:
    if len(shape) != 3:
        raise QuantizationError(f"{owner}: a pool of the shape {shape}, not a map")
    if pool.window is not None:
        _padded(owner, pool.window, shape)
    if pool.kind != "max" and pool.area(shape[:2]) > LARGEST_DIVISOR:
        raise QuantizationError(f"{owner}: {pool} divides by more than {LARGEST_DIVISOR}")


# -- values -----------------------------------------------------------------------------------


def _texts(owner: str, field: str, values: Any) -> None:
    if not isinstance(values, tuple | list) or not all(isinstance(v, str) for v in values):
        raise QuantizationError(f"{owner}: {field} holds {str(values)[:100]}, which is no text")


def _flag(owner: str, field: str, value: Any) -> None:
    if not isinstance(value, bool | np.bool_):
        raise QuantizationError(f"{owner}: {field} is {value!r}, neither true nor false")


def _whole(
    owner: str, field: str, values: Any, low: int, high: int, count: int | None = None
) -> None:
    """Whole numbers of low to high, as many as count says."""
    fits = isinstance(values, tuple | list) and count in (None, len(values))
    for value in values if fits else ():
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        fits = fits and whole and low <= value <= high
    if not fits:
        raise QuantizationError(
            f"{owner}: {field} is {str(values)[:100]}; whole numbers from {low} to {high} can be"
        )


def _pairs(owner: str, field: str, pairs: Any, low: int) -> None:
    if not isinstance(pairs, tuple | list) or len(pairs) != 2:
        raise QuantizationError(f"{owner}: {field} is {str(pairs)[:100]}; give two pairs")
    for pair in pairs:
        _whole(owner, field, pair, low, LARGEST_TENSOR, count=2)


def _integers(
    owner: str,
    field: str,
    value: Any,
    shape: Shape,
    low: int | None = None,
    high: int | None = None,
) -> None:
    """An array of whole numbers within its limits that broadcasts to shape."""
    array = _whole_array(owner, field, value)
    _fitting(owner, field, array, shape)
    if array.size > LARGEST_VECTOR:
        raise QuantizationError(f"{owner}: {field} holds {array.size} numbers, far too many")
    _within(owner, field, array, low, high)


def _whole_array(owner: str, field: str, value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise QuantizationError(f"{owner}: {field} is of {array.dtype}, not whole numbers")
    return array


def _within(owner: str, field: str, array: Array, low: int | None, high: int | None) -> None:
    least = -(2**63) if low is None else low
    most = 2**63 - 1 if high is None else high
    if array.size and not (least <= int(array.min()) and int(array.max()) <= most):
        raise QuantizationError(
            f"{owner}: {field} in [{array.min()}, {array.max()}]; {least} to {most} can be"
        )


def _floats(owner: str, field: str, value: Any, shape: Shape) -> None:
    """None, or finite floats that broadcast to shape."""
    if value is None:
        return
    array = np.asarray(value)
    if array.dtype.kind != "f":
        raise QuantizationError(f"{owner}: {field} is of {array.dtype}, not floats")
    _fitting(owner, field, array, shape)
    if not np.isfinite(array).all():
        raise NonFiniteError(f"{owner}: {field} is NaN or infinite")


def _fitting(owner: str, field: str, array: Array, shape: Shape) -> None:
    """The array broadcasts to the shape and not beyond it."""
    tail = shape[len(shape) - array.ndim :]
    fits = array.ndim <= len(shape) and all(
        size in (1, full) for size, full in zip(array.shape, tail, strict=True)
    )
    if not fits:
        raise QuantizationError(
            f"{owner}: {field} has the shape {array.shape}, which does not fit {tuple(shape)}"
        )
