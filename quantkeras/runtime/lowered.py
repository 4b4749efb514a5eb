"""A program as a device holds it: a storage type and a place for each tensor, plain rescales.

What a program leaves to whoever runs it is decided here once, for engines and exporters alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..numerics.bounds import LayerBounds
from ..numerics.interval import Interval
from ..numerics.layer import LayerParams
from .arena import place
from .packing import NARROWEST_FIRST, NIBBLES, limits_of_type
from .parts import ProgramLayer, Shape
from .program_bounds import program_bounds
from .program_data import ProgramData
from .schedule import Block, lifetimes, most_alive, storage_of

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of one sample in memory.

    Attributes:
        name: of the program's tensor.
        shape: unbatched.
        low: its smallest integer.
        high: its largest one.
        dtype: ``int8``, ``uint8``, ``int16``, ``uint16``, ``int32``, ``uint32`` or ``int64``, the
            narrowest that holds low .. high; ``int4`` or ``uint4`` where two numbers share a byte.
        offset: bytes from the start of the arena.
        lives: numbers of the layers at which it is needed.
        view_of: the tensor whose memory it is, under another shape; None for memory of its own.
    """

    name: str
    shape: Shape
    low: int
    high: int
    dtype: str
    offset: int
    lives: range
    view_of: str | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return bytes_of(self.dtype, math.prod(self.shape))


@dataclass(frozen=True, eq=False)
class Rescale:
    """``saturate((acc * factor + half) >> shift)``, with no shift to the left.

    Attributes:
        factor: int64, () or (channels,).
        shift: likewise, >= 0.
        half: likewise, 2**(shift - 1), or 0.
        low: what it saturates to from below.
        high: and from above.
        dtype: ``int32`` or ``int64``, what holds ``acc * factor + half``.
    """

    factor: Ints
    shift: Ints
    half: Ints
    low: int
    high: int
    dtype: str


@dataclass(frozen=True, eq=False)
class LoweredLayer:
    """A layer with its tensors and its proof.

    Attributes:
        layer: the program's.
        inputs: what it reads.
        output: what it makes.
        bounds: what its numbers reach at most.
        accumulator: ``int32`` or ``int64``, what holds every sum on the way.
        rescale: None for a layer that keeps its accumulator.
    """

    layer: ProgramLayer
    inputs: tuple[StoredTensor, ...]
    output: StoredTensor
    bounds: LayerBounds
    accumulator: str
    rescale: Rescale | None


@dataclass(frozen=True, eq=False)
class Lowered:
    """A program with its memory planned.

    Attributes:
        program: the program.
        tensors: by name, inputs of the program first.
        layers: in order.
        arena_bytes: what holds all tensors of one sample, each at its offset.
        peak_layer: where most of them are needed together.
        least_bytes: what these take, which no plan can fall below.
    """

    program: ProgramData
    tensors: dict[str, StoredTensor]
    layers: tuple[LoweredLayer, ...]
    arena_bytes: int
    peak_layer: str
    least_bytes: int


def lower(program: ProgramData, *, alignment: int = 1, packed: bool = True) -> Lowered:
    """Plan the memory of a program.

    Args:
        program: the program.
        alignment: offsets in the arena are multiples of it, in bytes.
        packed: tensors of up to 4 bits take half a byte a number, as in hardware that has such;
            else a byte.

    Returns:
        Storage types, offsets and plain rescales.

    Raises:
        AccumulatorTooWide: for a layer that no engine computes exactly.
        QuantizationError: for one whose integers do not fit the format it declares.

    Example:
        ``lower(program, alignment=16).arena_bytes``
    """
    bounds, shapes, storage = program_bounds(program), program.shapes, storage_of(program)
    limits = {entry.name: (entry.format.qmin, entry.format.qmax) for entry in program.inputs}
    for layer in program.layers:
        fmt, output = layer.output_format, bounds[layer.name].output
        if storage[layer.name] != layer.name:
            limits[layer.name] = limits[layer.inputs[0]]
        else:
            limits[layer.name] = _limits(output) if fmt is None else (fmt.qmin, fmt.qmax)
    types = {name: storage_type(*limits[name], packed) for name in shapes}
    lives = lifetimes(program)
    blocks = [
        Block(bytes_of(types[name], math.prod(shapes[name])), there.start, there.stop - 1)
        for name, there in lives.items()
    ]
    arena = place(blocks, alignment)
    offsets = dict(zip(lives, arena.offsets, strict=True))
    tensors = {
        name: StoredTensor(
            name,
            shapes[name],
            *limits[name],
            types[name],
            offsets[root],
            lives[root],
            None if root == name else root,
        )
        for name, root in storage.items()
    }
    layers = tuple(
        LoweredLayer(
            layer,
            tuple(tensors[name] for name in layer.inputs),
            tensors[layer.name],
            bounds[layer.name],
            _holder(max(bounds[layer.name].peak, bounds[layer.name].total_peak)),
            _rescale(layer.params, bounds[layer.name]),
        )
        for layer in program.layers
    )
    least, where = most_alive(blocks)
    peak = program.layers[where].name if program.layers else ""
    return Lowered(program, tensors, layers, arena.size, peak, least)


def storage_type(low: int, high: int, packed: bool = True) -> str:
    """Name of the narrowest type that holds integers low .. high; packed: of 4 bits, too."""
    for name in NARROWEST_FIRST:
        smallest, largest = limits_of_type(name)
        if smallest <= low and high <= largest and (packed or name not in NIBBLES):
            return name
    raise ValueError(f"no type holds [{low}, {high}]")


def bytes_of(dtype: str, elements: int) -> int:
    """What so many numbers of a storage type take."""
    return -(-elements // 2) if dtype in NIBBLES else elements * np.dtype(dtype).itemsize


def _limits(interval: Interval) -> tuple[int, int]:
    return int(interval.lo.min()), int(interval.hi.max())


def _holder(largest: int) -> str:
    return "int32" if largest < 2**31 else "int64"


def _rescale(params: LayerParams, bounds: LayerBounds) -> Rescale | None:
    if params.scale is None:
        return None
    scale, shift = np.broadcast_arrays(_integers(params.scale), _integers(params.shift))
    factor, shift = scale << np.maximum(-shift, 0), np.maximum(shift, 0)
    dtype = _holder(2**bounds.rescale_bits - 1)
    half = np.where(shift > 0, 1 << np.maximum(shift - 1, 0), 0)
    return Rescale(factor, shift, half, int(params.qmin), int(params.qmax), dtype)


def _integers(values: Any) -> Ints:
    return np.asarray(values, np.int64)
