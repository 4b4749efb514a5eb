"""Bounds of every layer of a program, from the formats of its inputs and its actual integers."""

from __future__ import annotations

from ..errors import QuantizationError
from ..numerics.bounds import LayerBounds, layer_bounds
from ..numerics.interval import Interval
from .parts import ProgramLayer
from .program_data import ProgramData


def program_bounds(program: ProgramData) -> dict[str, LayerBounds]:
    """Bounds by name of layer, following the program from its inputs.

    Raises AccumulatorTooWide for a layer that no engine computes exactly, and QuantizationError
    for one whose integers do not fit the format it declares.
    """
    intervals = {entry.name: Interval.of_format(entry.format) for entry in program.inputs}
    shapes = program.shapes
    bounds = {}
    for layer in program.layers:
        found = layer_bounds(
            layer.spec,
            layer.params,
            [intervals[name] for name in layer.inputs],
            [shapes[name] for name in layer.inputs],
            layer.name,
        )
        _check_format(layer, found.output)
        bounds[layer.name] = found
        intervals[layer.name] = found.output
    return bounds


def _check_format(layer: ProgramLayer, output: Interval) -> None:
    low, high, fmt = int(output.lo), int(output.hi), layer.output_format
    if fmt is not None and (low < fmt.qmin or high > fmt.qmax):
        raise QuantizationError(
            f"layer {layer.name!r} gives integers in [{low}, {high}], but its format {fmt} holds "
            f"[{fmt.qmin}, {fmt.qmax}]; give it a rescale that saturates"
        )
