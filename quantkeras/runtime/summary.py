"""The table that `Program.summary` prints: layers, bits, work, memory, accumulators, float tail."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..numerics.layer import LayerSpec
from ..terminal.text_tables import plain_table, print_table
from .costs import LayerCost, ProgramCosts, program_costs
from .program_data import ProgramData

HEADER = (
    "layer",
    "kind",
    "input",
    "output",
    "in/w/out bits",
    "kernel",
    "MACs",
    "weight bytes",
    "max |acc|",
    "acc bits",
    "spare",
)
FIRST_NUMBER = HEADER.index("MACs")
"""This column and those after it are aligned to the right."""


def show(
    program: ProgramData, print_fn: Callable[[str], object] | None, accumulator_bits: int
) -> None:
    """Print the table with print_fn, or to the terminal: with rich if it is there."""
    costs = program_costs(program)
    rows = [row(cost, accumulator_bits) for cost in costs.layers]
    notes = footer(program, costs)
    if print_fn is None:
        print_table(program.name, HEADER, rows, notes, left=FIRST_NUMBER)
        return
    for line in [program.name, *plain_table(HEADER, rows, left=FIRST_NUMBER), *notes]:
        print_fn(line)


def row(cost: LayerCost, accumulator_bits: int) -> tuple[str, ...]:
    """The cells of one layer; spare: bits left of an accumulator of accumulator_bits."""
    layer = cost.layer
    inputs = "/".join(str(bits) for bits in sorted(set(cost.input_bits)))
    weights = str(layer.weight_bits) if cost.weights else "-"
    return (
        layer.name,
        describe(layer.spec, layer.params.table is not None),
        " ".join(dict.fromkeys("x".join(map(str, shape)) for shape in cost.input_shapes)),
        "x".join(map(str, layer.output_shape)),
        f"{inputs}/{weights}/{cost.output_bits}",
        kernel(layer.spec),
        f"{cost.macs:,}" if cost.macs else "-",
        f"{cost.weight_bytes:,}" if cost.weights else "-",
        f"{cost.accumulator:,}",
        str(cost.accumulator_bits),
        str(accumulator_bits - cost.accumulator_bits),
    )


def describe(spec: LayerSpec, table: bool = False) -> str:
    """The steps of a layer, in order: ``conv2d+max_pool+relu``; table: whether it ends in one."""
    widened = spec.window is not None and spec.window.input_dilation != (1, 1)
    steps = [f"{spec.kind} transposed" if widened else spec.kind]
    if spec.pool is not None and spec.pool.kind == "max":
        steps.append("max_pool")
    if spec.relu:
        steps.append("relu")
    if spec.pool is not None and spec.pool.kind != "max":
        steps.append(f"{spec.pool.kind}_pool")
    if table:
        steps.append("table")
    return "+".join(steps)


def kernel(spec: LayerSpec) -> str:
    """Size of the window, with stride, dilation and groups where they are not one; ``up2`` for
    the stride of a transposed convolution, and for repeated rows and columns.
    """
    window = spec.window
    if window is None:
        return f"up{_pair(spec.size)}" if spec.kind == "upsample" else "-"
    text = "x".join(map(str, window.size))
    marks = (("/", window.strides), (" d", window.dilation), (" up", window.input_dilation))
    text += "".join(mark + _pair(pair) for mark, pair in marks if pair != (1, 1))
    return text + (f" g{spec.groups}" if spec.groups > 1 else "")


def _pair(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else "x".join(map(str, pair))


def footer(program: ProgramData, costs: ProgramCosts) -> list[str]:
    """Totals, and what stayed in floating point."""
    widest = max(costs.layers, key=lambda cost: cost.accumulator_bits)
    lines = [
        f"MACs {costs.macs:,} · weights {costs.weight_bytes:,} bytes · activations at most "
        f"{costs.peak_bytes:,} bytes at once ({costs.peak_layer})",
        f"widest accumulator {widest.accumulator_bits} bits ({widest.layer.name}); "
        f"outputs: {', '.join(program.outputs)}",
    ]
    for entry in program.inputs:
        if entry.offset is not None:
            low, high = float(np.min(entry.offset)), float(np.max(entry.offset))
            span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            lines.append(f"input {entry.name}: {span} is subtracted before it is quantized")
    for tail in program.float_tail:
        lines.append(f"stays in float: {tail.name} ({tail.type}): {tail.reason}")
    return lines
