"""Outputs of a quantized model that have little to do with those of the float network.

Right after calibration a few of the samples go through both, layer by layer and eagerly, as
compiling would cost more than it all. An output that lost most of its signal is named in one
warning, with the layer where most of it was lost; and so is one whose channels lost what makes them
differ between samples, which means that are large, or other channels, would hide.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
from keras import ops

from sanitize.graph import Graph, Node, producer_of

from ..calibration.batches import Batch
from ..calibration.ports import input_names
from ..errors import QuantizationLossWarning
from ..layers import HardwareLayer, InputQuantizer
from ..qmodel import QuantizedGraph, layer_of, rounding_layer
from ..qmodel.views import compute_node
from .params import QuantizationParams

LEAST_DB = 20.0
"""Signal to quantization noise below which an output is worth a warning: an error of a tenth."""
LEAST_VARIATION_DB = 3.0
"""What a channel has to keep beside its mean: with less, samples can't be told from one another."""
LEAST_SHARE = 8
"""An output is told of where more than one in so many of its varying channels lose that."""
CONSTANT, FEWEST = 2.0**-14, 8
"""A channel that varies less than this, relative to its magnitude, is constant; nothing is said of
fewer values."""
CLEAN_DB = 50.0
"""No layer of 8 bits is better; what is, counts as this."""
ROWS, ELEMENTS, BYTES = 32, 2**19, 2**24
"""So many samples are looked at, and so many numbers of their inputs, at most; the bytes are those
in which the samples are looked for."""
FULL_BITS = 8
"""Who asks for fewer bits knows that it costs something."""

ADVICE = (
    "Look at the ranges there, and see whether more bits (an override, or input_bits for an "
    "input), equalize, adaround or float_layers help; 30 dB and more are usual."
)


@dataclass(frozen=True)
class _Loss:
    """An output that lost too much, by the layer that makes it.

    where: the layer whose rounding costs most; before, behind: dB of the output with all layers up
    to it rounded, without and with it. channels: how many channels these are of, beside their
    means; "" for the output as a whole.
    """

    output: str
    decibels: float
    where: str
    before: float
    behind: float
    channels: str = ""


def is_watched(qparams: QuantizationParams) -> bool:
    """Whether losses would be a surprise, and the warning about them would be shown."""
    widths = [
        qparams.activation_bits,
        qparams.output_bits,
        qparams.weight_bits,
        qparams.input_weight_bits,
        qparams.input_bits,
        qparams.last_weight_bits,
        qparams.last_output_bits,
        qparams.scale_bits,
    ]
    for override in qparams.overrides:
        widths += [override.weight_bits, override.activation_bits, override.output_bits]
    few = any(bits is not None and bits < FULL_BITS for bits in widths)
    return not few and not _is_ignored(QuantizationLossWarning)


def warn_of_losses(
    reading: QuantizedGraph, batches: Sequence[Batch], stacklevel: int = 2, advice: str = ADVICE
) -> None:
    """One warning about all outputs whose signal was lost on the first samples of the batches."""
    fed = _few_samples(batches)
    names = zip(reading.graph.inputs, input_names(reading.model), strict=True)
    samples = {name: fed[asked] for name, asked in names}
    losses = _losses(reading, samples)
    if not losses:
        return
    count = len(next(iter(samples.values())))
    told = "; ".join(_sentence(loss) for loss in losses)
    warnings.warn(
        f"On {count} of the calibration samples the quantized model is far from the float one: "
        f"{told}. {advice}",
        QuantizationLossWarning,
        stacklevel=stacklevel + 1,
    )


def _is_ignored(category: type[Warning]) -> bool:
    """Whether a filter for the whole category, or a wider one, silences it."""
    for action, message, kind, module, _ in warnings.filters:
        if message is None and module is None and issubclass(category, kind):
            return action == "ignore"
    return False


