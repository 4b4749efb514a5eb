"""The algebra of layers with weights and affine maps, which several rules share.

An affine map is y = x * scale + offset with one scale and offset per channel; a batch normalization
at inference is one: scale = gamma / sqrt(variance + epsilon), offset = beta - mean * scale.
All products are formed in float64 and rounded to float32 once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph, Node
from ..kinds import Trait, kinds_with
from ..semantics import run_node
from ..shapes import Shape, window_of, window_pads

Array = NDArray[np.float64]

#: Kinds with a kernel.
LINEAR = kinds_with(Trait.LINEAR)
_DEPTHWISE = kinds_with(Trait.DEPTHWISE)
#: Kinds that are an affine map.
AFFINE = kinds_with(Trait.AFFINE)


def affine_map(node: Node) -> tuple[Array, Array]:
    """(scale, offset) of a batchnorm or affine node, with the shapes of its weights."""
    weights = {key: value.astype(np.float64) for key, value in node.weights.items()}
    if node.kind == "affine":
        return weights["scale"], weights["offset"]
    scale = 1.0 / np.sqrt(weights["variance"] + node.attrs["epsilon"])
    if "gamma" in weights:
        scale = scale * weights["gamma"]
    offset = -weights["mean"] * scale
    return scale, offset + weights["beta"] if "beta" in weights else offset


def scale_outputs(node: Node, scale: Array, offset: Array) -> Node:
    """The linear node whose output is y * scale + offset: W' = W * scale, b' = b * scale + offset.

    ``scale``, ``offset``: (cout,).
    """
    kernel = node.weights["kernel"].astype(np.float64)
    if node.kind in _DEPTHWISE:
        kernel = kernel * scale.reshape(kernel.shape[2:])
    elif node.kind == "conv2d_transpose":
        kernel = kernel * scale[:, None]
    else:
        kernel = kernel * scale
    bias = offset
    if "bias" in node.weights:
        bias = node.weights["bias"].astype(np.float64) * scale + offset
    return _with_kernel_and_bias(node, kernel, bias)


def constant_response(graph: Graph, node: Node, offset: Array) -> Array | None:
    """(cout,) what ``offset``, (cin,), in every pixel adds to the outputs of a linear node.

    The padding of a convolution counts as ``offset`` too. None where a transposed convolution
    spreads the constant unevenly.
    """
    kernel = node.weights["kernel"].astype(np.float64)
    if node.kind == "dense":
        return np.asarray(offset @ kernel)
    if node.kind == "depthwise_conv2d":
        return np.asarray((kernel * offset[:, None]).sum((0, 1)).reshape(-1))
    if node.kind == "conv2d":
        offset = _per_group(offset, kernel, node.attrs["groups"])
        return np.asarray((kernel * offset).sum((0, 1, 2)))
    if not offset.any():
        return np.zeros(output_channels(node))
    # One channel in, one tap per output channel: a picture of ones shows what reaches each pixel.
    if node.kind == "conv2d_transpose":
        taps = np.einsum("hwoi,i->hwo", kernel, offset)
    else:
        taps = (kernel * offset[:, None]).reshape(*kernel.shape[:2], -1)
    height, width = graph.shape_of(node.inputs[0])[:2]
    if height is None or width is None:
        return None
    spread = node.with_(weights={"kernel": taps[..., None]}, kind="conv2d_transpose")
    picture = run_node(spread, [np.ones((1, height, width, 1))], np.float64)[0]
    constant = picture[0, 0, 0]
    even = np.allclose(picture, constant, rtol=1e-7, atol=1e-7 * np.abs(taps).max())
    return np.asarray(constant) if even else None


def scale_inputs(node: Node, scale: Array, offset: Array, constant: Array, padded: bool) -> Node:
    """The linear node that computes f(x * scale + offset) from x: W * scale, b + constant.

    ``scale``, ``offset``: (cin,); ``constant``: their :func:`constant_response`. Where the window
    is ``padded`` with a value v, the old kernel sees v when the new one sees (v - offset) / scale,
    so that becomes the padding value and the constant is the same at the border as inside. Channels
    with scale 0 must have offset == v there.
    """
    kernel = node.weights["kernel"].astype(np.float64)
    if node.kind == "conv2d":
        scaled = kernel * _per_group(scale, kernel, node.attrs["groups"])
    elif node.kind == "conv2d_transpose":
        scaled = kernel * scale
    else:
        scaled = kernel * scale[:, None]
    bias = node.weights.get("bias")
    if bias is not None:
        constant = constant + bias.astype(np.float64)
    result = _with_kernel_and_bias(node, scaled, constant)
    if not padded:
        return result.with_weights(pad_value=None) if "pad_value" in node.weights else result
    outside = pad_values(node, scale.size) - offset
    value = np.divide(outside, scale, out=np.zeros_like(outside), where=scale != 0)
    return result.with_weights(pad_value=value if np.any(value != 0) else None)


def pad_values(node: Node, channels: int) -> Array:
    """(cin,) the values that stand in the padding of a convolution."""
    value = node.weights.get("pad_value", np.zeros(channels, np.float32))
    return np.broadcast_to(value.astype(np.float64), (channels,))


def _per_group(array: Array, kernel: Array, groups: int) -> Array:
    """A value per input channel, (cin,), as (cin/groups, cout): the channel each tap reads."""
    grouped = array.reshape(groups, -1).T
    return np.repeat(grouped, kernel.shape[3] // groups, axis=1)


def _with_kernel_and_bias(node: Node, kernel: Array, bias: Array) -> Node:
    keep_none = "bias" not in node.weights and not np.any(bias)
    return node.with_weights(kernel=kernel, bias=None if keep_none else bias)


def output_channels(node: Node) -> int:
    """Number of output channels of a linear node."""
    shape = node.weights["kernel"].shape
    if node.kind in _DEPTHWISE:
        return int(shape[2] * shape[3])
    return int(shape[2] if node.kind == "conv2d_transpose" else shape[-1])


def explicit_pads(graph: Graph, node: Node) -> Any:
    """((top, bottom), (left, right)) of a windowed node; None where 'same' of an unknown size."""
    shapes = {key: value.shape for key, value in node.weights.items()}
    padding, size, strides, dilation = window_of(node.attrs, shapes)
    return window_pads(padding, graph.shape_of(node.inputs[0])[:2], size, strides, dilation)


def same_or_explicit(
    pads: Any, size: Shape, kernel: tuple[int, int], strides: tuple[int, int], dilation: Any
) -> Any:
    """The plainest way to say ``pads`` for an input of ``size``: "valid", "same" or the pads."""
    if pads == ((0, 0), (0, 0)):
        return "valid"
    if window_pads("same", size[:2], kernel, strides, dilation) == pads:
        return "same"
    return pads


def only_use(graph: Graph, value: str) -> bool:
    """Whether one node reads ``value``, once, and the network does not return it."""
    return graph.uses(value) == 1 and not graph.is_output(value)


def used_elsewhere(graph: Graph, node: Node) -> str:
    """The sentence that refuses to change a value with other readers."""
    if graph.is_output(node.name):
        return f"the value of '{node.name}' is an output of the network"
    readers = ", ".join(f"'{reader.name}'" for reader in graph.consumers(node.name))
    return f"the value of '{node.name}' is read by {readers}"
