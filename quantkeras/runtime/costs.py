"""What each layer of a program costs: work, memory, and the accumulator it needs.

All figures are for one sample. MACs count every multiplication by a weight, also those by the
zeros of the padding, as hardware does them. A transposed convolution multiplies every input pixel
by the whole kernel, and has no products by the zeros between the pixels. Products of two tensors
are no MACs. Weight bytes are packed at the bits of the weight; activations lie as ``lowered.py``
plans it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..numerics.interval import Interval, bits_needed
from .lowered import lower
from .parts import ProgramLayer, Shape
from .program_data import ProgramData


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
    """Figures of all layers; peak_bytes: of the memory in which all activations of a sample find
    their place, two to a byte up to 4 bits, most of it in use while the layer called peak_layer
    runs.
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


def program_costs(program: ProgramData) -> ProgramCosts:
    """Figures of a program; proves its bounds on the way, with the errors of `program_bounds`."""
    lowered = lower(program)
    bits = {entry.name: entry.format.bits for entry in program.inputs}
    costs = []
    for each in lowered.layers:
        layer, found, fmt = each.layer, each.bounds, each.layer.output_format
        bits[layer.name] = fmt.bits if fmt is not None else _bits(found.output)
        weights = 0 if layer.params.weights is None else int(np.size(layer.params.weights))
        shapes = tuple(tensor.shape for tensor in each.inputs)
        costs.append(
            LayerCost(
                layer,
                shapes,
                tuple(bits[name] for name in layer.inputs),
                bits[layer.name],
                _macs(layer, shapes),
                weights,
                -(-weights * layer.weight_bits // 8),
                max(int(x.largest.max()) for x in (found.accumulator, found.total)),
                max(_bits(found.accumulator), _bits(found.total)),
            )
        )
    return ProgramCosts(tuple(costs), lowered.arena_bytes, lowered.peak_layer)


def _bits(interval: Interval) -> int:
    return int(bits_needed(interval).max())


def _macs(layer: ProgramLayer, inputs: Sequence[Shape]) -> int:
    spec, weights = layer.spec, layer.params.weights
    if spec.kind == "dense":
        return math.prod(inputs[0][:-1]) * int(np.size(weights))
    if spec.window is None or weights is None:
        return 0
    height, width = spec.window.output_size(inputs[0][:2])
    if spec.window.input_dilation != (1, 1):
        height, width = inputs[0][:2]
    return height * width * int(np.size(weights))
