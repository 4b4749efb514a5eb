"""Fitting a calibrated model to the accumulators of the hardware.

What an accumulator can reach is proved from the integers of each layer. Where that is more than it
holds, bits above 8 are given up, first of what has most of them: an activation of 16 bits becomes
one of 15 or 14, in the same 16-bit words, which costs less than anything else would. Where 8 bits
on either side are still too many the model is refused, and the error names settings that fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..conversion.convert import convert_parts
from ..errors import AccumulatorTooWide
from ..layers import (
    HardwareLayer,
    InputQuantizer,
    QuantizedMultiply,
    WeightedLayer,
    choose_carriers,
    forget_compiled,
)
from ..qmodel import QuantizedGraph
from ..runtime.costs import program_costs

FLOAT32_BITS = 25
"""Two's complement bits of the integers that float32 carries: below 2**24."""
KEPT_BITS = 8
"""Bits that are never given up."""
FEWEST_BITS = 2
"""The fewest that can be asked for."""
WIDEST_BUFFER = 32
ROUNDS = 4


@dataclass(frozen=True)
class _Excess:
    """A layer whose accumulator takes ``bits``, more than there are.

    operands: what its bits grow with, each a group of quantizers that are changed together.
    """

    layer: Any
    bits: int
    operands: list[list[Any]]


def fit_accumulators(reading: QuantizedGraph, buffer_bits: int) -> None:
    """Give up bits above 8 where accumulators of ``buffer_bits`` could overflow.

    Raises AccumulatorTooWide, with all layers in question, where that is not enough.
    """
    layers = list(dict.fromkeys(layer for _, layer in reading.hardware()))
    for _ in range(ROUNDS):
        wide = any(x.carrier == "float64" for x in layers if isinstance(x, WeightedLayer))
        if buffer_bits > FLOAT32_BITS and not wide and not _joins_far_apart(layers):
            return  # what float32 carries fits
        found = list(_excesses(reading, buffer_bits))
        if not found:
            return
        wanted: dict[int, tuple[Any, int]] = {}
        for excess in found:
            for quantizer, bits in _fewer_bits(excess, excess.bits - buffer_bits):
                least = min(bits, wanted.get(id(quantizer), (None, bits))[1])
                wanted[id(quantizer)] = (quantizer, least)
        if not wanted:
            break
        for quantizer, bits in wanted.values():
            quantizer.bits = bits
        for layer in layers:
            if isinstance(layer, WeightedLayer):
                layer.fit_weights()
        choose_carriers(layers)
        forget_compiled(reading.model)
    raise AccumulatorTooWide(_refusal(found, buffer_bits))


def _joins_far_apart(layers: Iterable[HardwareLayer]) -> bool:
    """Whether some layer aligns inputs whose steps lie so far apart that float32 is too narrow."""
    for layer in layers:
        formats = layer.input_formats
        if len(formats) > 1:
            fracs = [found.numpy().frac for found in formats]
            spread = max(int(f.max()) for f in fracs) - min(int(f.min()) for f in fracs)
            if spread + max(found.bits for found in formats) >= FLOAT32_BITS:
                return True
    return False


def _excesses(reading: QuantizedGraph, buffer_bits: int) -> Iterator[_Excess]:
    layers = {node.name: layer for node, layer in reading.hardware()}
    costs = [cost for program in convert_parts(reading) for cost in program_costs(program).layers]
    for cost in costs:
        layer = layers.get(cost.layer.name)
        if cost.accumulator_bits > buffer_bits and layer is not None:
            yield _Excess(layer, cost.accumulator_bits, _operands(reading, layer))


def _operands(reading: QuantizedGraph, layer: HardwareLayer) -> list[list[Any]]:
    quantizers: dict[str, Any] = {quantizer.name: quantizer for _, quantizer in reading.inputs()}
    quantizers |= {maker.name: maker.output_quantizer for _, maker in reading.hardware()}
    read = [[quantizers[name] for name in source.producers] for source in layer.input_formats]
    if isinstance(layer, WeightedLayer):
        return [read[0], [layer.weight_quantizer]]
    if isinstance(layer, QuantizedMultiply):
        return read
    return [[quantizer for group in read for quantizer in group]]  # one grows with the other


def _fewer_bits(excess: _Excess, count: int) -> list[tuple[Any, int]]:
    """Quantizers and the bits left to them when ``count`` bits are given up; [] if it can't be."""
    bits = [max(quantizer.bits for quantizer in group) for group in excess.operands]
    fixed = [any(getattr(q, "integer_input", False) for q in group) for group in excess.operands]
    for _ in range(count):
        able = [i for i, b in enumerate(bits) if b > KEPT_BITS and not fixed[i]]
        if not able:
            return []
        bits[max(able, key=lambda i: bits[i])] -= 1
    pairs = [(q, b) for group, b in zip(excess.operands, bits, strict=True) for q in group]
    return [(quantizer, b) for quantizer, b in pairs if quantizer.bits > b]


def _refusal(found: list[_Excess], buffer_bits: int) -> str:
    told = "; ".join(_needs(excess, buffer_bits) for excess in found)
    return (
        f"accumulators of {buffer_bits} bits (buffer_bits) can overflow: {told}. Fewer bits can "
        "be set for the whole model, or in an override of these layers, or of those in front of "
        "them for activations."
    )


def _needs(excess: _Excess, buffer_bits: int) -> str:
    """One layer, and each single setting that fits it."""
    count = excess.bits - buffer_bits
    ways = []
    if isinstance(excess.layer, WeightedLayer):
        ways.append(("weight_bits", excess.layer.weight_quantizer.bits - count))
    activations = excess.operands[0]
    if not any(getattr(quantizer, "integer_input", False) for quantizer in activations):
        from_input = all(isinstance(quantizer, InputQuantizer) for quantizer in activations)
        name = "input_bits" if from_input else "activation_bits and output_bits"
        ways.append((name, max(quantizer.bits for quantizer in activations) - count))
    fitting = [f"{name}={min(bits, 8)}" for name, bits in ways if bits >= FEWEST_BITS]
    if excess.bits <= WIDEST_BUFFER:
        fitting.append(f"buffer_bits={excess.bits}")
    fitting = fitting or ["float_layers with its name"]
    return f"{excess.layer.name!r} needs {excess.bits} bits; what fits: {' or '.join(fitting)}"
