"""The public verbs: quantize, calibrate, convert, verify, load_model, save_model and so on."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np

from sanitize import sanitize, sanitize_graph
from sanitize.graph import Graph
from sanitize.keras_io import read_keras

from .build import build_model
from .calibration import calibrate, calibrate_on, open_samples
from .conversion import convert, verify
from .errors import AccumulatorTooWide, NonFiniteError, QuantizationError
from .layers import WeightedLayer
from .model_io import load_model, save_model
from .params import QuantizationParams
from .plan import Plan, make_plan
from .qat import set_ranges
from .runtime.costs import program_costs

__all__ = [
    "calibrate",
    "convert",
    "load_model",
    "quantize",
    "sanitize",
    "save_model",
    "set_ranges",
    "verify",
]

FLOAT32_BITS = 25
"""Two's complement bits of the integers that float32 carries: below 2**24."""


def quantize(
    model: keras.Model,
    qparams: QuantizationParams | None = None,
    samples: Any = None,
    num_samples: int | None = 1024,
    batch_size: int | None = None,
    epochs: int = 1,
    observer: Any = None,
    strict: bool = False,
) -> keras.Model:
    """A quantized copy of a float Keras model; the model itself is not changed.

    qparams: bits and other choices, 8 bits by default. samples: calibration data, see
    :func:`calibrate`; None draws random ones, with a warning. observer: overrides the one of
    qparams. strict: raise instead of warn when a layer has to stay float.

    Raises QuantizationError for a model in which nothing can be quantized, weights that are NaN
    or infinite, and bad samples.
    """
    qparams = QuantizationParams() if qparams is None else qparams
    _check_model(model)
    graph, _ = sanitize_graph(read_keras(model))
    _check_weights(graph)
    plan = make_plan(graph, qparams)
    _report_plan(plan, qparams, strict)
    random_range = {name: _plausible_range(graph, name, qparams) for name in graph.inputs}
    stream = open_samples(model, samples, num_samples, batch_size, epochs, random_range)
    if qparams.input_dtype == "auto":
        dtypes = {name: _input_kind(stream.dtypes[name]) for name in graph.inputs}
    else:
        dtypes = dict.fromkeys(graph.inputs, qparams.input_dtype)
    quantized = build_model(plan, qparams, dtypes)
    kinds = {b.name.replace("/", "_"): b.settings.observer for b in plan.blocks.values()}
    chosen = observer if observer is not None else kinds
    calibrate_on(quantized, stream, chosen, choose_input_sign=True)
    _check_accumulators(quantized, qparams.buffer_bits)
    return quantized


def _check_accumulators(model: keras.Model, buffer_bits: int) -> None:
    """Refuse layers whose accumulator can overflow the hardware's, all of them at once."""
    weighted = [layer for layer in model.layers if isinstance(layer, WeightedLayer)]
    wide = any(layer.carrier == "float64" for layer in weighted)
    if buffer_bits > FLOAT32_BITS and not wide:
        return  # what float32 carries fits
    costs = program_costs(convert(model)).layers
    needed = {cost.layer.name: cost.accumulator_bits for cost in costs}
    over = [f"{name!r} needs {bits}" for name, bits in needed.items() if bits > buffer_bits]
    if over:
        raise AccumulatorTooWide(
            f"accumulators of {buffer_bits} bits (buffer_bits) can overflow: {', '.join(over)} "
            "bits. Use fewer weight_bits or activation_bits there, per_tensor_activations, or a "
            "wider buffer."
        )


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise QuantizationError(
            f"quantize takes a keras.Model, not {type(model).__name__}; load files with load_model"
        )


def _check_weights(graph: Graph) -> None:
    for node in graph:
        for name, array in node.weights.items():
            if not np.isfinite(array).all():
                layer = "', '".join(node.source) or node.name
                raise NonFiniteError(
                    f"layer '{layer}': its {name} holds NaN or infinity. Train the model again or "
                    "repair the weights before quantizing."
                )


def _report_plan(plan: Plan, qparams: QuantizationParams, strict: bool) -> None:
    """Errors and the one warning about what cannot be quantized."""
    if not plan.blocks:
        reasons = "; ".join(f"{f.node.name!r}: {f.reason}" for f in plan.floats[:3])
        raise QuantizationError(f"nothing in model {plan.graph.name!r} can be quantized: {reasons}")
    unmatched = qparams.unmatched(
        {name: node.kind for node in plan.graph for name in (node.name, *node.source)}
    )
    if unmatched:
        raise QuantizationError(
            f"no layer is named {', '.join(map(repr, unmatched))} (float_layers or overrides); "
            "check the names with model.summary()"
        )
    if not plan.stops:
        return
    listed = "; ".join(f"{_layer_names(f.node)} ({f.node.kind}): {f.reason}" for f in plan.stops)
    behind = sum(not f.expected for f in plan.floats) - len(plan.stops)
    message = (
        f"{len(plan.stops)} layer(s) stay float, and {behind} behind them: {listed}. "
        "The quantized model runs; convert() covers it up to its Dequantizer."
    )
    if strict:
        raise QuantizationError(message)
    warnings.warn(message, stacklevel=3)


def _layer_names(node: Any) -> str:
    return ", ".join(repr(name) for name in node.source) or repr(node.name)


def _input_kind(dtype: np.dtype[Any]) -> str:
    if dtype == np.uint8 or dtype == np.bool_:
        return "uint8"
    return "int8" if dtype == np.int8 else "float32"


def _plausible_range(
    graph: Graph, name: str, qparams: QuantizationParams
) -> tuple[int, int] | tuple[float, float]:
    """What random samples of an input may look like: images for 1 or 3 channels, else -1..1."""
    shape = graph[name].shape
    if qparams.input_dtype == "int8":
        return (-128, 127)
    images = len(shape) == 3 and shape[-1] in (1, 3)
    if qparams.input_dtype == "uint8" or (qparams.input_dtype == "auto" and images):
        return (0, 255)
    return (-1.0, 1.0)
