"""The float meaning of a quantized model, with every tensor that a quantizer will round.

The view is an ordinary Keras model that shares the variables of the quantized one: nothing is
rounded in it and nothing is copied.
"""

from __future__ import annotations

from typing import Any

import keras

from sanitize.graph import Graph
from sanitize.keras_io import read_keras

from ..layers import InputQuantizer
from ..twins import view


def quantized_values(graph: Graph) -> dict[str, Any]:
    """Values of a quantized model's graph that a calibrated quantizer rounds -> their layers."""
    found = {}
    for node in graph:
        layer = node.attrs.get("layer")
        calibrated = isinstance(layer, InputQuantizer) and not layer.integer_input
        if calibrated or getattr(layer, "output_quantizer", None) is not None:
            found[node.name] = layer
    return found


def float_view(model: keras.Model, values: list[str] | None = None) -> keras.Model:
    """A model from the inputs of a quantized model to the float meaning of ``values``.

    values: names in the graph of the model (see :func:`sanitize.keras_io.read_keras`); default:
    the model's own outputs.
    """
    return view(read_keras(model), lambda layer: layer.float_call, values)
