"""Convolutions and poolings as ONNX operators; pictures are channels-first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..node import Node
from ..shapes import window_pads
from .writer import Writer

Array = NDArray[Any]


def _pads(w: Writer, node: Node, kernel: Sequence[int]) -> list[int]:
    """ONNX' pads (top, left, bottom, right)."""
    size = w.shape(node.inputs[0])[:2]
    dilation = node.attrs.get("dilation", (1, 1))
    pads = window_pads(node.attrs["padding"], size, kernel, node.attrs["strides"], dilation)
    assert pads is not None
    (top, bottom), (left, right) = pads
    return [top, left, bottom, right]


def conv2d(w: Writer, node: Node, inputs: Sequence[str]) -> str:
    kernel, groups = node.weights["kernel"], int(node.attrs["groups"])
    per_input = kernel.sum((0, 1), dtype=np.float64).reshape(kernel.shape[2], groups, -1)
    arranged = kernel.transpose(3, 2, 0, 1)

    def constant(value: Array) -> Array:
        return np.asarray(np.einsum("gi,igo->go", value.reshape(groups, -1), per_input).ravel())

    return _convolution(w, node, inputs[0], arranged, groups, constant)


def depthwise_conv2d(w: Writer, node: Node, inputs: Sequence[str]) -> str:
    kernel = node.weights["kernel"]
    height, width, channels, multiplier = kernel.shape
    arranged = kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
    per_input = kernel.sum((0, 1), dtype=np.float64)

    def constant(value: Array) -> Array:
        return np.asarray((value[:, None] * per_input).ravel())

    return _convolution(w, node, inputs[0], arranged, channels, constant)


def _convolution(
    w: Writer,
    node: Node,
    x: str,
    arranged: Array,
    groups: int,
    constant: Callable[[Array], Array],
) -> str:
    """constant: what the convolution makes of a picture that is one value per channel."""
    bias, border = node.weights.get("bias"), node.weights.get("pad_value")
    given = [] if bias is None else [w.weight(bias, "bias")]
    if border is not None:
        # Zeros around x - p are p around x: conv(x) = conv(x - p) + conv(p everywhere).
        x = w.emit("Sub", x, w.broadcast(border, 3, "pad_value"))
        total = constant(border.astype(np.float64)) + (0.0 if bias is None else bias)
        given = [w.weight(total.astype(np.float32), "bias")]
    return w.emit(
        "Conv",
        x,
        w.weight(node.weights["kernel"], "kernel", arranged),
        *given,
        kernel_shape=list(arranged.shape[2:]),
        strides=list(node.attrs["strides"]),
        dilations=list(node.attrs["dilation"]),
        pads=_pads(w, node, arranged.shape[2:]),
        group=groups,
    )


def conv2d_transpose(w: Writer, node: Node, inputs: Sequence[str]) -> str:
    kernel = node.weights["kernel"]
    return _transposed(w, node, inputs[0], kernel.transpose(3, 2, 0, 1), 1)


def depthwise_conv2d_transpose(w: Writer, node: Node, inputs: Sequence[str]) -> str:
    kernel = node.weights["kernel"]
    return _transposed(w, node, inputs[0], kernel.transpose(2, 3, 0, 1), kernel.shape[2])


def _transposed(w: Writer, node: Node, x: str, arranged: Array, groups: int) -> str:
    """arranged: (in, out/groups, kh, kw)."""
    size, out = w.shape(node.inputs[0]), w.shape(node.name)
    strides, dilation = node.attrs["strides"], node.attrs["dilation"]
    before, after, extra = [], [], []
    for axis in (0, 1):
        span = (arranged.shape[2 + axis] - 1) * dilation[axis] + 1
        full = (size[axis] - 1) * strides[axis] + span
        same = node.attrs["padding"] == "same"
        cut = max(full - out[axis], 0) // 2 if same else 0
        rest = full - cut - out[axis]
        before.append(cut)
        after.append(max(rest, 0))
        extra.append(max(-rest, 0))
    bias = node.weights.get("bias")
    return w.emit(
        "ConvTranspose",
        x,
        w.weight(node.weights["kernel"], "kernel", arranged),
        *([] if bias is None else [w.weight(bias, "bias")]),
        kernel_shape=list(arranged.shape[2:]),
        strides=list(strides),
        dilations=list(dilation),
        pads=[*before, *after],
        output_padding=extra if any(extra) else None,
        group=groups,
    )


def pool(op: str) -> Callable[[Writer, Node, Sequence[str]], str]:
    """MaxPool, or AveragePool that does not count its pads."""

    def write(w: Writer, node: Node, inputs: Sequence[str]) -> str:
        size = node.attrs["size"]
        return w.emit(
            op,
            inputs[0],
            kernel_shape=list(size),
            strides=list(node.attrs["strides"]),
            pads=_pads(w, node, size),
        )

    return write


def global_pool(op: str) -> Callable[[Writer, Node, Sequence[str]], str]:
    def write(w: Writer, node: Node, inputs: Sequence[str]) -> str:
        result = w.emit(op, inputs[0])
        return result if node.attrs["keepdims"] else w.emit("Flatten", result, axis=1)

    return write


WINDOW_WRITERS: Mapping[str, Callable[[Writer, Node, Sequence[str]], str]] = {
    "conv2d": conv2d,
    "depthwise_conv2d": depthwise_conv2d,
    "conv2d_transpose": conv2d_transpose,
    "depthwise_conv2d_transpose": depthwise_conv2d_transpose,
    "max_pool": pool("MaxPool"),
    "avg_pool": pool("AveragePool"),
    "global_avg_pool": global_pool("GlobalAveragePool"),
    "global_max_pool": global_pool("GlobalMaxPool"),
}
