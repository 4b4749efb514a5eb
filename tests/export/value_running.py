"""Programs of one layer in the value forms, against their integers, which may differ by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from onnx_running import channels_first, channels_last, metadata, run_onnx

from quantkeras.export import export_onnx
from quantkeras.numerics import Format
from quantkeras.runtime import Program

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
    integers = program.run_integers(inputs, "all", engine="reference")[layer.name]
    wanted = layer.dequantize(integers)
    feeds = {name: np.ascontiguousarray(x, np.float32) for name, x in inputs.items()}
    first = options.get("input_layout") == "nchw"
    if first:
        feeds = {name: np.ascontiguousarray(channels_first(x)) for name, x in feeds.items()}
    found = run_onnx(model, feeds)[layer.name]
    found = channels_last(found) if first else found
    assert found.shape == wanted.shape
    assert metadata(model)["form"] == options["format"]
    allowed = np.ones(wanted.shape)
    if layer.output_format is None and layer.params.scale is None:
        allowed = allowed * 0
    if layer.params.table is not None:
        lowest, highest = neighbours(layer.params.table, integers, program, inputs)
        assert ((found >= lowest - 1e-3) & (found <= highest + 1e-3)).all()
        return model
    step = 1.0 if layer.output_format is None else layer.output_format.lsb
    np.testing.assert_array_less(
        abs(found - wanted) / step, allowed + slack(program, inputs) + 1e-6
    )
    return model


def neighbours(
    table: np.ndarray, integers: np.ndarray, program: Program, inputs: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and largest entries at the index of each element and beside it."""
    (layer,) = program.layers
    plain = replace(layer, params=replace(layer.params, table=None))
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
    from quantkeras.runtime.bounds import program_bounds

    (layer,) = program.layers
    bounds = program_bounds(program)[layer.name]
    largest = max(bounds.peak, bounds.total_peak, 1)
    if layer.params.scale is None:
        return largest * FLOAT32_ERROR
    gain = np.max(layer.params.scale * np.exp2(-layer.params.shift.astype(float)))
    return float(largest * gain * FLOAT32_ERROR)
