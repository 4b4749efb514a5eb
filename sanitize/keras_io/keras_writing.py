"""write_keras: a graph as a functional Keras model of native layers.

Reading the model again gives the same graph, but for what Keras has no layer for: explicit padding
of a convolution or pooling becomes a layer in front of it, and a padding value other than zero an
affine map before that (see ``padded_input``), which sanitizing puts back; explicit padding of an
average pool becomes a layer in front and an affine map per pixel behind.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..graph import Graph, Node
from ..semantics import LOWEST, nest
from ..signs import is_non_negative
from .average_pool import count_correction
from .names import layer_name
from .opaque_layers import OperationLayer, clone_layer, operation_layer, with_slots
from .own_layers import own_layers
from .write_layers import LAYERS, function_layer, pad_layer, set_weights

Array = NDArray[Any]
layers = keras.layers

#: Kinds whose layers take tensors of integers: a Rescaling casts, and movements keep the type.
_ANY_TYPE = frozenset(
    {"opaque", "affine", "identity", "reshape", "flatten", "permute", "slice", "concat"}
)


def write_keras(graph: Graph) -> Any:
    """Write a graph as a functional keras.Model.

    Layers are named as the nodes ("/" becomes "_"); nodes that share weights become one layer that
    is called several times. All compute in float32 and channels last, whatever the global dtype
    policy and image format are. Opaque layers, which keep their own, are made anew from their
    configuration with the weights copied, so that the model and the one the graph was read from
    share nothing; but a layer whose node has the attribute ``fresh`` is used itself.

    Args:
        graph: the network.

    Returns:
        A keras.Model that computes it.

    Raises:
        ValueError: for an operator of ONNX that Keras has no layer for.
    """
    with own_layers():
        writer = _Writer(graph)
        for node in graph.nodes:
            writer.write_node(node)
        inputs = [writer.tensors[name] for name in graph.inputs]
        outputs = [writer.tensors[value] for value in graph.outputs]
        return keras.Model(
            nest(graph.input_structure, inputs),
            nest(graph.output_structure, outputs),
            name=graph.name,
        )


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.tensors: dict[str, Any] = {}
        self.shared: dict[str, Any] = {}
        self.names: set[str] = set()
        self.cast: dict[str, Any] = {}
        # Names that nodes have are reserved for their own layers.
        self.wanted = {node.name: layer_name(node.name) for node in graph.nodes}

    def name(self, wish: str) -> str:
        wish = layer_name(wish)
        name, count = wish, 0
        while name in self.names:
            count += 1
            name = f"{wish}_{count}"
        self.names.add(name)
        return name

    def extra_name(self, wish: str) -> str:
        """A name for a helper layer that takes none of the names that nodes will want."""
        taken = set(self.wanted.values())
        wish = layer_name(wish)
        name, count = wish, 0
        while name in self.names or name in taken:
            count += 1
            name = f"{wish}_{count}"
        self.names.add(name)
        return name

    def write_node(self, node: Node) -> None:
        if node.name in self.tensors or self.relu_first(node):
            return
        inputs = [self.input_of(node, value) for value in node.inputs]
        if node.kind == "input":
            # Its name is the user's, and opens no scope.
            name = node.name.replace("/", "_")
            self.names.add(name)
            tensor = keras.Input(node.shape, dtype=node.attrs["dtype"], name=name)
            self.tensors[node.name] = tensor
        elif node.kind == "opaque":
            results = keras.tree.flatten(self.call_opaque(node, inputs))
            self.tensors.update(zip(node.values, results, strict=True))
        elif node.kind == "relu" and "max_value" in node.weights:
            self.tensors[node.name] = self.channel_clip(node, inputs[0])
        else:
            counts = count_correction(node, self.graph.shape_of(node.inputs[0]))
            node, inputs[0] = self.padded_input(node, inputs[0])
            layer = self.layer_of(node)
            tensor = layer(inputs if len(inputs) > 1 else inputs[0])
            if counts is not None:
                name = self.extra_name(f"{node.name}/count")
                tensor = layers.Rescaling(counts.tolist(), name=name)(tensor)
            self.tensors[node.name] = tensor
            set_weights(layer, node)

    def input_of(self, node: Node, value: str) -> Any:
        """The tensor of a value; cast to float where the model's input is not and has to be."""
        tensor = self.tensors[value]
        if "float" in tensor.dtype or node.kind in _ANY_TYPE:
            return tensor
        if value not in self.cast:
            name = self.extra_name(f"{value}/float")
            layer = operation_layer(lambda x: keras.ops.cast(x, "float32"), name)
            self.cast[value] = layer(tensor)
        return self.cast[value]

    def layer_of(self, node: Node) -> Any:
        if node.share is None:
            return LAYERS[node.kind](node, self.name(node.name))
        if node.share not in self.shared:
            self.shared[node.share] = LAYERS[node.kind](node, self.name(node.name))
        return self.shared[node.share]

    def call_opaque(self, node: Node, inputs: list[Any]) -> Any:
        call, layer = node.attrs["call"], node.attrs["layer"]
        if not isinstance(layer, keras.Operation):
            raise ValueError(
                f"node '{node.name}' is {layer}, which Keras has no layer for; cut the model off"
                " in front of it, or write the operator with others"
            )
        if not isinstance(layer, layers.Layer):
            arguments = list(with_slots(call.args, call.kwargs))
            wrapped = OperationLayer(layer, arguments, name=self.name(node.name))
            return wrapped(inputs)
        key = node.share or node.name
        if key not in self.shared:
            fresh = node.attrs.get("fresh", False)
            self.shared[key] = layer if fresh else clone_layer(layer, self.name(node.name))
        clone = self.shared[key]
        result = call.apply(clone, inputs)
        if clone is not layer:
            clone.set_weights(layer.get_weights())
        return result

    def channel_clip(self, node: Node, tensor: Any) -> Any:
        """clip(x, 0, m) for m per channel: min(r, m) = m - relu(m - r) with r = relu(x)."""
        ceiling = node.weights["max_value"].tolist()
        name = node.name
        tensor = layers.ReLU(name=self.extra_name(f"{name}/relu"))(tensor)
        for step in ("below", ""):
            label = self.extra_name(f"{name}/{step}") if step else self.name(name)
            tensor = layers.Rescaling(-1.0, ceiling, name=label)(tensor)
            if step:
                tensor = layers.ReLU(name=self.extra_name(f"{name}/clip"))(tensor)
        return tensor

    def padded_input(self, node: Node, tensor: Any) -> tuple[Node, Any]:
        """Explicit pads as a layer of their own, since Keras' windows know 'same' and 'valid' only.

        conv(pad_p(x)) with the value p around x is conv(pad_0(x - p)) + conv(p), and conv(p) is a
        constant per output channel because the padded picture is p everywhere.
        """
        padding = node.attrs.get("padding")
        if node.kind == "pad" or padding is None:
            return node, tensor
        value = node.weights.get("pad_value")
        if value is not None:
            tensor = layers.Rescaling(
                1.0, (-value).tolist(), name=self.extra_name(f"{node.name}/pad_offset")
            )(tensor)
            node = _with_pad_bias(node, value)
        if padding in ("same", "valid"):
            return node, tensor
        if node.kind == "max_pool" and not is_non_negative(self.graph, node.inputs[0]):
            pad = pad_layer(padding, LOWEST, self.extra_name(f"{node.name}/pad"))
        else:
            pad = layers.ZeroPadding2D(padding, name=self.extra_name(f"{node.name}/pad"))
        return node.with_attrs(padding="valid"), pad(tensor)

    def relu_first(self, pool: Node) -> bool:
        """Put the ReLU behind a padded max pool in front of it, where zeros will do as padding."""
        if pool.kind != "max_pool" or pool.attrs["padding"] in ("same", "valid"):
            return False
        readers = self.graph.consumers(pool.name)
        if self.graph.uses(pool.name) != 1 or not readers or readers[0].kind != "relu":
            return False
        relu = readers[0]
        if relu.weights:
            return False
        layer = function_layer(relu, self.name(relu.name))
        tensor = layer(self.tensors[pool.inputs[0]])
        padding = pool.attrs["padding"]
        tensor = layers.ZeroPadding2D(padding, name=self.extra_name(f"{pool.name}/pad"))(tensor)
        plain = pool.with_attrs(padding="valid")
        tensor = LAYERS["max_pool"](plain, self.name(pool.name))(tensor)
        self.tensors[relu.name] = tensor
        return True


def _with_pad_bias(node: Node, value: Array) -> Node:
    kernel = node.weights["kernel"].astype(np.float64)
    if node.kind == "conv2d":
        groups = node.attrs["groups"]
        parts = np.split(kernel, groups, axis=-1)
        values = np.split(value.astype(np.float64), groups)
        constant = np.concatenate(
            [np.einsum("hwio,i->o", part, v) for part, v in zip(parts, values, strict=True)]
        )
    else:
        constant = (kernel * value.astype(np.float64)[:, None]).sum((0, 1)).reshape(-1)
    bias = node.weights.get("bias", np.zeros(constant.shape, np.float32))
    return node.with_weights(pad_value=None, bias=bias + constant)
