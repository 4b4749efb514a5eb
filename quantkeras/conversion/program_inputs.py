"""The inputs of a program, as the InputQuantizers of a quantized model say."""

from __future__ import annotations

from sanitize.graph import producer_of

from ..layers import program_input
from ..qmodel import QuantizedGraph
from ..runtime import ProgramInput
from .program_numbers import check_finite


def inputs_of(reading: QuantizedGraph) -> list[ProgramInput]:
    """What a quantized model is fed, where it is quantized at once; sizes may be unknown."""
    found = []
    for node, layer in reading.inputs():
        if reading.graph[producer_of(node.inputs[0])].kind == "input":
            check_finite(layer)
            found.append(program_input(node.inputs[0], node.shape, layer))
    return found
