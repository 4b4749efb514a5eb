"""Whether the parts of a program fit together, and whether what a user feeds fits the program.

Every refusal names the thing, the reason and the remedy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import NonFiniteError, QuantizationError
from ..numerics.hardware_kinds import Trait
from ..numerics.layer_shapes import core_shape, output_channels, output_shape
from ..numerics.tables import MAX_TABLE_BITS
from .field_checks import (
    check_input_fields,
    check_layer_fields,
    check_layer_sizes,
    check_program_fields,
)
from .parts import ProgramInput, ProgramLayer, Shape
from .program_data import ProgramData

Array = npt.NDArray[Any]


# -- the program ------------------------------------------------------------------------------


def check_program(program: ProgramData) -> None:
    """Raises QuantizationError unless every field holds what it may, names are unique, layers
    topological, numbers complete.
    """
    check_program_fields(program)
    for entry in program.inputs:
        check_input_fields(entry)
    shapes = {entry.name: tuple(entry.shape) for entry in program.inputs}
    if len(shapes) != len(program.inputs) or not shapes:
        raise QuantizationError("a program needs inputs with names of their own")
    for layer in program.layers:
        check_layer_fields(layer)
        if layer.name in shapes:
            raise QuantizationError(f"two tensors of the program are called {layer.name!r}")
        missing = [name for name in layer.inputs if name not in shapes]
        if missing or not layer.inputs:
            raise QuantizationError(
                f"layer {layer.name!r} reads {missing or 'nothing'}; layers stand after the "
                "inputs and layers that they read"
            )
        _check_layer(layer)
        _check_shape(layer, [shapes[name] for name in layer.inputs])
        shapes[layer.name] = tuple(layer.output_shape)
    layers = {layer.name: layer for layer in program.layers}
    for name in program.outputs:
        if name not in layers:
            raise QuantizationError(f"output {name!r} is no layer of the program")
        if layers[name].output_format is None and layers[name].output_scale is None:
            raise QuantizationError(
                f"output {name!r} is a raw accumulator without a scale: it has no value"
            )
    if not program.outputs or len(set(program.outputs)) != len(program.outputs):
        raise QuantizationError("a program needs outputs, each named once")


def _check_layer(layer: ProgramLayer) -> None:
    params = layer.params
    if (Trait.WEIGHTED in layer.spec.traits) != (params.weights is not None):
        has = "has no" if params.weights is None else "cannot have"
        raise QuantizationError(f"layer {layer.name!r} ({layer.spec.kind}) {has} weights")
    merges = Trait.MERGES in layer.spec.traits
    if (len(layer.inputs) > 1) != merges:
        count = "two or more inputs" if merges else "one input"
        raise QuantizationError(f"layer {layer.name!r} ({layer.spec.kind}) takes {count}")
    if Trait.PAIRS in layer.spec.traits and len(layer.inputs) != 2:
        raise QuantizationError(f"layer {layer.name!r} ({layer.spec.kind}) takes two inputs")
    if (params.scale is None) != (params.shift is None):
        raise QuantizationError(f"layer {layer.name!r} needs both scale and shift, or neither")
    if params.input_shifts and len(params.input_shifts) != len(layer.inputs):
        raise QuantizationError(f"layer {layer.name!r}: one input shift per input, or none at all")


def _check_shape(layer: ProgramLayer, shapes: Sequence[Shape]) -> None:
    channels = output_channels(layer.spec, layer.params.weights)
    try:
        computed = output_shape(layer.spec, shapes, channels)
    except QuantizationError as error:
        raise QuantizationError(f"layer {layer.name!r} ({layer.spec.kind}): {error}") from error
    if computed != tuple(layer.output_shape):
        raise QuantizationError(
            f"layer {layer.name!r} gives shape {computed} from {', '.join(map(str, shapes))}, not "
            f"{tuple(layer.output_shape)}"
        )
    check_layer_sizes(layer, shapes, channels)
    _check_weights(layer, shapes[0])
    _check_pool(layer, shapes)
    _check_table(layer)


def _check_weights(layer: ProgramLayer, shape: Shape) -> None:
    spec, weights = layer.spec, layer.params.weights
    if weights is None:
        return
    size = () if spec.window is None else spec.window.size
    *kernel, depth, last = np.shape(weights)
    if tuple(kernel) != size or depth * spec.groups != shape[-1] or last % spec.groups:
        raise QuantizationError(
            f"layer {layer.name!r}: weights of shape {np.shape(weights)} do not fit inputs of "
            f"shape {shape}, a window of size {size} and {spec.groups} groups"
        )


def _check_pool(layer: ProgramLayer, shapes: Sequence[Shape]) -> None:
    pool = layer.spec.pool
    if pool is None or pool.window is None:
        return
    if pool.window.input_dilation != (1, 1):
        raise QuantizationError(f"layer {layer.name!r}: a pool has no input dilation")
    channels = output_channels(layer.spec, layer.params.weights)
    if not pool.counts(core_shape(layer.spec, shapes, channels, layer.name)[:2]).all():
        raise QuantizationError(
            f"layer {layer.name!r}: {pool.window} sees nothing but padding somewhere; a pool's "
            "padding is below its size"
        )


def _check_table(layer: ProgramLayer) -> None:
    """One entry for every integer from qmin to qmax, and no more than 16 bits can list."""
    params = layer.params
    if params.table is None:
        return
    count, table = params.qmax - params.qmin + 1, np.asarray(params.table)
    channels = layer.output_shape[-1] if layer.output_shape else 1
    if table.shape not in ((count,), (count, channels)) or table.dtype.kind not in "iu":
        raise QuantizationError(
            f"layer {layer.name!r}: a table of {table.dtype} {table.shape} for the integers "
            f"{params.qmin} .. {params.qmax} in {channels} channels; it has {count} integers, "
            f"or {count} for each channel"
        )
    if count > 2**MAX_TABLE_BITS:
        raise QuantizationError(
            f"layer {layer.name!r}: a table of {count} entries; {2**MAX_TABLE_BITS} at most"
        )


def kept_names(program: ProgramData, keep: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names that a run returns: the outputs, all tensors, or those asked for."""
    if keep is None:
        return program.outputs
    known = [*(entry.name for entry in program.inputs), *(layer.name for layer in program.layers)]
    if isinstance(keep, str) and keep == "all":
        return tuple(known)
    names = (keep,) if isinstance(keep, str) else tuple(keep)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise QuantizationError(f"no layer {unknown[0]!r} to keep; there are {', '.join(known)}")
    return names


