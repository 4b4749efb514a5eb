"""The float meaning of a quantized model, with every tensor that a quantizer will round.

The view is an ordinary Keras model that shares the variables of the quantized one: nothing is
rounded in it and nothing is copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from ..layers import HardwareLayer, InputQuantizer, OutputQuantizer
from ..qmodel import QuantizedGraph, layer_of
from ..twins import before_function, view


@dataclass(frozen=True)
class QuantizedValue:
    """A value that a calibrated quantizer rounds, in the layer that has the quantizer."""

    layer: Any
    quantizer: OutputQuantizer


def quantized_values(reading: QuantizedGraph) -> dict[str, QuantizedValue]:
    """Values of a quantized model's graph, and of its float view, that quantizers round."""
    found = {}
    for node in reading.graph:
        quantizer, layer = layer_of(node, InputQuantizer), layer_of(node, HardwareLayer)
        if quantizer is not None and not quantizer.integer_input:
            found[node.name] = QuantizedValue(quantizer, quantizer)
        if layer is not None:
            if layer.table_quantizer is not None:
                name = before_function(node.name)
                found[name] = QuantizedValue(layer, layer.table_quantizer)
            if layer.output_quantizer is not None:
                found[node.name] = QuantizedValue(layer, layer.output_quantizer)
    return found


def float_view(model: Any, values: list[str] | None = None) -> keras.Model:
    """A model from the inputs of a quantized model to the float meaning of ``values``.

    model: the model or its reading. values: names in its graph; default: the model's own outputs.
    """

    def compute(layer: Any) -> Any:
        if getattr(layer, "function", None) is not None:
            return layer.float_core, layer.float_function
        return layer.float_call

    return view(QuantizedGraph.of(model).graph, compute, values)
