"""The calibration loop: one pass over the samples finds the range of every activation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from sanitize.graph import Graph

from ..conversion.program_inputs import inputs_of
from ..layers import (
    InputQuantizer,
    choose_carriers,
    forget_compiled,
)
from ..layers.element_function import check_exponent
from ..numerics.layer_shapes import fixed_shape
from ..qmodel import QuantizedGraph, layer_of, rounding_layer
from ..qmodel.running import compiled_step, run_batch
from ..qmodel.views import QuantizedValue, float_view, quantized_values
from ..quantization.accumulator_fit import fit_accumulators
from ..quantization.borders import Border, find_borders, join_borders, layer_padding
from ..quantization.output_losses import BYTES, ROWS, is_watched, warn_of_losses
from ..quantization.params import QuantizationParams
from ..quantization.provenance import attach, provenance_of
from ..runtime.fed import check_fed
from ..terminal.progress import progress_bar
from .fed_kinds import take_kinds
from .filled_ranges import fill_range, may_fill, normalize_integers
from .late_maps import take_maps
from .observer import Observer
from .observers import make_observer
from .ports import input_names
from .samples import SampleStream, iterate_samples

ObserverKind = str | Observer | Callable[[], Observer]

BATCH_BUDGET = 256 * 2**20
"""Bytes that the observed activations of one step may take."""

LOOKED_AT = 256
"""So many of the samples are looked at to see whether they are of the scale of those before."""

WITH_SAMPLES = (
    "If inputs that one layer reads in several places cost most, quantize with these samples, "
    "which then gives it weights of its own in each. Else look at the ranges there."
)

ANOTHER_SCALE = 16.0
"""Samples that often leave the former range by so many times its width are of another scale."""


def calibrate(
    model: Any,
    samples: Any = None,
    observer: ObserverKind | Mapping[str, ObserverKind] | None = None,
    num_samples: int | None = 1024,
    batch_size: int | None = None,
    epochs: int = 1,
) -> keras.Model:
    """Set every range of a quantized model from samples.

    A model that was quantized without samples becomes what it had become with these (integer
    samples make its inputs integers, for one), but where one layer reads several float inputs, one
    by one, that lie far apart: only quantizing with samples gives it weights of its own in each
    place, and a QuantizationLossWarning tells where an output suffers from that. Later calibrations
    set ranges only, and warn of samples of quite another scale than the former ones.

    As in ``quantize``, bits above 8 are given up where accumulators could overflow.

    Args:
        model: the model, which is changed, or its reading, see
            :class:`~quantkeras.qmodel.QuantizedGraph`.
        samples: array, list or dict of arrays (several inputs), path of an .npz file,
            tf.data.Dataset, keras PyDataset or generator; None draws random ones, with a warning.
            Batches are streamed, and the memory does not grow with their number.
        observer: kind of observer for all layers and float inputs ("minmax", "moving_average",
            "percentile", "mse", ...), or a dict layer name -> kind; None, and layers that the dict
            does not name: as the model was quantized.
        num_samples: at most that many per epoch, None for all.
        batch_size: samples at a time, None chooses.
        epochs: passes over the samples; a generator can give one only.

    Returns:
        The model that was given.

    Raises:
        QuantizationError: for a model without quantized layers, for bad samples, and for fractions
            that rounding to the integers of an integer input leaves next to nothing of.
        AccumulatorTooWide: for accumulators that 8 bits are too many for.
    """
    reading = QuantizedGraph.of(model, "calibrate")
    model = reading.model
    stream = open_samples(model, samples, num_samples, batch_size, epochs)
    made = provenance_of(model)
    first = made.provisional and samples is not None
    if samples is not None and not made.provisional:
        entries, told = inputs_of(reading), set[str]()
        for batch in stream.peek(LOOKED_AT, BATCH_BUDGET):
            check_fed(entries, batch, told, beyond=ANOTHER_SCALE)
    params = made.params or QuantizationParams()
    if not first:
        calibrate_on(reading, stream, observer)
        fit_accumulators(reading, params.buffer_bits)
        return model
    take_kinds(reading, params, stream.dtypes)
    if not params.per_tensor_activations:
        take_maps(reading.graph, _mapped_inputs(reading.graph, observer), stream)
    watched = stream.peek(ROWS, BYTES) if is_watched(params) else []
    calibrate_on(reading, stream, observer, fresh=True)
    fit_accumulators(reading, params.buffer_bits)
    attach(model, replace(made, provisional=False))
    if watched:
        warn_of_losses(reading, watched, advice=WITH_SAMPLES)
    return model


def _mapped_inputs(
    graph: Graph, observer: ObserverKind | Mapping[str, ObserverKind] | None
) -> list[str]:
    """Float inputs that one quantizer reads, unless a range is given for them as they are."""
    given = observer if isinstance(observer, Mapping) else {}
    found = []
    for name in graph.inputs:
        layers = [layer_of(node, InputQuantizer) for node in graph.consumers(name)]
        if len(layers) == 1 and layers[0] is not None:
            named = isinstance(given.get(layers[0].name, ""), str)
            if named and not layers[0].integer_input and graph[name].shape:
                found.append(name)
    return found


def open_samples(
    model: keras.Model,
    samples: Any,
    num_samples: int | None,
    batch_size: int | None,
    epochs: int,
    random_range: Any = (0.0, 1.0),
) -> SampleStream:
    """Open samples as a stream of checked batches for the inputs of a model.

    Args:
        model: the model.
        samples: in a form that :func:`calibrate` takes.
        num_samples: at most that many per epoch, None for all.
        batch_size: samples at a time, None chooses.
        epochs: passes over the samples; a generator can give one only.
        random_range: (low, high) of the random numbers if samples is None, or one per input name.

    Returns:
        The stream.

    Raises:
        QuantizationError: for bad samples.
    """
    shapes = [tuple(tensor.shape[1:]) for tensor in keras.tree.flatten(model.inputs)]
    inputs = list(zip(input_names(model), shapes, strict=True))
    return iterate_samples(
        samples, inputs, num_samples, batch_size, epochs, random_range=random_range
    )


def calibrate_on(
    reading: QuantizedGraph,
    stream: SampleStream,
    observer: ObserverKind | Mapping[str, ObserverKind] | None = None,
    fresh: bool = False,
    fill: bool = True,
) -> None:
    """Calibrate on an open stream, see :func:`calibrate`.

    Args:
        reading: of the quantized model, which is changed.
        stream: the samples.
        observer: as for :func:`calibrate`.
        fresh: the model has not run yet, so what is fixed for good is chosen now: float inputs that
            were never negative become unsigned, integer ones stand for values of magnitude 1.
        fill: let values fill their formats, by factors moved between layers; not for random
            samples.

    Raises:
        QuantizationError: for bad samples.
        AccumulatorTooWide: for accumulators that the backend has no exact type for.
    """
    values = quantized_values(reading)
    if fresh:
        for node, quantizer in reading.inputs():
            if quantizer.integer_input:
                normalize_integers(reading.graph, node.name)
    kinds = _observer_kinds(reading.model, values, observer)
    observers = _observe(reading, values, stream, kinds)
    _set_ranges(reading.graph, values, observers, fresh, fill)
    for _, layer in reading.weighted():
        layer.fit_weights()
    choose_carriers(rounding_layer(node) for node in reading.graph)
    forget_compiled(reading.model)


def _observer_kinds(
    model: keras.Model,
    values: Mapping[str, QuantizedValue],
    asked: ObserverKind | Mapping[str, ObserverKind] | None,
) -> dict[str, ObserverKind]:
    """Name of each layer with such values -> its kind of observer."""
    made = provenance_of(model)
    names = {value.layer.name for value in values.values()}
    if asked is not None and not isinstance(asked, Mapping):
        return dict.fromkeys(names, asked)
    named = asked or {}
    return {name: named.get(name, made.observer_of(name)) for name in names}


def _observe(
    reading: QuantizedGraph,
    values: Mapping[str, QuantizedValue],
    stream: SampleStream,
    kinds: Mapping[str, ObserverKind],
) -> dict[int, Observer]:
    """One observer per quantizer, by id (call sites of a shared layer share it), after all data."""
    observers: dict[int, Observer] = {}
    for value in values.values():
        name, quantizer = value.layer.name, value.quantizer
        if id(quantizer) not in observers:
            observers[id(quantizer)] = make_observer(kinds[name], quantizer.per_channel, name)
    if not observers:
        for _ in stream:
            pass  # the samples are still checked
        return observers
    view = float_view(reading, list(values))
    rows = max(
        1,
        BATCH_BUDGET
        // sum(
            4 * math.prod(fixed_shape(tensor.shape[1:], tensor.name)) for tensor in view.outputs
        ),
    )
    names = input_names(reading.model)
    first = True
    step: Callable[[Sequence[Any]], list[Any]] | None = None
    with progress_bar(stream.total, "calibrating") as advance:
        for batch in stream:
            arrays = [np.asarray(batch[name], np.float32) for name in names]
            for start in range(0, len(arrays[0]), rows):
                piece = [array[start : start + rows] for array in arrays]
                # Compiling takes longer than a batch, and often there is no second one.
                if first:
                    found, first = run_batch(view, piece, compiled=False), False
                else:
                    step = step or compiled_step(view)
                    found = step(piece)
                for value, output in zip(values.values(), found, strict=True):
                    observers[id(value.quantizer)].update(output)
            advance(1)
    return observers


def _set_ranges(
    graph: Graph,
    values: Mapping[str, QuantizedValue],
    observers: Mapping[int, Observer],
    fresh: bool,
    fill: bool,
) -> None:
    done: set[int] = set()
    borders = _borders(graph, values)
    for name, value in values.items():
        layer, quantizer = value.layer, value.quantizer
        if id(quantizer) in done:
            continue
        done.add(id(quantizer))
        observer = observers[id(quantizer)]
        border = borders.get(id(quantizer))
        if isinstance(layer, InputQuantizer) and fresh:
            layer.signed = bool(observer.ranges().minimum.min() < 0 or (border and border.negative))
        foldable = fill and name in graph and may_fill(graph, name, quantizer)
        largest = observer.range(quantizer.bits, quantizer.signed, power_of_two=not foldable)
        if foldable:
            change = fill_range(graph, name, largest, border)
            largest = largest * (change if largest.ndim else change[0])
            border = border and border.scaled(change)
        quantizer.set_range(largest)
        if border is not None:
            quantizer.set_border(border.lowest, border.highest)
        if name not in graph:
            check_exponent(float(keras.ops.max(quantizer.exponents())), layer.name)


def _borders(graph: Graph, values: Mapping[str, QuantizedValue]) -> dict[int, Border]:
    """What layers put around the tensors of each bordered quantizer, by its id."""
    found = find_borders(graph, layer_padding)
    joined: dict[int, Border] = {}
    for name, value in values.items():
        key = id(value.quantizer)
        if name in found and value.quantizer.bordered:
            both = [joined[key], found[name]] if key in joined else [found[name]]
            joined[key] = join_borders(both)
    return joined
