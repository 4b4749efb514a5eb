"""Bias correction: quantized weights must not shift the mean of any channel.

Nagel et al. 2019, arXiv:1906.04721, section 4.2. Rounding (and clipping, where the ranges of
weights are the best in squared error) moves the mean output of a channel by eps * E[x], eps the
error of the weights; a bias takes that back. Empirically E is a mean over samples, measured layer
by layer with all layers before corrected; analytically it comes from the statistics of the batch
normalizations, without data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from ..errors import QuantizationError
from ..layers import WeightedLayer, forget_compiled
from ..qmodel import QuantizedGraph
from ..terminal.progress import progress_bar
from ..terminal.text_tables import plain_table
from .expectations import input_means, shift_of_means
from .layer_by_layer import BATCH, Step, Walk, core_values, quantized_params

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BiasResult:
    """What happened to the biases of one layer.

    Attributes:
        layer: its name.
        shift: root mean square over the channels of the mean error before, in units of the layer's
            output.
        relative: the same in standard deviations of the float output (empirical only).
        reason: why the layer was left as it is.
    """

    layer: str
    shift: float = 0.0
    relative: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class BiasReport:
    """What became of the biases.

    Attributes:
        layers: one entry per layer with weights, in the order of correction.
    """

    layers: tuple[BiasResult, ...]

    HEADER = ("layer", "mean error", "in deviations", "remark")

    def rows(self) -> list[tuple[str, ...]]:
        """The cells of the table under HEADER."""
        return [
            (
                entry.layer,
                "-" if entry.reason else f"{entry.shift:.3g}",
                "-" if entry.relative is None else f"{entry.relative:.3f}",
                entry.reason,
            )
            for entry in self.layers
        ]

    def __str__(self) -> str:
        return "\n".join(plain_table(self.HEADER, self.rows(), left=1))


def correct_bias(
    model: Any,
    samples: Any = None,
    float_model: keras.Model | None = None,
    num_samples: int | None = 512,
    verbose: bool = False,
) -> keras.Model:
    """Correct the biases of a quantized model.

    Call it once: what counts as the float model are the present weights and biases.

    Args:
        model: the model, which is changed, or its reading, see
            :class:`~quantkeras.qmodel.QuantizedGraph`.
        samples: unlabelled data, as for ``calibrate``: the biases are set so that every channel has
            the mean that it has in the float model. None: by float_model alone.
        float_model: without samples, the float network with its batch normalizations; layers that
            their statistics say nothing of stay as they are.
        num_samples: at most that many, None for all.
        verbose: print what was done for each layer.

    Returns:
        The model that was given.

    Raises:
        QuantizationError: for a model without quantized layers, for bad samples, and where there
            are neither samples nor a float model.
    """
    if samples is None and float_model is None:
        raise QuantizationError(
            "correct_bias needs samples, or float_model, the network with its batch normalizations"
        )
    reading = QuantizedGraph.of(model)
    if samples is not None:
        report = correct_empirically(reading, samples, num_samples)
    else:
        report = correct_analytically(reading, float_model)
    if verbose:
        print(report)
    return reading.model


def correct_empirically(model: Any, samples: Any, num_samples: int | None = 512) -> BiasReport:
    """:func:`correct_bias` with samples, layer by layer on the corrected layers before."""
    reading, entries = QuantizedGraph.of(model), list[BiasResult]()
    with (
        Walk(reading, samples, num_samples) as walk,
        progress_bar(walk.layers, "correcting biases") as advance,
    ):
        for step in walk:
            reason = _refusal(step.layer, step.node.share)
            if reason is not None:
                entries.append(BiasResult(step.node.name, reason=reason))
            else:
                error, deviation = _mean_error(step)
                _shift(step.layer, error)
                size, typical = (float(np.sqrt(np.mean(a**2))) for a in (error, deviation))
                relative = size / typical if typical else 0.0
                entries.append(BiasResult(step.node.name, size, relative))
            advance(1)
    forget_compiled(reading.model)
    return BiasReport(tuple(entries))


def correct_analytically(model: Any, float_model: keras.Model) -> BiasReport:
    """:func:`correct_bias` without data."""
    reading = QuantizedGraph.of(model)
    means: Mapping[str, Array | str] = input_means(reading, float_model)
    entries: list[BiasResult] = []
    for node, layer in reading.weighted():
        mean = means[node.name]
        reason = _refusal(layer, node.share)
        if reason is None and isinstance(mean, str):
            reason = mean
        if reason is not None or isinstance(mean, str):
            entries.append(BiasResult(node.name, reason=reason or ""))
            continue
        error = shift_of_means(layer, mean)
        _shift(layer, error)
        entries.append(BiasResult(node.name, float(np.sqrt(np.mean(error**2)))))
    forget_compiled(reading.model)
    return BiasReport(tuple(entries))


def _refusal(layer: WeightedLayer, share: str | None) -> str | None:
    if layer.bias is None:
        return "it has no bias"
    if share is not None:
        return "it is a shared layer, whose call sites would want different biases"
    return None


def _mean_error(step: Step) -> tuple[Array, Array]:
    """(c,) mean of quantized minus float output, and deviation of the float output."""
    params = quantized_params(step.layer)
    error = np.zeros(1)
    for start in range(0, len(step.inputs), BATCH):
        part = slice(start, start + BATCH)
        found = ops.convert_to_numpy(core_values(step.layer, step.inputs[part], params))
        gap = (found - step.target[part]).reshape(-1, found.shape[-1])
        error = error + gap.sum(axis=0, dtype=np.float64)
    rows = step.target.reshape(-1, step.target.shape[-1])
    return error / len(rows), rows.std(axis=0, dtype=np.float64)


def _shift(layer: WeightedLayer, error: Array) -> None:
    bias = np.asarray(ops.convert_to_numpy(layer.bias), np.float64) - error
    layer.bias.assign(bias.astype(np.float32))
