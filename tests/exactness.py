"""The law of this project as a function: a quantized Keras model and its program agree in all.

:func:`assert_exact` runs a model eagerly and as a graph, its program on both engines, and compares
every integer of every quantized layer and every output.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from hypothesis import settings
from keras import ops

from quantkeras.conversion import convert
from quantkeras.layers import Dequantizer, HardwareLayer, WeightedLayer
from quantkeras.runtime import Program


def as_numpy(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))


def flat_predictions(model: Any, x: Any, graph: bool = True) -> list[np.ndarray]:
    """Outputs of a model as a flat list, from `predict` or eagerly."""
    found = model.predict(x, verbose=0) if graph else model(x, training=False)
    return [as_numpy(y) for y in keras.tree.flatten(found)]


def probed_layers(model: Any, program: Program) -> list[Any]:
    """Quantized layers that a program names and that were called once: their output is a tensor."""
    known = {layer.name for layer in program.layers}
    return [
        layer
        for layer in model.layers
        if isinstance(layer, HardwareLayer)
        and layer.name in known
        and len(layer._inbound_nodes) == 1
    ]


def integers_of(layer: Any, values: np.ndarray) -> np.ndarray:
    """The integers behind a quantized layer's output values; an accumulator only approximately."""
    numbers = layer.numbers()
    unit = numbers.multiplier if numbers.output_lsb is None else numbers.output_lsb
    return values.astype(np.float64) / as_numpy(unit).astype(np.float64)


def assert_exact(model: Any, x: Any, graph: bool | None = None, eager: bool = True) -> Program:
    """Keras eager == Keras predict == reference engine == blas engine, in every integer.

    For models that end in Dequantizers. x: what `predict` takes. graph: whether `predict`, which
    compiles, is compared; None: outside of the quick profile. Returns the program.
    """
    if graph is None:
        graph = settings.get_current_profile_name() != "quick"
    program = convert(model)
    fed = fed_to(program, model, x)
    for layer in model.layers:
        if isinstance(layer, WeightedLayer) and layer.name in {own.name for own in program.layers}:
            params = program[layer.name].params
            np.testing.assert_array_equal(layer.qkernel, params.weights, err_msg=layer.name)
            assert (layer.qbias is None) == (params.bias is None), layer.name
            if params.bias is not None:
                np.testing.assert_array_equal(layer.qbias, params.bias, err_msg=layer.name)
    integers = program.run_integers(fed, keep="all", engine="reference")
    blas = program.run_integers(fed, keep="all", engine="blas")
    for name, wanted in integers.items():
        np.testing.assert_array_equal(blas[name], wanted, err_msg=name)
    outputs = keras.tree.flatten(program.predict(fed, engine="reference"))
    layers = probed_layers(model, program)
    ends = keras.tree.flatten(model.output)
    probe = keras.Model(model.input, [*(layer.output for layer in layers), *ends])
    for mode in [True] * graph + [False] * eager:
        found = flat_predictions(probe, x, mode)
        for layer, values in zip(layers, found, strict=False):
            wanted = program[layer.name].dequantize(integers[layer.name])
            differing = int((values != wanted).sum())
            assert not differing, f"{layer.name}: {differing} of {values.size}, graph={mode}"
            if layer.output_quantizer is not None:
                np.testing.assert_array_equal(integers_of(layer, values), integers[layer.name])
        for name, values in zip(program.outputs, outputs, strict=True):
            # A value that is returned twice is one output of the program.
            assert any(np.array_equal(values, y) for y in found[len(layers) :]), name
    return program


def fed_to(program: Program, model: Any, x: Any) -> Any:
    """What the program takes of x: it has no input that only float layers read, or nobody."""
    if not isinstance(x, list) or len(x) == len(program.inputs):
        return x
    arrays = dict(zip((tensor.name for tensor in model.inputs), x, strict=True))
    return {entry.name: arrays[entry.name] for entry in program.inputs}


def without_tail(model: Any) -> Any:
    """The model up to its Dequantizers: the part that a program covers."""
    ends = [layer.output for layer in model.layers if isinstance(layer, Dequantizer)]
    return keras.Model(model.input, ends)


def used_share(integers: np.ndarray, qmin: int, qmax: int) -> float:
    """Which part of its integer range a tensor uses, 0..1."""
    return float(np.abs(integers).max()) / max(-qmin, qmax)
