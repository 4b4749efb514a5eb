"""The Keras layer of each kind of node, and its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from ..graph import Node
from .depthwise_transpose import DepthwiseConv2DTranspose
from .function_layers import activation_argument, activation_layer
from .opaque_layers import OperationLayer

layers = keras.layers


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


def _depthwise_transpose(node: Node, name: str) -> Any:
    height, width, _, multiplier = node.weights["kernel"].shape
    return DepthwiseConv2DTranspose(
        (height, width),
        output_padding=node.attrs.get("output_padding"),
        depth_multiplier=multiplier,
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


def function_layer(node: Node, name: str) -> Any:
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


def pad_layer(padding: Any, value: float, name: str) -> Any:
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


LAYERS: Mapping[str, Callable[[Node, str], Any]] = {
    "conv2d": _conv2d,
    "depthwise_conv2d": _depthwise,
    "conv2d_transpose": _conv2d_transpose,
    "depthwise_conv2d_transpose": _depthwise_transpose,
    "dense": _dense,
    "batchnorm": _batchnorm,
    "affine": _affine,
    "relu": function_layer,
    "activation": _activation,
    "softmax": function_layer,
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
    "pad": lambda node, name: pad_layer(node.attrs["padding"], node.attrs.get("value", 0.0), name),
    "upsample": lambda node, name: layers.UpSampling2D(node.attrs["size"], name=name),
    "slice": _slice,
    "identity": _plain(layers.Identity),
}
#: Order of the weights in each Keras layer.
_WEIGHT_ORDER = ("kernel", "gamma", "beta", "mean", "variance", "bias", "alpha")


def set_weights(layer: Any, node: Node) -> None:
    # The layer of a user's function brings its own weights.
    if not layer.weights or node.attrs.get("function") == "user":
        return
    values = [node.weights[key] for key in _WEIGHT_ORDER if key in node.weights]
    layer.set_weights(values)
