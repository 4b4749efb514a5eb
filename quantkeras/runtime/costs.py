"""What each layer of a program costs: work, memory, and the accumulator it needs.

All figures are for one sample. MACs count every multiplication by a weight, also those by the
zeros of the padding, as hardware does them. A transposed convolution multiplies every input pixel
by the whole kernel, and has no products by the zeros between the pixels. Products of two tensors
are no MACs. Weight bytes are packed at the bits of the weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..numerics.interval import Interval, bits_needed
from .bounds import program_bounds
from .parts import ProgramLayer, Shape
from .schedule import peak_bits

if TYPE_CHECKING:
    from .program import Program


@dataclass(frozen=True)
class LayerCost:
    """Figures of one layer.

    input_bits, output_bits, accumulator_bits: sign included. weights, bias: how many. accumulator:
    the largest magnitude that the accumulator reaches for some input within the formats.
    """

    layer: ProgramLayer
    input_shapes: tuple[Shape, ...]
    input_bits: tuple[int, ...]
    output_bits: int
    macs: int
    weights: int
    weight_bytes: int
    accumulator: int
    accumulator_bits: int


@dataclass(frozen=True)
class ProgramCosts:
    """Figures of all layers; peak_bytes: most activation bytes alive at one time, packed, while
    the layer called peak_layer runs.
    """

    layers: tuple[LayerCost, ...]
    peak_bytes: int
    peak_layer: str

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all layers."""
        return sum(cost.macs for cost in self.layers)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights; layers that share an array count it once."""
        seen = {id(cost.layer.params.weights): cost.weight_bytes for cost in self.layers}
        return sum(seen.values())


def program_costs(program: Program) -> ProgramCosts:
    """Figures of a program; proves its bounds on the way, with the errors of `program_bounds`."""
    shapes, bounds = program.shapes, program_bounds(program)
    bits = {entry.name: entry.format.bits for entry in program.inputs}
    costs = []
    for layer in program.layers:
        found = bounds[layer.name]
        fmt = layer.output_format
        bits[layer.name] = fmt.bits if fmt is not None else _bits(found.output)
        weights = 0 if layer.params.weights is None else int(np.size(layer.params.weights))
        costs.append(
            LayerCost(
                layer,
                tuple(shapes[name] for name in layer.inputs),
                tuple(bits[name] for name in layer.inputs),
                bits[layer.name],
                _macs(layer, [shapes[name] for name in layer.inputs]),
                weights,
                -(-weights * layer.weight_bits // 8),
                max(int(x.largest.max()) for x in (found.accumulator, found.total)),
                max(_bits(found.accumulator), _bits(found.total)),
            )
        )
    peak, where = peak_bits(program, bits)
    return ProgramCosts(tuple(costs), -(-peak // 8), where)


def _bits(interval: Interval) -> int:
    return int(bits_needed(interval).max())


def _macs(layer: ProgramLayer, inputs: list[Shape]) -> int:
    spec, weights = layer.spec, layer.params.weights
    if spec.kind == "dense":
        return math.prod(inputs[0][:-1]) * int(np.size(weights))
    if spec.window is None or weights is None:
        return 0
    height, width = spec.window.output_size(inputs[0][:2])
    if spec.window.input_dilation != (1, 1):
        height, width = inputs[0][:2]
    return height * width * int(np.size(weights))
