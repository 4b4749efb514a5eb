"""A quantized model from another side: the same layers and variables, with other calls.

A view is an ordinary Keras model in which each quantized layer is called through a
:class:`StandIn`: one that rounds nothing, one that gives the integers of all layers, one that
learns how to round. The layer itself is not called again, so what it knows of its inputs stays as
it is, and nothing is copied. :func:`compute_node` does the same for one layer, without a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from sanitize.graph import Graph, Node
from sanitize.keras_io import write_keras
from sanitize.semantics import run_node

from ..layers import Dequantizer, HardwareLayer, InputQuantizer, OutputQuantizer
from .reading import QuantizedGraph, layer_node, layer_of, rounding_layer

Computation = Callable[[Any], Any]


class StandIn(keras.layers.Layer):
    """Stands in a view for the quantized layer ``original``; computes ``compute``, trains nothing.

    keeps_shape: the output has the shape of the input, instead of that of the layer's output.
    """

    def __init__(
        self, original: Any, compute: Computation, keeps_shape: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(dtype="float32", trainable=False, **kwargs)
        self.original = original
        self.compute = compute
        self.keeps_shape = keeps_shape

    def call(self, inputs: Any) -> Any:
        return self.compute(inputs)

    def compute_output_spec(self, inputs: Any) -> Any:
        if self.keeps_shape:
            shape = inputs.shape
        elif isinstance(inputs, list | tuple):
            shape = self.original.compute_output_shape([x.shape for x in inputs])
        else:
            shape = self.original.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, dtype="float32")


def before_function(name: str) -> str:
    """Name, in a view, of what enters the element-wise function of a quantized layer."""
    return f"{name}/before_function"


def view(graph: Graph, compute: Callable[[Any], Any], values: Sequence[str] | None) -> keras.Model:
    """A model from the inputs of a graph to ``values``, as a list.

    graph: of a quantized model, or a part of one. compute: gives for a quantized layer what is
    computed in its place, such as ``lambda layer: layer.float_call``, or a Keras layer that does
    it; a pair is computed one after the other, and what is between them is called
    :func:`before_function`. values: names of values of the graph; None for its own outputs, nested
    as the model does it.
    """
    stand_ins: dict[int, list[keras.layers.Layer]] = {}
    nodes = []
    for node in graph:
        layer = rounding_layer(node)
        if layer_of(node, Dequantizer):
            nodes.append(node.with_(kind="identity", attrs={}, weights={}))
        elif layer is not None:
            if id(layer) not in stand_ins:
                found = compute(layer)
                stages = found if isinstance(found, tuple) else (found,)
                stand_ins[id(layer)] = [
                    stage
                    if isinstance(stage, keras.layers.Layer)
                    else StandIn(layer, stage, i > 0, name=f"{layer.name}_view{i}")
                    for i, stage in enumerate(stages)
                ]
            first, *then = stand_ins[id(layer)]
            inputs, between = node.inputs, before_function(node.name)
            if then:
                nodes.append(_stand_in_node(first, between, inputs, node))
                first, inputs = then[0], (between,)
            nodes.append(_stand_in_node(first, node.name, inputs, node))
        else:
            nodes.append(node)
    if values is None:
        return write_keras(graph.with_nodes(nodes))
    structure = list(range(len(values)))
    wanted = Graph.build(nodes, graph.inputs, values, graph.name, graph.input_structure, structure)
    return write_keras(wanted)


def _stand_in_node(layer: Any, name: str, inputs: tuple[str, ...], node: Node) -> Node:
    fresh = layer_node(layer, name, inputs, node.shape, node.source)
    share = None if node.share is None else f"{node.share}/{layer.name}"
    return fresh.with_(share=share)


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


def compute_node(
    node: Node, xs: Sequence[Any], compute: Callable[[Any], Computation]
) -> dict[str, Any]:
    """The values that a node of a quantized model's graph makes of its inputs, by name.

    compute: gives for a quantized layer what is computed in its place, as for :func:`view`.
    Movements, and layers that stay float, compute what they always do.
    """
    layer = rounding_layer(node)
    if layer_of(node, Dequantizer):
        results = list(xs)
    elif layer is not None:  # tensors bring their steps along
        results = [compute(layer)(list(xs) if len(xs) > 1 else xs[0])]
    else:
        results = run_node(node, [np.asarray(keras.ops.convert_to_numpy(x)) for x in xs])
    return dict(zip(node.values, results, strict=True))
