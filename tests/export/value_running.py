"""The value forms against the program: each layer, on what it is given, may differ by one step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from onnx_running import channels_first, channels_last, metadata, run_onnx, with_all_integers

from quantkeras.numerics import Format
from quantkeras.numerics.arrays import IntArrays
from quantkeras.numerics.hardware_kinds import Trait
from quantkeras.numerics.layer import run_layer
from quantkeras.onnx import export_onnx
from quantkeras.onnx.value.value_form import limits_of
from quantkeras.onnx.value.value_types import Limits, zero_point
from quantkeras.runtime import Program, ProgramInput

FLOAT32_ERROR = 2.0**-20
"""Relative to the largest number formed: what sums in float32 may lose."""


def with_output_format(program: Program) -> Program:
    """A program of one layer whose rescaled output has a format, as those of networks have."""
    (layer,) = program.layers
    params = layer.params
    if params.scale is None or params.table is not None:
        return program
    bits = int(params.qmax - params.qmin).bit_length()
    fmt = Format(bits, params.qmin < 0, 0)
    return Program(
        program.inputs, (replace(layer, output_format=fmt, output_scale=None),), program.outputs
    )


def assert_within_one(program: Program, inputs: dict[str, np.ndarray], **options: Any) -> Any:
    """The values of the output are those of its integers, or of neighbours; returns the model."""
    (layer,) = program.layers
    model = export_onnx(program, **options)
    feeds = {name: np.ascontiguousarray(x, np.float32) for name, x in inputs.items()}
    first = options.get("input_layout") == "nchw"
    if first:
        feeds = {name: np.ascontiguousarray(channels_first(x)) for name, x in feeds.items()}
    found = run_onnx(model, feeds)[layer.name]
    assert metadata(model)["form"] == options["format"]
    assert_values_within_one(program, inputs, channels_last(found) if first else found)
    return model


def assert_layers_within_one(program: Program, inputs: dict[str, np.ndarray], form: str) -> None:
    """Each layer of a network, on what the layers before it gave in the same form.

    What one layer rounds otherwise, the next ones carry on: only layer by layer is there a bound.
    """
    model = export_onnx(program, format=form)
    feeds = {name: np.ascontiguousarray(x, np.float32) for name, x in inputs.items()}
    found = run_onnx(with_all_integers(model), feeds, "ENABLE_BASIC")
    known: dict[str, ProgramInput] = {}
    values: dict[str, np.ndarray] = {}
    described = metadata(model)
    for entry, said in zip(program.inputs, described["inputs"], strict=True):
        known[entry.name] = ProgramInput(entry.name, entry.shape, entry.format)
        limits = Limits(entry.format.qmin, entry.format.qmax)
        values[entry.name] = _held(found[said["tensor"]], limits, entry.format.lsb)
    for layer, said in zip(program.layers, described["layers"], strict=True):
        lsb = layer.output_scale if layer.output_format is None else layer.output_format.lsb
        values[layer.name] = _held(found[said["tensor"]], limits_of(layer), lsb)
        if not known.keys() >= set(layer.inputs):  # an accumulator has no format, and only moves
            assert Trait.PASSES in layer.spec.traits and layer.output_format is None
            moved = [values[name] for name in layer.inputs]
            wanted = run_layer(layer.spec, layer.params, moved, IntArrays())
            np.testing.assert_array_equal(values[layer.name], wanted, err_msg=layer.name)
            continue
        alone = Program(
            tuple(known[name] for name in dict.fromkeys(layer.inputs)), (layer,), (layer.name,)
        )
        given = {name: values[name] for name in layer.inputs}
        assert_values_within_one(alone, given, values[layer.name])
        if layer.output_format is not None:
            known[layer.name] = ProgramInput(layer.name, layer.output_shape, layer.output_format)


def _held(tensor: np.ndarray, limits: Limits | None, lsb: Any) -> np.ndarray:
    """The values behind a tensor of the graph: integers with a zero point, or floats."""
    if tensor.dtype.kind != "f":
        integers = tensor.astype(np.float64) - zero_point(tensor.dtype, limits)
        return channels_last(integers) * lsb
    return channels_last(tensor)


def assert_values_within_one(
    program: Program, inputs: dict[str, np.ndarray], found: np.ndarray
) -> None:
    """found: the output of a program of one layer, channels last."""
    (layer,) = program.layers
    integers = program.run_integers(inputs, "all", engine="reference")[layer.name]
    wanted = layer.dequantize(integers)
    assert found.shape == wanted.shape, layer.name
    allowed = np.ones(wanted.shape)
    if layer.output_format is None and layer.params.scale is None:
        allowed = allowed * 0
    if layer.params.table is not None:
        lowest, highest = neighbours(layer.params.table, integers, program, inputs)
        units = found if layer.output_format is None else found / layer.output_format.lsb
        assert ((units >= lowest - 1e-3) & (units <= highest + 1e-3)).all(), layer.name
        return
    # Without a format of its own the output is the accumulator times a scale.
    accumulator = 1.0 if layer.output_scale is None else layer.output_scale
    step = accumulator if layer.output_format is None else layer.output_format.lsb
    np.testing.assert_array_less(
        abs(found - wanted) / step, allowed + slack(program, inputs) + 1e-6, err_msg=layer.name
    )


def neighbours(
    table: np.ndarray, integers: np.ndarray, program: Program, inputs: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and largest entries at the index of each element and beside it."""
    (layer,) = program.layers
    bare_params = replace(layer.params, table=None)
    plain = replace(layer, params=bare_params, output_format=None, output_scale=np.float32(1))
    bare = Program(program.inputs, (plain,), program.outputs)
    index = bare.run_integers(inputs, "all", engine="reference")[layer.name] - layer.params.qmin
    around = [np.clip(index + by, 0, len(table) - 1) for by in (-1, 0, 1)]
    if table.ndim == 2:
        entries = [table[at, np.arange(table.shape[1])] for at in around]
    else:
        entries = [table[at] for at in around]
    return np.minimum.reduce(entries), np.maximum.reduce(entries)


def slack(program: Program, inputs: dict[str, np.ndarray]) -> float:
    """What float32 may lose, in steps of the output."""
    from quantkeras.runtime.program_bounds import program_bounds

    (layer,) = program.layers
    bounds = program_bounds(program)[layer.name]
    largest = max(bounds.peak, bounds.total_peak, 1)
    if layer.params.scale is None:
        return largest * FLOAT32_ERROR
    gain = np.max(layer.params.scale * np.exp2(-layer.params.shift.astype(float)))
    return float(largest * gain * FLOAT32_ERROR)
