"""Which layers suffer from quantization: each alone quantized, or each alone in float.

What a layer does to the outputs is measured with all others in float ("on"), or with all others
quantized ("off"). Its weights and its output count separately, or together. Values that come
before the layer in question are the same each time, and are kept: on average half of the network
runs. Samples go through in small batches, so that little memory is needed.

Quantization noise of different layers is nearly independent, so the noise powers of "on" add up:
mixed precision (:mod:`.bit_widths`) is built on that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from sanitize.graph import Node, producer_of

from ..errors import QuantizationError
from ..layers import HardwareLayer, InputQuantizer, OutputQuantizer, WeightedLayer
from ..qmodel import QuantizedGraph, rounding_layer
from ..qmodel.views import compute_node
from ..terminal.progress import progress_bar
from ..terminal.text_tables import plain_table
from .layer_by_layer import float_parameters, gathered, quantized_params, weighted_call

Metric = Callable[[Any], float]

PARTS = ("both", "weights", "activations")
MODES = ("on", "off")
BATCH = 32


@dataclass(frozen=True)
class LayerSensitivity:
    """One layer.

    Attributes:
        layer: its name.
        noise: mean squared difference of the outputs from float.
        sqnr: signal-to-noise ratio in dB, infinite without noise.
        score: what the user's metric says, None without one.
    """

    layer: str
    noise: float
    sqnr: float
    score: float | None = None


@dataclass(frozen=True)
class SensitivityReport:
    """All layers, the most sensitive first.

    Attributes:
        mode: as asked for.
        parts: as asked for.
        layers: the layers, in that order.
        signal: mean square of the float outputs.
        quantized: the whole model quantized, for comparison.
    """

    mode: str
    parts: str
    layers: tuple[LayerSensitivity, ...]
    signal: float
    quantized: LayerSensitivity

    HEADER = ("layer", "SQNR dB", "score")

    def rows(self) -> list[tuple[str, ...]]:
        """The cells of the table under HEADER."""
        return [
            (
                entry.layer,
                f"{entry.sqnr:.1f}",
                "-" if entry.score is None else f"{entry.score:.4g}",
            )
            for entry in (*self.layers, self.quantized)
        ]

    def __str__(self) -> str:
        what = "alone quantized" if self.mode == "on" else "alone in float"
        title = f"each layer {what} ({self.parts})"
        return "\n".join([title, *plain_table(self.HEADER, self.rows(), left=1)])


def sensitivity(
    model: Any,
    samples: Any,
    parts: str = "both",
    mode: str = "on",
    metric: Metric | None = None,
    num_samples: int | None = 128,
) -> SensitivityReport:
    """Measure how much each layer of a quantized, calibrated model does to its outputs.

    Args:
        model: the model or its reading.
        samples: as for ``calibrate``, unlabelled.
        parts: "weights", "activations" (the layer's output) or "both".
        mode: "on" quantizes one layer at a time, "off" all but one.
        metric: takes the outputs for all samples (arrays, nested as the model's), gives a number,
            the larger the better, such as an accuracy; layers are then ordered by it instead of the
            SQNR. None: by the SQNR.
        num_samples: at most that many, None for all.

    Returns:
        The report; ``print`` shows it as a table.

    Raises:
        QuantizationError: for a model without quantized layers, bad samples and unknown choices.
    """
    for name, value, allowed in (("parts", parts, PARTS), ("mode", mode, MODES)):
        if value not in allowed:
            raise QuantizationError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")
    reading = QuantizedGraph.of(model)
    model = reading.model
    trial = _Trial(reading, parts, mode)
    data = gathered(model, samples, num_samples)
    outputs = trial.outputs(data)
    true = outputs.pop(_FLOAT)
    signal = _mean_square(true)

    def judged(name: str, found: Sequence[NDArray[Any]]) -> LayerSensitivity:
        noise = _mean_square([a - b for a, b in zip(found, true, strict=True)])
        sqnr = 10 * math.log10(signal / noise) if noise and signal else math.inf
        packed = keras.tree.pack_sequence_as(model.output, list(found))
        return LayerSensitivity(name, noise, sqnr, None if metric is None else metric(packed))

    whole = judged("(all quantized)", outputs.pop(_QUANTIZED))
    entries = [judged(name, found) for name, found in outputs.items()]
    sign = 1 if mode == "on" else -1

    def order(entry: LayerSensitivity) -> float:
        return sign * (entry.sqnr if entry.score is None else entry.score)

    return SensitivityReport(mode, parts, tuple(sorted(entries, key=order)), signal, whole)


_FLOAT, _QUANTIZED = "\0float", "\0quantized"


class _Trial:
    """Runs of a quantized graph in which each layer's parts are quantized or not."""

    def __init__(self, reading: QuantizedGraph, parts: str, mode: str) -> None:
        self.graph = reading.graph
        self.parts = parts
        self.base_on = mode == "off"
        self.floats = float_parameters(reading)
        self.rounded = {id(layer): quantized_params(layer) for _, layer in reading.weighted()}
        self.names: dict[str, list[str]] = {}  # by layer: call sites of a shared one go together
        for node in self.graph:
            layer = rounding_layer(node)
            if layer is not None and self._concerns(layer):
                self.names.setdefault(layer.name, []).append(node.name)

    def _concerns(self, layer: Any) -> bool:
        weights = isinstance(layer, WeightedLayer) and self.parts != "activations"
        return weights or (self.parts != "weights" and _quantizes_output(layer))

    def outputs(self, data: Mapping[str, NDArray[Any]]) -> dict[str, list[NDArray[Any]]]:
        """The outputs for all samples: float, quantized, and with each layer switched."""
        found: dict[str, list[list[NDArray[Any]]]] = {}
        count = len(next(iter(data.values())))
        starts = range(0, count, BATCH)
        with progress_bar(len(starts) * len(self.names), "switching layers") as advance:
            for start in starts:
                given = {name: array[start : start + BATCH] for name, array in data.items()}
                values = {on: self._run(given, on) for on in (False, True)}
                for name, on in ((_FLOAT, False), (_QUANTIZED, True)):
                    found.setdefault(name, []).append(self._ends(values[on]))
                for name, nodes in self.names.items():
                    switched = self._switched(values[self.base_on], nodes)
                    found.setdefault(name, []).append(self._ends(switched))
                    advance(1)
        return {
            name: [np.concatenate(batches) for batches in zip(*pieces, strict=True)]
            for name, pieces in found.items()
        }

    def _ends(self, values: Mapping[str, Any]) -> list[NDArray[Any]]:
        return [np.asarray(ops.convert_to_numpy(values[v])) for v in self.graph.outputs]

    def _run(self, given: Mapping[str, Any], on: bool) -> dict[str, Any]:
        values: dict[str, Any] = dict(given)
        for node in self.graph:
            if node.name not in values:
                self._compute(node, values, on)
        return values

    def _switched(self, base: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
        """The values after these nodes are switched; those that do not change are not computed."""
        values = dict(base)
        changed: set[str] = set()
        for node in self.graph:
            switched = node.name in names
            if switched or any(producer_of(v) in changed for v in node.inputs):
                self._compute(node, values, self.base_on != switched)
                changed.add(node.name)
        return values

    def _compute(self, node: Node, values: dict[str, Any], on: bool) -> None:
        xs = [values[value] for value in node.inputs]
        values |= compute_node(node, xs, lambda layer: self._computation(layer, on))

    def _computation(self, layer: Any, on: bool) -> Any:
        """What a layer computes with the parts in question quantized or not."""
        if on and self.parts == "both":
            return layer.call
        call = layer.float_call
        if isinstance(layer, WeightedLayer):
            found = self.rounded if on and self.parts == "weights" else self.floats
            call = weighted_call(layer, found[id(layer)])
        if on and self.parts == "activations" and _quantizes_output(layer):
            quantizer = layer if isinstance(layer, InputQuantizer) else layer.output_quantizer
            return lambda xs: OutputQuantizer.call(quantizer, call(xs))  # it is scaled already
        return call


def _quantizes_output(layer: Any) -> bool:
    if isinstance(layer, InputQuantizer):
        return not layer.integer_input
    return isinstance(layer, HardwareLayer) and layer.output_quantizer is not None


def _mean_square(arrays: Sequence[NDArray[Any]]) -> float:
    size = sum(array.size for array in arrays)
    total = sum(float(np.square(array, dtype=np.float64).sum()) for array in arrays)
    return total / max(size, 1)
