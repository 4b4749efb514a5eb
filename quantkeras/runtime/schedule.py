"""When the tensors of a program live: what an engine may free, and what memory a device needs.

Layers run in order. A tensor lives from the layer that makes it to the last one that reads it;
outputs and kept tensors live to the end. Flatten and Reshape do not copy: their output is their
input under another shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..numerics.kinds import Trait

if TYPE_CHECKING:
    from .program import Program


def last_uses(program: Program, keep: Sequence[str]) -> list[list[str]]:
    """For each layer, the names that nobody reads after it; names in keep are never among them."""
    last: dict[str, int] = {entry.name: 0 for entry in program.inputs}
    for index, layer in enumerate(program.layers):
        last[layer.name] = index
        for name in layer.inputs:
            last[name] = index
    dropped: list[list[str]] = [[] for _ in program.layers]
    for name, index in last.items():
        if name not in keep:
            dropped[index].append(name)
    return dropped


def peak_bits(program: Program, bits: Mapping[str, int]) -> tuple[int, str]:
    """Most bits of tensors alive at one time, and the layer at which that is.

    bits: of one element of each tensor by name. While a layer runs, its inputs and its output
    are alive together; nothing is computed in place.
    """
    storage = _storage(program)
    sizes = {name: math.prod(shape) * bits[name] for name, shape in program.shapes.items()}
    last = {storage[name]: -1 for name in sizes}
    for index, layer in enumerate(program.layers):
        for name in (*layer.inputs, layer.name):
            last[storage[name]] = index
    for name in program.outputs:
        last[storage[name]] = len(program.layers)
    alive = {storage[entry.name] for entry in program.inputs}
    peak, where = 0, ""
    for index, layer in enumerate(program.layers):
        alive.add(storage[layer.name])
        total = sum(sizes[name] for name in alive)
        if total > peak:
            peak, where = total, layer.name
        alive = {name for name in alive if last[name] > index}
    return peak, where


def _storage(program: Program) -> dict[str, str]:
    """Name of the tensor in whose memory each tensor lies."""
    storage = {entry.name: entry.name for entry in program.inputs}
    for layer in program.layers:
        params = layer.params
        view = Trait.VIEWS in layer.spec.traits and params.scale is None and params.table is None
        storage[layer.name] = storage[layer.inputs[0]] if view else layer.name
    return storage
