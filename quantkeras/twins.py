"""Views of a quantized model: other models over the same variables, with other calls.

In a view each quantized layer is called through a :class:`LayerTwin`, which computes one of its
methods. The layer itself is not called again, so what it knows of its inputs stays as it is, and
nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from sanitize.graph import Graph
from sanitize.keras_io import write_keras

from .build import layer_node
from .layers import Dequantizer, HardwareLayer, InputQuantizer


class LayerTwin(keras.layers.Layer):
    """Stands in a view for the quantized layer ``original``; computes its method ``compute``."""

    def __init__(self, original: Any, compute: Callable[[Any], Any], **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.original = original
        self.compute = compute

    def call(self, inputs: Any) -> Any:
        return self.compute(inputs)

    def compute_output_spec(self, inputs: Any) -> Any:
        if isinstance(inputs, list | tuple):
            shape = self.original.compute_output_shape([x.shape for x in inputs])
        else:
            shape = self.original.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, dtype="float32")


def view(
    graph: Graph, compute: Callable[[Any], Callable[[Any], Any]], values: Sequence[str] | None
) -> keras.Model:
    """A model from the inputs of a quantized model to ``values``, as a list.

    graph: of the quantized model, see :func:`sanitize.keras_io.read_keras`. compute: gives for a
    quantized layer what its twin computes, such as ``lambda layer: layer.float_call``. values:
    names of values of the graph; None for the model's own outputs, nested as the model does it.
    """
    twins: dict[int, LayerTwin] = {}
    nodes = []
    for node in graph:
        layer = node.attrs.get("layer")
        if isinstance(layer, Dequantizer):
            nodes.append(node.with_(kind="identity", attrs={}, weights={}))
        elif isinstance(layer, HardwareLayer | InputQuantizer):
            if id(layer) not in twins:
                twins[id(layer)] = LayerTwin(layer, compute(layer), name=f"{layer.name}_twin")
            twin = twins[id(layer)]
            fresh = layer_node(twin, node.name, node.inputs, node.shape, node.source)
            nodes.append(fresh.with_(share=node.share))
        else:
            nodes.append(node)
    if values is None:
        return write_keras(graph.with_nodes(nodes))
    structure = list(range(len(values)))
    wanted = Graph.build(nodes, graph.inputs, values, graph.name, graph.input_structure, structure)
    return write_keras(wanted)
