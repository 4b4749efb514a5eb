"""The inputs of a program, as the InputQuantizers of a quantized model say."""

from __future__ import annotations

from sanitize.graph import Graph, producer_of

from ..layers import InputQuantizer, program_input
from ..runtime import ProgramInput
from .layer_numbers import check_finite


def inputs_of(graph: Graph) -> list[ProgramInput]:
    """What a quantized model is fed, where its graph quantizes it; sizes may be unknown."""
    found = []
    for node in graph:
        layer, first = node.attrs.get("layer"), node.inputs[0] if node.inputs else ""
        if isinstance(layer, InputQuantizer) and graph[producer_of(first)].kind == "input":
            check_finite(layer)
            found.append(program_input(first, node.shape, layer))
    return found
