"""Float products with integer weights: Conv, ConvTranspose, Gemm and MatMul, and their biases."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ...numerics.layer_windows import Window
from ..layer_builder import LayerBuilder, Tensor
from .value_styles import Style
from .value_types import Floats

Ints = npt.NDArray[np.int64]

WITH_BIAS = ("Conv", "ConvTranspose", "Gemm")
"""Operators that take a bias as their third input."""


def emit_convolution(
    builder: LayerBuilder,
    style: Style,
    x: Tensor,
    kernel: Ints,
    steps: Floats,
    bits: int,
    attributes: dict[str, Any],
) -> str:
    """Name of a Conv. kernel: (out, in / groups, kh, kw) integers of ``steps`` (out,)."""
    weights = style.weights(builder, "kernel", kernel, steps, 0, bits)
    return builder.node("Conv", [x.name, weights], **attributes)


def emit_transposed(
    builder: LayerBuilder,
    style: Style,
    x: Tensor,
    kernel: Ints,
    steps: Floats,
    bits: int,
    window: Window,
    groups: int,
) -> str | None:
    """Name of a ConvTranspose for a convolution over a widened input, None where there is none.

    It takes padding from its output where the convolution adds it to the input, the kernel turned
    around, and the channels of the input first.
    """
    if window.input_dilation == (1, 1) or window.strides != (1, 1) or groups not in (1, x.shape[2]):
        return None
    cut = [
        [window.extent(axis) - 1 - pad for pad in window.pads(x.shape[:2])[axis]] for axis in (0, 1)
    ]
    extra = [max(-ends[1], 0) for ends in cut]
    ends = [(top, bottom + more) for (top, bottom), more in zip(cut, extra, strict=True)]
    longest = [max(pair) for pair in zip(window.input_dilation, window.dilation, strict=True)]
    if min(min(pair) for pair in ends) < 0 or any(
        more >= size for more, size in zip(extra, longest, strict=True)
    ):
        return None
    if groups > 1 and len(kernel) != groups:
        return None  # several outputs per group: no axis of the weights has them all
    turned = kernel[:, :, ::-1, ::-1]
    axis = 0 if groups > 1 else 1
    weights = style.weights(
        builder, "kernel", turned if groups > 1 else turned.swapaxes(0, 1), steps, axis, bits
    )
    attributes: dict[str, Any] = {
        "kernel_shape": list(window.size),
        "strides": list(window.input_dilation),
        "dilations": list(window.dilation),
        "pads": [ends[0][0], ends[1][0], ends[0][1], ends[1][1]],
        "output_padding": extra,
    }
    if groups > 1:
        attributes["group"] = groups
    return builder.node("ConvTranspose", [x.name, weights], **attributes)


def emit_dense(
    builder: LayerBuilder, style: Style, x: Tensor, matrix: Ints, steps: Floats, bits: int
) -> str:
    """Name of a Gemm, or of a MatMul for more than one axis. matrix: (in, out)."""
    apart = not _of_bytes(builder, x)
    weights = style.weights(builder, "kernel", matrix, steps, 1, bits, apart)
    return builder.node("Gemm" if len(x.shape) == 1 else "MatMul", [x.name, weights])


def _of_bytes(builder: LayerBuilder, x: Tensor) -> bool:
    """Whether x comes straight from a DequantizeLinear of integers of 8 bits."""
    maker = next((node for node in reversed(builder.nodes) if node.output[0] == x.name), None)
    if maker is None or maker.op_type != "DequantizeLinear":
        return False
    zero = next(each for each in builder.initializers if each.name == maker.input[2])
    return zero.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)


def emit_bias(
    builder: LayerBuilder, style: Style, acc: Tensor, integers: Ints, step: Floats
) -> Tensor:
    """The accumulator plus a bias; step: of both, per channel or for all."""
    last = builder.nodes[-1]
    ready = last.output[0] == acc.name and last.op_type in WITH_BIAS and len(last.input) == 2
    if ready and step.ndim == 1 and len(step) == acc.shape[-1]:
        # What the node reads has to stand before it.
        builder.nodes.pop()
        full = np.broadcast_to(integers, step.shape)
        last.input.append(style.bias(builder, full, step))
        builder.nodes.append(last)
        return acc
    return builder.operate("Add", acc, integers * step)
