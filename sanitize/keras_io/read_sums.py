"""Bare Keras operations that combine the numbers of one tensor: means, windows, products.

The products are those with constants: a convolution or matrix whose weights are not computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from .call import Call, Entry, Slot, operands_of
from .emit import batched_axes, emit_reshape


def _reduce(kind: str) -> Entry:
    """A mean or maximum over height and width is global pooling; over one of them a window.

    A mean over the channels is a product with 1/c.
    """

    def entry(call: Call) -> bool:
        operation, shape = call.operation, call.shapes[0]
        if getattr(operation, "initial", None) is not None:
            return call.refuse("it starts from an initial value")
        axes = batched_axes(operation.axis, len(shape) + 1)
        if len(shape) == 3 and axes == (1, 2):
            call.emit(kind, attrs={"keepdims": bool(operation.keepdims)})
            return True
        if len(shape) == 3 and axes == (3,) and kind == "global_avg_pool" and shape[2] is not None:
            kernel = np.full((1, 1, shape[2], 1), 1.0 / shape[2])
            attrs = {"strides": (1, 1), "padding": "valid", "dilation": (1, 1), "groups": 1}
            mean = call.emit("conv2d", attrs=attrs, weights={"kernel": kernel}, suffix="mean")
            return emit_reshape(call, [mean])
        if len(shape) == 2 and axes == (1,):
            shape, axes = (1, *shape), (2,)
        if len(shape) != 3 or axes not in ((1,), (2,)) or None in shape:
            return call.refuse(f"it works over the axes {operation.axis} of a tensor {shape}")
        size = (shape[0], 1) if axes == (1,) else (1, shape[1])
        attrs = {"size": size, "strides": size, "padding": "valid"}
        inputs = None
        if shape != call.shapes[0]:
            inputs = [call.emit("reshape", attrs={"shape": shape}, suffix="expand")]
        pooled = call.emit(kind.removeprefix("global_"), inputs, attrs, suffix="pool")
        return emit_reshape(call, [pooled])

    return entry


def _sum(call: Call) -> bool:
    """A sum over height and width is their mean times their size."""
    shape, rank = call.shapes[0], len(call.shapes[0])
    if rank != 3 or batched_axes(call.operation.axis, rank + 1) != (1, 2) or None in shape:
        return call.refuse("only sums over height and width are known")
    mean = call.emit(
        "global_avg_pool", attrs={"keepdims": bool(call.operation.keepdims)}, suffix="mean"
    )
    scale = float(int(shape[0] or 0) * int(shape[1] or 0))
    call.emit("affine", [mean], weights={"scale": scale, "offset": 0.0})
    return True


def _matmul(call: Call) -> bool:
    """x times a constant matrix is a dense layer."""
    operands = operands_of(call)
    if operands is None or not isinstance(operands[0], Slot) or isinstance(operands[1], Slot):
        return call.refuse("only products of a tensor and a constant matrix are known")
    if operands[1].ndim != 2:
        return call.refuse(f"its constant has the shape {operands[1].shape}, not that of a matrix")
    call.emit("dense", weights={"kernel": operands[1]})
    return True


def _convolution(kind: str) -> Entry:
    """A convolution with a constant kernel."""

    def entry(call: Call) -> bool:
        operation, operands = call.operation, operands_of(call)
        layout = operation.data_format or keras.config.image_data_format()
        if operands is None or isinstance(operands[1], Slot) or operands[1].ndim != 4:
            return call.refuse("its kernel is computed, or not one of height and width")
        if layout != "channels_last":
            return call.refuse("its data are channels first")
        groups = {}
        if kind == "conv2d":
            groups["groups"] = int(call.shapes[0][-1] or 0) // int(operands[1].shape[2])
        attrs = {
            "strides": _two(operation.strides),
            "padding": operation.padding,
            "dilation": _two(operation.dilation_rate),
            **groups,
        }
        call.emit(kind, attrs=attrs, weights={"kernel": operands[1]})
        return True

    return entry


def _pool(kind: str) -> Entry:
    def entry(call: Call) -> bool:
        operation = call.operation
        layout = operation.data_format or keras.config.image_data_format()
        if len(call.shapes[0]) != 3 or layout != "channels_last":
            return False
        size = _two(operation.pool_size)
        strides = size if operation.strides is None else _two(operation.strides)
        attrs = {"size": size, "strides": strides, "padding": operation.padding}
        call.emit(kind, attrs=attrs)
        return True

    return entry


def _two(value: Any) -> tuple[int, int]:
    listed = tuple(value) if isinstance(value, Sequence) else (value, value)
    return int(listed[0]), int(listed[1])


SUMS: Mapping[str, Entry] = {
    "Mean": _reduce("global_avg_pool"),
    "Max": _reduce("global_max_pool"),
    "MaxPool": _pool("max_pool"),
    "AveragePool": _pool("avg_pool"),
    "Sum": _sum,
    "Matmul": _matmul,
    "Dot": _matmul,
    "Conv": _convolution("conv2d"),
    "DepthwiseConv": _convolution("depthwise_conv2d"),
}
