"""The law of this project as a function: a quantized Keras model and its program agree in all.

:func:`assert_exact` runs a model eagerly and as a graph, its program on both engines, and compares
every integer of every quantized layer and every output.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from quantkeras.conversion import convert
from quantkeras.layers import HardwareLayer, InputQuantizer
from quantkeras.runtime import Program


def as_numpy(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))


def flat_predictions(model: Any, x: Any, graph: bool = True) -> list[np.ndarray]:
    """Outputs of a model as a flat list, from `predict` or eagerly."""
    if graph:
        found = model.predict(x, verbose=0)
    else:
        found = model(x, training=False)
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


def assert_same_layers(model: Any, program: Program, x: Any, graph: bool) -> None:
    """Every quantized layer of the model has the integers of the program's reference engine."""
    integers = program.run_integers(x, keep="all", engine="reference")
    layers = probed_layers(model, program)
    if not layers:
        return
    probe = keras.Model(model.input, [layer.output for layer in layers])
    for layer, values in zip(layers, flat_predictions(probe, x, graph), strict=True):
        wanted = program[layer.name].dequantize(integers[layer.name])
        differing = int((values != wanted).sum())
        assert not differing, f"{layer.name}: {differing} of {values.size} differ\n{program}"
        if layer.output_quantizer is not None:
            np.testing.assert_array_equal(integers_of(layer, values), integers[layer.name])


def assert_exact(model: Any, x: Any, graph: bool = True, eager: bool = True) -> Program:
    """Keras eager == Keras predict == reference engine == blas engine, in every integer.

    Only for models that end in Dequantizers. x: what `predict` takes. Returns the program.
    """
    program = convert(model)
    reference = program.run_integers(x, keep="all", engine="reference")
    blas = program.run_integers(x, keep="all", engine="blas")
    for name, wanted in reference.items():
        np.testing.assert_array_equal(blas[name], wanted, err_msg=name)
    outputs = keras.tree.flatten(program.predict(x, engine="reference"))
    for mode in [True] * graph + [False] * eager:
        assert_same_layers(model, program, x, mode)
        found = flat_predictions(model, x, mode)
        for name, values in zip(program.outputs, outputs, strict=True):
            # A value that is returned twice is one output of the program.
            assert any(np.array_equal(values, y) for y in found), f"output {name}, graph={mode}"
    return program


def input_values(model: Any, x: Any) -> list[np.ndarray]:
    """What the InputQuantizers of a model make of x."""
    quantizers = [layer for layer in model.layers if isinstance(layer, InputQuantizer)]
    probe = keras.Model(model.input, [layer.output for layer in quantizers])
    return flat_predictions(probe, x, graph=False)


def used_share(integers: np.ndarray, qmin: int, qmax: int) -> float:
    """Which part of its integer range a tensor uses, 0..1."""
    return float(np.abs(integers).max()) / max(-qmin, qmax)
