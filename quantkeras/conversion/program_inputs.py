"""The inputs of a program, as the InputQuantizers of a quantized model say."""

from __future__ import annotations

from typing import Any

import numpy as np

from sanitize.graph import Graph, producer_of

from ..layers import InputQuantizer
from ..runtime import ProgramInput
from .layer_numbers import as_array, check_finite


def program_input(name: str, shape: tuple[Any, ...], layer: InputQuantizer) -> ProgramInput:
    """The input of that name and unbatched shape that a layer quantizes."""
    check_finite(layer)
    scale = as_array(layer.scale, np.float32)
    offset = as_array(layer.offset, np.float32) if layer.has_offset else None
    return ProgramInput(
        name,
        shape,
        layer.output_format(shape).numpy().compact(),
        None if (scale == 1).all() else scale,
        None if offset is None or not offset.any() else offset,
    )


def inputs_of(graph: Graph) -> list[ProgramInput]:
    """What a quantized model is fed, where its graph quantizes it; sizes may be unknown."""
    found = []
    for node in graph:
        layer, first = node.attrs.get("layer"), node.inputs[0] if node.inputs else ""
        if isinstance(layer, InputQuantizer) and graph[producer_of(first)].kind == "input":
            found.append(program_input(first, node.shape, layer))
    return found