def _few_samples(batches: Sequence[Batch]) -> Batch:
    names = batches[0].keys()
    size = sum(int(np.prod(array.shape[1:])) for array in batches[0].values())
    rows = min(ROWS, max(1, ELEMENTS // max(1, size)))
    return {name: np.concatenate([b[name] for b in batches])[:rows] for name in names}


def _losses(reading: QuantizedGraph, samples: Batch) -> list[_Loss]:
    """Of each Dequantizer, which floats read or which makes an output."""
    graph, ends = reading.graph, [node.name for node, _ in reading.dequantizers()]
    layers = {node.name for node in graph if rounding_layer(node)}
    wanted, found = _values(graph, ends, samples, set()), _values(graph, ends, samples, layers)
    losses = []
    for end in ends:
        decibels = _decibels(wanted[end], found[end])
        if decibels is None:
            continue
        if decibels < LEAST_DB:
            losses.append(_located(graph, end, samples, wanted[end], decibels, _decibels))
            continue
        by_channel = _of_variation(wanted[end], found[end])
        lost, varying = by_channel < LEAST_VARIATION_DB, np.isfinite(by_channel)
        if lost.sum() * LEAST_SHARE > varying.sum():
            measure = partial(_of_channels, channels=lost)
            decibels = measure(wanted[end], found[end])
            loss = _located(graph, end, samples, wanted[end], decibels, measure)
            losses.append(replace(loss, channels=f"{lost.sum()} of {len(lost)}"))
    return losses


def _located(
    graph: Graph,
    end: str,
    samples: Batch,
    wanted: np.ndarray,
    decibels: float,
    measure: Callable[[np.ndarray, np.ndarray], float | None],
) -> _Loss:
    """Where an output loses most: on and on into the half of the layers in which more is lost."""
    layers = [node for node in graph.needed([end]) if rounding_layer(node)]
    first, last, before, behind = 0, len(layers), CLEAN_DB, decibels
    while last - first > 1:
        middle = (first + last) // 2
        rounded = {node.name for node in layers[:middle]}
        found = measure(wanted, _values(graph, [end], samples, rounded)[end])
        between = decibels if found is None else found
        if before - between >= between - behind:
            last, behind = middle, between
        else:
            first, before = middle, between
    output = graph[producer_of(graph[end].inputs[0])]
    return _Loss(_told(output), decibels, _told(layers[first]), before, behind)


def _values(
    graph: Graph, ends: Sequence[str], samples: Batch, rounded: Collection[str]
) -> dict[str, np.ndarray]:
    """The values of some nodes where the layers ``rounded`` compute in integers, others in float.

    What a layer of ``rounded`` reads is rounded, too.
    """
    needed = graph.needed(ends)
    uses = Counter(value for node in needed for value in node.inputs)
    values: dict[str, Any] = {}
    for node in needed:
        if node.kind == "input":
            values[node.name] = samples[node.name]
            continue
        call = attrgetter("call" if node.name in rounded else "float_call")
        values |= compute_node(node, [values[value] for value in node.inputs], call)
        uses.subtract(node.inputs)
        for value in node.inputs:
            if uses[value] == 0 and value not in ends:
                values.pop(value, None)
    return {end: ops.convert_to_numpy(values[end]) for end in ends}


def _decibels(wanted: np.ndarray, found: np.ndarray) -> float | None:
    """None for values without a signal: zeros, a constant, or what is not finite."""
    if wanted.size == 0 or (wanted == wanted.flat[0]).all():
        return None
    signal = float(np.mean(np.square(wanted, dtype=np.float64)))
    noise = float(np.mean(np.square(np.subtract(found, wanted, dtype=np.float64))))
    if not np.isfinite(signal + noise):
        return None
    worst = signal * 10 ** (-CLEAN_DB / 10)
    return CLEAN_DB if noise <= worst else float(10 * np.log10(signal / noise))


def _of_variation(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(c,) dB of each channel beside its mean; infinity for channels that do not vary: constants,
    and those that stay at one value in most places, as behind a ReLU that hardly ever opens.
    """
    values = wanted.reshape(-1, wanted.shape[-1] if wanted.ndim > 1 else 1).astype(np.float64)
    if len(values) < FEWEST:
        return np.full(values.shape[1], np.inf)
    spread, largest = values.std(axis=0), np.abs(values).max(axis=0)
    moved = np.abs(values - np.median(values, axis=0)) > spread / 8
    varies = (spread > CONSTANT * largest) & (moved.mean(axis=0) > 1 / 4)
    noise = (found.reshape(values.shape) - values).std(axis=0)
    worst = np.maximum(noise, spread * 10 ** (-CLEAN_DB / 20))
    ratio = np.divide(spread, worst, out=np.ones(spread.shape), where=varies)
    return np.where(varies, 20 * np.log10(ratio), np.inf)


def _of_channels(wanted: np.ndarray, found: np.ndarray, channels: np.ndarray) -> float:
    """The median of what some channels, (c,) bool, keep of their variation."""
    return float(np.median(_of_variation(wanted, found)[channels]))


def _sentence(loss: _Loss) -> str:
    kept = "signal to noise"
    if loss.channels:
        kept = f"what makes samples differ in {loss.channels} channels"
    return (
        f"{loss.output!r} keeps {loss.decibels:.1f} dB of {kept}, and rounding "
        f"{loss.where!r} costs most of it (from {loss.before:.1f} to {loss.behind:.1f} dB)"
    )


def _told(node: Node) -> str:
    """The name of a layer; of a quantizer of an input, that of the input."""
    if layer_of(node, InputQuantizer):
        return producer_of(node.inputs[0])
    layer = layer_of(node, HardwareLayer)
    return node.name if layer is None else str(layer.name)
