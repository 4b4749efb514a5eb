"""When the tensors of a program live: what an engine may free, and what memory a device needs.

Layers run in order. A tensor lives from the layer that makes it to the last one that reads it;
outputs and kept tensors live to the end. Flatten and Reshape do not copy: their output is their
input under another shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..numerics.hardware_kinds import Trait
from .program_data import ProgramData


class Block(NamedTuple):
    """Memory that is needed while the layers number first .. last run. size: in any unit."""

    size: int
    first: int
    last: int

    def meets(self, other: Block) -> bool:
        """Whether both are needed at some time."""
        return self.first <= other.last and other.first <= self.last


def last_uses(program: ProgramData, keep: Sequence[str]) -> list[list[str]]:
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


def storage_of(program: ProgramData) -> dict[str, str]:
    """Name of the tensor in whose memory each tensor lies."""
    storage = {entry.name: entry.name for entry in program.inputs}
    for layer in program.layers:
        params = layer.params
        view = Trait.VIEWS in layer.spec.traits and params.scale is None and params.table is None
        storage[layer.name] = storage[layer.inputs[0]] if view else layer.name
    return storage


def lifetimes(program: ProgramData) -> dict[str, range]:
    """Numbers of the layers at which each tensor that has memory of its own is needed.

    While a layer runs, its inputs and its output are needed together: nothing is computed in
    place. Inputs of the program are there from the start, its outputs stay until the last layer.
    """
    storage = storage_of(program)
    first = {storage[entry.name]: 0 for entry in program.inputs}
    last = dict(first)
    for index, layer in enumerate(program.layers):
        first.setdefault(storage[layer.name], index)
        for name in (*layer.inputs, layer.name):
            last[storage[name]] = index
    for name in program.outputs:
        last[storage[name]] = max(len(program.layers) - 1, 0)
    return {name: range(first[name], last[name] + 1) for name in first}


def most_alive(blocks: Iterable[Block]) -> tuple[int, int]:
    """The largest sum of blocks that are needed at one time, and the number of the layer then."""
    changes: dict[int, int] = {}
    for size, first, last in blocks:
        changes[first] = changes.get(first, 0) + size
        changes[last + 1] = changes.get(last + 1, 0) - size
    most, where, alive = 0, 0, 0
    for index in sorted(changes):
        alive += changes[index]
        if alive > most:
            most, where = alive, index
    return most, where


def live_elements(program: ProgramData) -> int:
    """Most elements of tensors that are needed at one time, of one sample."""
    shapes = program.shapes
    lives = lifetimes(program).items()
    return most_alive(Block(math.prod(shapes[x]), r.start, r.stop - 1) for x, r in lives)[0]
