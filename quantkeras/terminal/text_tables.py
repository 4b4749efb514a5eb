"""Tables for people: with rich on a terminal, in plain text anywhere else."""

from __future__ import annotations

from collections.abc import Sequence


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """The table as lines; the first ``left`` columns are aligned to the left, others right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for cells in (header, *rows):
        padded = [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return lines


def print_table(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str] = (),
    left: int = 1,
) -> None:
    """Print title, table and notes to standard output."""
    if not _print_rich(title, header, rows, notes, left):
        print("\n".join([title, *plain_table(header, rows, left), *notes]))


def _print_rich(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str],
    left: int,
) -> bool:
    """False where rich is not installed, and where the output is no terminal: rich would fold the
    table into 80 columns.
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
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index < left else "right")
    for cells in rows:
        table.add_row(*map(Text, cells))  # names are text, not markup
    console.print(table)
    for line in notes:
        console.print(line, markup=False, highlight=False)
    return True
