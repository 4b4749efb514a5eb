"""Views of a quantized model: other models over the same variables, with other calls.

In a view each quantized layer is called through a :class:`LayerTwin`, which computes one of its
methods. The layer itself is not called again, so what it knows of its inputs stays as it is, and
nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy.typing as npt

from sanitize.graph import Graph, Node
from sanitize.keras_io import write_keras

from .layers import Dequantizer, unwatched
from .qmodel import layer_node, layer_of, rounding_layer

Computation = Callable[[Any], Any]


class LayerTwin(keras.layers.Layer):
    """Stands in a view for the quantized layer ``original``; computes its method ``compute``.

    keeps_shape: the output has the shape of the input, instead of that of the layer's output.
    """

    def __init__(
        self, original: Any, compute: Computation, keeps_shape: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(dtype="float32", **kwargs)
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


def view(
    graph: Graph,
    compute: Callable[[Any], Computation | tuple[Computation, Computation]],
    values: Sequence[str] | None,
) -> keras.Model:
    """A model from the inputs of a quantized model to ``values``, as a list.

    graph: of the quantized model, see :func:`sanitize.keras_io.read_keras`. compute: gives for a
    quantized layer what its twin computes, such as ``lambda layer: layer.float_call``; a pair is
    computed one after the other, and what is between them is called :func:`before_function`.
    values: names of values of the graph; None for the model's own outputs, nested as the model
    does it.
    """
    twins: dict[int, list[LayerTwin]] = {}
    nodes = []
    for node in graph:
        layer = rounding_layer(node)
        if layer_of(node, Dequantizer):
            nodes.append(node.with_(kind="identity", attrs={}, weights={}))
        elif layer is not None:
            if id(layer) not in twins:
                found = compute(layer)
                stages = found if isinstance(found, tuple) else (found,)
                twins[id(layer)] = [
                    LayerTwin(layer, stage, i > 0, name=f"{layer.name}_twin{i}")
                    for i, stage in enumerate(stages)
                ]
            first, *then = twins[id(layer)]
            inputs, between = node.inputs, before_function(node.name)
            if then:
                nodes.append(_twin_node(first, between, inputs, node))
                first, inputs = then[0], (between,)
            nodes.append(_twin_node(first, node.name, inputs, node))
        else:
            nodes.append(node)
    if values is None:
        return write_keras(graph.with_nodes(nodes))
    structure = list(range(len(values)))
    wanted = Graph.build(nodes, graph.inputs, values, graph.name, graph.input_structure, structure)
    return write_keras(wanted)


def run_batch(
    model: keras.Model, batch: Sequence[npt.NDArray[Any]], compiled: bool = True
) -> list[npt.NDArray[Any]]:
    """Outputs of a model, flat, for one batch: an array (n, ...) for each of its inputs.

    compiled: as `predict` runs it; compiling takes longer than a single batch.
    A model made under a distribution strategy of several replicas computes such a batch once in
    each, and Keras gives the results one behind the other: one of them is enough.
    """
    structure = keras.tree.pack_sequence_as(model.input, list(batch))
    with unwatched(model):  # who asks the user for samples checks them
        found = model.predict_on_batch(structure) if compiled else model(structure, training=False)
    outputs = [keras.ops.convert_to_numpy(output) for output in keras.tree.flatten(found)]
    # Not cut to the samples: a value may have several rows for each of them.
    count = _replicas(model) if compiled else 1
    return [output[: len(output) // count] for output in outputs] if count > 1 else outputs


def _replicas(model: keras.Model) -> int:
    """In how many places TensorFlow computes a model at once."""
    if keras.backend.backend() != "tensorflow":
        return 1
    return int(model.distribute_strategy.num_replicas_in_sync)


def compiled_step(model: keras.Model) -> Callable[[Sequence[npt.NDArray[Any]]], list[Any]]:
    """What computes a model's outputs, flat, as :func:`run_batch` does, for batches of any size.

    TensorFlow counts how often the step of `predict` is traced, of all models together, and warns
    the user of too many. A view that lives for one pass over samples is traced once, by itself,
    and not counted.
    """
    if keras.backend.backend() != "tensorflow" or _replicas(model) > 1:
        return lambda batch: run_batch(model, batch)
    import tensorflow as tf

    def outputs(*tensors: Any) -> Any:
        structure = keras.tree.pack_sequence_as(model.input, list(tensors))
        return keras.tree.flatten(model(structure, training=False))

    inputs = keras.tree.flatten(model.inputs)
    specs = [tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype) for tensor in inputs]
    function = tf.function(outputs, jit_compile=model.jit_compile).get_concrete_function(*specs)

    def step(batch: Sequence[npt.NDArray[Any]]) -> list[Any]:
        fed = [tf.cast(array, spec.dtype) for array, spec in zip(batch, specs, strict=True)]
        return [output.numpy() for output in function(*fed)]

    return step


def _twin_node(twin: LayerTwin, name: str, inputs: tuple[str, ...], node: Node) -> Node:
    fresh = layer_node(twin, name, inputs, node.shape, node.source)
    share = None if node.share is None else f"{node.share}/{twin.name}"
    return fresh.with_(share=share)