# -- what the user feeds ----------------------------------------------------------------------


def collect_inputs(program: ProgramData, x: Any, quantized: bool) -> dict[str, Array]:
    """Checked arrays (n, *shape) by input name, from one array, a list, or a dict by name."""
    arrays = {
        entry.name: _checked(entry, value, quantized)
        for entry, value in zip(program.inputs, _by_input(program, x), strict=True)
    }
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise QuantizationError(f"inputs differ in their number of samples: {counts}")
    return arrays


def _by_input(program: ProgramData, x: Any) -> list[Any]:
    names = [entry.name for entry in program.inputs]
    if isinstance(x, Mapping):
        if set(x) != set(names):
            raise QuantizationError(
                f"inputs named {', '.join(map(str, x)) or '(none)'} for a program whose inputs "
                f"are {', '.join(names)}"
            )
        return [x[name] for name in names]
    if len(names) == 1:
        # A list of one array is what several-input code feeds; any other list is the samples.
        return [x[0]] if isinstance(x, list | tuple) and _is_one_batch(program, x) else [x]
    if not isinstance(x, list | tuple) or len(x) != len(names):
        raise QuantizationError(
            f"this program has {len(names)} inputs: give a list in the order "
            f"{', '.join(names)}, or a dict"
        )
    return list(x)


def _is_one_batch(program: ProgramData, x: Sequence[Any]) -> bool:
    return len(x) == 1 and np.ndim(x[0]) == len(program.inputs[0].shape) + 1


def _checked(entry: ProgramInput, value: Any, quantized: bool) -> Array:
    name, shape = entry.name, tuple(entry.shape)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise QuantizationError(
            f"input {name!r} is no regular array: {error}. Several inputs are a list in the "
            "program's order, or a dict by name; it has those that its layers read"
        ) from error
    if array.dtype.kind not in "biuf":
        raise QuantizationError(f"input {name!r} holds {array.dtype}, not numbers; convert it")
    if array.size == 0:
        raise QuantizationError(f"input {name!r} is empty: there is no sample to compute")
    if array.shape[1:] != shape or array.ndim == 0:
        hint = "; add a batch dimension: x[None]" if array.shape == shape else ""
        expected = f"(n, {', '.join(map(str, shape))})"
        raise QuantizationError(f"input {name!r} has shape {array.shape}, not {expected}{hint}")
    if quantized:
        _check_integers(entry, array)
    elif array.dtype.kind == "f":
        _check_finite(entry, array)
    return array


def _check_finite(entry: ProgramInput, array: Array) -> None:
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(array.astype(np.float32, copy=False))
    if bad.any():
        samples = np.flatnonzero(bad.reshape(len(array), -1).any(axis=1))
        raise NonFiniteError(
            f"input {entry.name!r} holds {int(bad.sum())} numbers that are NaN or infinite in "
            f"float32, first in sample {int(samples[0])}; clean or scale the data"
        )


def _check_integers(entry: ProgramInput, array: Array) -> None:
    fmt = entry.format
    if array.dtype.kind not in "biu":
        raise QuantizationError(f"input {entry.name!r}: quantized inputs are integers")
    if int(array.min()) < fmt.qmin or int(array.max()) > fmt.qmax:
        raise QuantizationError(
            f"input {entry.name!r} leaves the range {fmt.qmin} .. {fmt.qmax} of its format {fmt}"
        )
