"""What a program leaves to layers that stay float, told to who converts."""

from __future__ import annotations

import warnings

from sanitize.graph import Graph

from ..errors import FloatTailWarning
from ..layers import HardwareLayer
from ..qmodel import layer_of
from ..quantization.final_functions import is_final_function
from ..runtime import FloatTail, Program

LISTED = 5
"""So many layers are named."""


def warn_of_floats(graph: Graph, program: Program, part: int) -> None:
    """Warn of what the program leaves to float layers in front of it and behind it, but for the
    functions at the end of the model. What is in front of a later part was asked for.
    """
    front = {node.name for node in graph.needed(entry.name for entry in program.inputs)}
    before = [tail for tail in program.float_tail if tail.name in front]
    lost = [
        tail
        for tail in program.float_tail
        if tail not in before and not is_final_function(graph, graph[tail.name])
    ]
    told = []
    if before and part == 0:
        told.append(
            f"begins behind what stays float: {_listed(before)}. It takes what these give, "
            f"{', '.join(repr(entry.name) for entry in program.inputs)}"
        )
    if lost:
        told.append(f"ends in front of what stays float: {_listed(lost)}. It gives what these read")
    if not told:
        return
    again = any(layer_of(graph[tail.name], HardwareLayer) for tail in lost)
    remedy = "export_onnx(model) exports them with it"
    if again:
        remedy = "convert_parts(model) gives the integers behind them, too"
    warnings.warn(
        f"program {program.name!r} {'; it '.join(told)}; {remedy}. Its float_tail says why.",
        FloatTailWarning,
        stacklevel=3,
    )


def _listed(tails: list[FloatTail]) -> str:
    named = ", ".join(f"{tail.name!r} ({tail.type})" for tail in tails[:LISTED])
    return named + (f" and {len(tails) - LISTED} more" if len(tails) > LISTED else "")
