"""The float meaning of a quantized model, with every tensor that a quantizer will round.

The view is an ordinary Keras model that shares the variables of the quantized one: each quantized
layer is called through a :class:`FloatTwin`, so nothing is rounded and nothing is copied.
"""

from __future__ import annotations

from typing import Any

import keras

from sanitize.graph import Graph
from sanitize.keras_io import read_keras, write_keras

from ..build import layer_node
from ..layers import Dequantizer, HardwareLayer, InputQuantizer


class FloatTwin(keras.layers.Layer):
    """Calls the unquantized meaning of a quantized layer."""

    def __init__(self, original: Any, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.original = original

    def call(self, inputs: Any) -> Any:
        return self.original.float_call(inputs)

    def compute_output_spec(self, inputs: Any) -> Any:
        if isinstance(inputs, list | tuple):
            shape = self.original.compute_output_shape([x.shape for x in inputs])
        else:
            shape = self.original.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, dtype="float32")


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
    graph = read_keras(model)
    twins: dict[int, FloatTwin] = {}
    nodes = []
    for node in graph:
        layer = node.attrs.get("layer")
        if isinstance(layer, Dequantizer):
            nodes.append(node.with_(kind="identity", attrs={}, weights={}))
        elif isinstance(layer, HardwareLayer | InputQuantizer):
            twin = twins.setdefault(id(layer), FloatTwin(layer, name=f"{layer.name}_float"))
            fresh = layer_node(twin, node.name, node.inputs, node.shape, node.source)
            nodes.append(fresh.with_(share=node.share))
        else:
            nodes.append(node)
    if values is None:
        return write_keras(graph.with_nodes(nodes))
    structure = list(range(len(values)))
    wanted = Graph.build(nodes, graph.inputs, values, graph.name, graph.input_structure, structure)
    return write_keras(wanted)
