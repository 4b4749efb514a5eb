"""write_keras: a graph as a functional Keras model of native layers.

Reading the model again gives the same graph, but for what Keras has no layer for: explicit padding
of a convolution or pooling becomes a layer in front of it, and a padding value other than zero an
affine map before that (see ``padded_input``). Sanitizing puts both back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..graph import Graph, Node
from ..semantics import LOWEST, nest
from ..signs import is_non_negative
from .functions import activation_argument, activation_layer
from .opaque import OperationLayer, clone_layer, with_slots

Array = NDArray[Any]
layers = keras.layers


def write_keras(graph: Graph) -> Any:
    """A functional keras.Model that computes ``graph``.

    Layers are named as the nodes ("/" becomes "_"); nodes that share weights become one layer that
    is called several times. Opaque layers are made anew from their configuration with the weights
    copied, so that the model and the one the graph was read from share nothing; but a layer whose
    node has the attribute ``fresh`` is used itself.
    """
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
        # Names that nodes have are reserved for their own layers.
        self.wanted = {node.name: node.name.replace("/", "_") for node in graph.nodes}

    def name(self, wish: str) -> str:
        wish = wish.replace("/", "_")
        name, count = wish, 0
        while name in self.names:
            count += 1
            name = f"{wish}_{count}"
        self.names.add(name)
        return name

    def extra_name(self, wish: str) -> str:
        """A name for a helper layer that takes none of the names that nodes will want."""
        taken = set(self.wanted.values())
        name, count = wish.replace("/", "_"), 0
        while name in self.names or name in taken:
            count += 1
            name = f"{wish.replace('/', '_')}_{count}"
        self.names.add(name)
        return name

    def write_node(self, node: Node) -> None:
        if node.name in self.tensors or self.relu_first(node):
            return
        inputs = [self.tensors[value] for value in node.inputs]
        if node.kind == "input":
            name = self.name(node.name)
            tensor = keras.Input(node.shape, dtype=node.attrs["dtype"], name=name)
            self.tensors[node.name] = tensor
        elif node.kind == "opaque":
            results = keras.tree.flatten(self.call_opaque(node, inputs))
            for index, result in enumerate(results):
                self.tensors[node.name if index == 0 else f"{node.name}:{index}"] = result
        elif node.kind == "relu" and "max_value" in node.weights:
            self.tensors[node.name] = self.channel_clip(node, inputs[0])
        else:
            node, inputs[0] = self.padded_input(node, inputs[0])
            layer = self.layer_of(node)
            self.tensors[node.name] = layer(inputs if len(inputs) > 1 else inputs[0])
            _set_weights(layer, node)

    def layer_of(self, node: Node) -> Any:
        if node.share is None:
            return _LAYERS[node.kind](node, self.name(node.name))
        if node.share not in self.shared:
            self.shared[node.share] = _LAYERS[node.kind](node, self.name(node.name))
        return self.shared[node.share]

    def call_opaque(self, node: Node, inputs: list[Any]) -> Any:
        call, layer = node.attrs["call"], node.attrs["layer"]
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
        if node.kind == "avg_pool" and padding != ((0, 0), (0, 0)):
            raise ValueError(
                f"node '{node.name}' is an average pool with explicit padding, which Keras has no"
                " layer for; keep its padding 'same' or 'valid'"
            )
        if node.kind == "max_pool" and not is_non_negative(self.graph, node.inputs[0]):
            pad = _pad_layer(padding, LOWEST, self.extra_name(f"{node.name}/pad"))
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
        layer = _function(relu, self.name(relu.name))
        tensor = layer(self.tensors[pool.inputs[0]])
        padding = pool.attrs["padding"]
        tensor = layers.ZeroPadding2D(padding, name=self.extra_name(f"{pool.name}/pad"))(tensor)
        plain = pool.with_attrs(padding="valid")
        tensor = _LAYERS["max_pool"](plain, self.name(pool.name))(tensor)
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


def _window(node: Node) -> dict[str, Any]:
    return {
        "strides": node.attrs["strides"],
        "padding": node.attrs["padding"],
        "dilation_rate": node.attrs["dilation"],
        "use_bias": "bias" in node.weights,
        "activation": activation_argument(node.attrs.get("activation")),
    }


def _conv2d(node: Node, name: str) -> Any:
    height, width, _, filters = node.weights["kernel"].shape
    groups = node.attrs["groups"]
    return layers.Conv2D(filters, (height, width), groups=groups, name=name, **_window(node))


def _depthwise(node: Node, name: str) -> Any:
    height, width, _, multiplier = node.weights["kernel"].shape
    return layers.DepthwiseConv2D(
        (height, width), depth_multiplier=multiplier, name=name, **_window(node)
    )


def _conv2d_transpose(node: Node, name: str) -> Any:
    height, width, filters, _ = node.weights["kernel"].shape
    return layers.Conv2DTranspose(
        filters,
        (height, width),
        output_padding=node.attrs.get("output_padding"),
        name=name,
        **_window(node),
    )


def _dense(node: Node, name: str) -> Any:
    return layers.Dense(
        node.weights["kernel"].shape[1],
        use_bias="bias" in node.weights,
        activation=activation_argument(node.attrs.get("activation")),
        name=name,
    )


def _batchnorm(node: Node, name: str) -> Any:
    return layers.BatchNormalization(
        epsilon=node.attrs["epsilon"],
        center="beta" in node.weights,
        scale="gamma" in node.weights,
        name=name,
    )


def _affine(node: Node, name: str) -> Any:
    scale, offset = (node.weights[key].tolist() for key in ("scale", "offset"))
    return layers.Rescaling(scale, offset, name=name)


def _activation(node: Node, name: str) -> Any:
    if node.attrs["function"] == "prelu":
        rank, alpha = len(node.shape), node.weights["alpha"]
        shared = [axis + 1 for axis in range(rank) if alpha.shape[axis] == 1]
        return layers.PReLU(shared_axes=shared or None, name=name)
    return activation_layer({"kind": node.kind, **node.attrs}, name)


def _function(node: Node, name: str) -> Any:
    return activation_layer({"kind": node.kind, **node.attrs}, name)


def _slice(node: Node, name: str) -> Any:
    limits, drop = node.attrs["slices"], node.attrs.get("squeeze", ())
    if len(limits) == 3 and not drop and limits[2] == (0, None, 1):
        crop = [_crop(pair) for pair in limits[:2]]
        if None not in crop:
            return layers.Cropping2D(tuple(crop), name=name)
    key = tuple(limit[0] if axis in drop else slice(*limit) for axis, limit in enumerate(limits))
    arguments = [({"slot": 0}, (slice(None), *key)), {}]
    return OperationLayer(_get_item(), arguments, name=name)


def _crop(limit: tuple[Any, Any, Any]) -> tuple[int, int] | None:
    start, stop, step = limit
    if step != 1 or (start or 0) < 0 or (stop is not None and stop >= 0):
        return None
    return start or 0, 0 if stop is None else -stop


def _get_item() -> Any:
    """The operation behind ``x[...]``, which Keras makes but does not export."""
    return keras.KerasTensor((None, 1))[:, 0]._keras_history.operation.__class__()


def _pad_layer(padding: Any, value: float, name: str) -> Any:
    """Padding of height and width; Keras has a layer for zeros only."""
    if value == 0.0:
        return layers.ZeroPadding2D(padding, name=name)
    widths = ((0, 0), *padding, (0, 0))
    symbol = keras.ops.pad(keras.KerasTensor((None, 1, 1, 1)), widths)
    operation = symbol._keras_history.operation.__class__(widths)
    return OperationLayer(operation, [({"slot": 0},), {"constant_values": value}], name=name)


def _pool(kind: Any) -> Callable[[Node, str], Any]:
    def make(node: Node, name: str) -> Any:
        return kind(
            node.attrs["size"],
            strides=node.attrs["strides"],
            padding=node.attrs["padding"],
            name=name,
        )

    return make


def _global_pool(kind: Any) -> Callable[[Node, str], Any]:
    return lambda node, name: kind(keepdims=node.attrs["keepdims"], name=name)


def _plain(kind: Any) -> Callable[[Node, str], Any]:
    return lambda node, name: kind(name=name)


def _reshape(node: Node, name: str) -> Any:
    shape = tuple(-1 if size is None else size for size in node.attrs["shape"])
    return layers.Reshape(shape, name=name)


_LAYERS: Mapping[str, Callable[[Node, str], Any]] = {
    "conv2d": _conv2d,
    "depthwise_conv2d": _depthwise,
    "conv2d_transpose": _conv2d_transpose,
    "dense": _dense,
    "batchnorm": _batchnorm,
    "affine": _affine,
    "relu": _function,
    "activation": _activation,
    "softmax": _function,
    "max_pool": _pool(layers.MaxPooling2D),
    "avg_pool": _pool(layers.AveragePooling2D),
    "global_avg_pool": _global_pool(layers.GlobalAveragePooling2D),
    "global_max_pool": _global_pool(layers.GlobalMaxPooling2D),
    "add": _plain(layers.Add),
    "subtract": _plain(layers.Subtract),
    "multiply": _plain(layers.Multiply),
    "maximum": _plain(layers.Maximum),
    "minimum": _plain(layers.Minimum),
    "concat": lambda node, name: layers.Concatenate(axis=node.attrs["axis"] + 1, name=name),
    "flatten": _plain(layers.Flatten),
    "reshape": _reshape,
    "permute": lambda node, name: layers.Permute([d + 1 for d in node.attrs["dims"]], name=name),
    "pad": lambda node, name: _pad_layer(node.attrs["padding"], node.attrs.get("value", 0.0), name),
    "upsample": lambda node, name: layers.UpSampling2D(node.attrs["size"], name=name),
    "slice": _slice,
    "identity": _plain(layers.Identity),
}
#: Order of the weights in each Keras layer.
_WEIGHT_ORDER = ("kernel", "gamma", "beta", "mean", "variance", "bias", "alpha")


def _set_weights(layer: Any, node: Node) -> None:
    if not layer.weights:
        return
    values = [node.weights[key] for key in _WEIGHT_ORDER if key in node.weights]
    layer.set_weights(values)
