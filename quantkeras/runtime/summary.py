"""The table that `Program.summary` prints: layers, bits, work, memory, accumulators, float tail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..numerics.layer import LayerSpec
from .costs import LayerCost, ProgramCosts, program_costs

if TYPE_CHECKING:
    from .program import Program

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


def show(program: Program, print_fn: Callable[[str], object] | None, accumulator_bits: int) -> None:
    """Print the table with print_fn, or to the terminal: with rich if it is there."""
    costs = program_costs(program)
    rows = [row(cost, accumulator_bits) for cost in costs.layers]
    notes = footer(program, costs)
    if print_fn is None and _show_rich(program.name, rows, notes):
        return
    emit = print if print_fn is None else print_fn
    for line in [program.name, *plain_table(rows), *notes]:
        emit(line)


def row(cost: LayerCost, accumulator_bits: int) -> tuple[str, ...]:
    """The cells of one layer; spare: bits left of an accumulator of accumulator_bits."""
    layer = cost.layer
    inputs = "/".join(str(bits) for bits in sorted(set(cost.input_bits)))
    weights = str(layer.weight_bits) if cost.weights else "-"
    return (
        layer.name,
        describe(layer.spec),
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


def describe(spec: LayerSpec) -> str:
    """The steps of a layer, in order: ``conv2d+max_pool+relu``."""
    steps = [spec.kind]
    if spec.pool is not None and spec.pool.kind == "max":
        steps.append("max_pool")
    if spec.relu:
        steps.append("relu")
    if spec.pool is not None and spec.pool.kind != "max":
        steps.append(f"{spec.pool.kind}_pool")
    return "+".join(steps)


def kernel(spec: LayerSpec) -> str:
    """Size of the window, with stride, dilation and groups where they are not one."""
    window = spec.window
    if window is None:
        return "-"
    text = "x".join(map(str, window.size))
    for mark, pair in (("/", window.strides), (" d", window.dilation)):
        if pair != (1, 1):
            text += mark + (str(pair[0]) if pair[0] == pair[1] else "x".join(map(str, pair)))
    return text + (f" g{spec.groups}" if spec.groups > 1 else "")


def footer(program: Program, costs: ProgramCosts) -> list[str]:
    """Totals, and what stayed in floating point."""
    widest = max(costs.layers, key=lambda cost: cost.accumulator_bits)
    lines = [
        f"MACs {costs.macs:,} · weights {costs.weight_bytes:,} bytes · activations at most "
        f"{costs.peak_bytes:,} bytes at once ({costs.peak_layer})",
        f"widest accumulator {widest.accumulator_bits} bits ({widest.layer.name}); "
        f"outputs: {', '.join(program.outputs)}",
    ]
    for tail in program.float_tail:
        lines.append(f"stays in float: {tail.name} ({tail.type}): {tail.reason}")
    return lines


def plain_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The table as lines of plain text."""
    widths = [max(map(len, column)) for column in zip(HEADER, *rows, strict=True)]
    lines = []
    for cells in (HEADER, *rows):
        padded = [
            cell.rjust(width) if index >= FIRST_NUMBER else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return lines


def _show_rich(title: str, rows: Sequence[Sequence[str]], notes: Sequence[str]) -> bool:
    """Print with rich; False where it is not installed, as NumPy alone must do, and where the
    output is no terminal: rich would fold the table into 80 columns.
    """
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    console = Console()
    if not console.is_terminal:
        return False
    table = Table(title=Text(title), title_justify="left")
    for index, name in enumerate(HEADER):
        table.add_column(name, justify="right" if index >= FIRST_NUMBER else "left")
    for cells in rows:
        table.add_row(*map(Text, cells))  # names are text, not markup
    console.print(table)
    for line in notes:
        console.print(line, markup=False, highlight=False)
    return True
