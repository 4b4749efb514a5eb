"""Matrix products, batch normalization, and selections of channels written as convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layout import PICTURE, SEQUENCE, Tensor
from .state import NotUnderstood, Reading, needs_float
from .view import OnnxNode

Array = NDArray[Any]


def gemm(r: Reading, node: OnnxNode) -> Tensor:
    tensor = r.tensor(node.input(0))
    needs_float(tensor)
    name = node.input(2)
    if not name or r.known(name) is not None:
        kernel, bias = gemm_weights(r, node)
        return r.made(_dense(r, tensor, kernel, bias, node), (0, 1), tensor.dtype)
    kernel = _gemm_kernel(r, node)
    value = _dense(r, tensor, kernel, None, node, suffix="product")
    other = r.arranged(r.tensor(name), (0, 1))
    term = other.value
    beta = np.float32(node.get("beta", 1.0))
    if beta != 1:
        weights = {"scale": beta, "offset": 0.0}
        term = r.emit("affine", [term], None, weights, suffix="beta")
    return r.made(r.emit("add", [value, term]), (0, 1), tensor.dtype)


def gemm_weights(r: Reading, node: OnnxNode) -> tuple[Array, Array | None]:
    """Kernel (in, out) and bias (out,) or None of a Gemm whose bias is a constant."""
    kernel, name = _gemm_kernel(r, node), node.input(2)
    if not name:
        return kernel, None
    units = kernel.shape[1]
    bias = r.constant(name) * np.float32(node.get("beta", 1.0))
    if bias.size not in (1, units) or (bias.ndim > 1 and bias.shape[0] != 1):
        raise NotUnderstood(f"its bias {bias.shape} is not one number per unit")
    return kernel, np.broadcast_to(bias.reshape(-1), (units,)).copy()


def _gemm_kernel(r: Reading, node: OnnxNode) -> Array:
    if node.get("transA", 0):
        raise NotUnderstood("it transposes its data, whose first axis counts samples")
    kernel = r.constant(node.input(1))
    kernel = kernel.T if node.get("transB", 0) else kernel
    alpha = np.float32(node.get("alpha", 1.0))
    return kernel if alpha == 1 else kernel * alpha


def _dense(
    r: Reading, tensor: Tensor, kernel: Array, bias: Array | None, node: OnnxNode, suffix: str = ""
) -> str:
    """kernel: (in, out) in the order of the ONNX features."""
    if tensor.rank != 2:
        raise NotUnderstood(f"its input has {tensor.rank} axes, not two")
    if tensor.batch_axis != 0:
        raise NotUnderstood("it sums over the axis that counts samples")
    if kernel.ndim != 2 or kernel.shape[0] != tensor.shape[0]:
        raise NotUnderstood(f"its matrix {kernel.shape} does not fit {tensor.shape[0]} features")
    weights = {"kernel": r.placed(tensor, kernel), "bias": bias}
    value = r.emit("dense", [tensor.value], None, weights, suffix=suffix)
    if tensor.folded is None:
        r.kernels[value] = (node.input(1), node.input(2) if node.op_type == "Gemm" else "")
    return value


def matmul(r: Reading, node: OnnxNode) -> Tensor:
    left, right = (r.known(node.input(index)) for index in (0, 1))
    if left is None and right is None:
        raise NotUnderstood("it multiplies two values that data flow into")
    if right is not None:
        tensor, kernel = r.tensor(node.input(0)), r.constant(node.input(1))
        axis = tensor.rank - 1
    else:
        # W x = (x' W')': the same product along the other axis.
        tensor, kernel = r.tensor(node.input(1)), r.constant(node.input(0)).T
        axis = tensor.rank - 2
    needs_float(tensor)
    while kernel.ndim > 2 and kernel.shape[0] == 1 and right is not None:
        kernel = kernel[0]
    if kernel.ndim != 2:
        raise NotUnderstood(f"its matrix {kernel.shape} does not have two axes")
    if tensor.rank == 2 and right is not None:
        return r.made(_dense(r, tensor, kernel, None, node), (0, 1), tensor.dtype)
    if axis == tensor.batch_axis or axis < 0:
        raise NotUnderstood("it sums over the axis that counts samples")
    others = [a for a in tensor.order[1:] if a != axis]
    tensor = r.arranged(tensor, (tensor.batch_axis, *others, axis))
    value = r.emit("dense", [tensor.value], None, {"kernel": kernel})
    r.kernels[value] = (node.input(1 if right is not None else 0), "")
    return r.made(value, tensor.order, tensor.dtype)


def batch_normalization(r: Reading, node: OnnxNode) -> Tensor:
    if node.get("training_mode", 0) or any(r.graph.uses(name) for name in node.outputs[1:]):
        raise NotUnderstood("it is in training mode")
    tensor = r.tensor(node.input(0))
    needs_float(tensor)
    names = ("gamma", "beta", "mean", "variance")
    arrays = {key: r.constant(node.input(i)) for i, key in enumerate(names, 1)}
    if tensor.rank == 2 and tensor.batch_axis == 0:
        arrays = {key: r.placed(tensor, array) for key, array in arrays.items()}
    else:
        order = {4: PICTURE, 3: SEQUENCE}.get(tensor.rank)
        if order is None:
            raise NotUnderstood(f"its input has {tensor.rank} axes")
        tensor = r.arranged(tensor, order)
    attrs = {"epsilon": float(node.get("epsilon", 1e-5))}
    return r.same(tensor, r.emit("batchnorm", [tensor.value], attrs, arrays))


def local_response_normalization(r: Reading, node: OnnxNode) -> Tensor:
    """x / (bias + alpha/size * sum of the squares of the neighbouring channels) ** beta.

    The sum over neighbours is a convolution of size 1 whose matrix is a band.
    """
    tensor = r.tensor(node.input(0))
    needs_float(tensor)
    if tensor.rank != 4:
        raise NotUnderstood(f"its input has {tensor.rank} axes, not four")
    tensor = r.arranged(tensor, PICTURE)
    size, channels = int(node.get("size")), tensor.shape[2]
    distance = np.arange(channels)[:, None] - np.arange(channels)[None, :]
    near = (distance >= -((size - 1) // 2)) & (distance <= size // 2)
    kernel = near * (float(node.get("alpha", 1e-4)) / size)
    bias = np.full(channels, float(node.get("bias", 1.0)))
    value = r.emit("activation", [tensor.value], {"function": "square"}, suffix="square")
    attrs = {"strides": (1, 1), "padding": "valid", "dilation": (1, 1), "groups": 1}
    weights = {"kernel": kernel[None, None], "bias": bias}
    value = r.emit("conv2d", [value], attrs, weights, suffix="sum")
    power = {"function": "power", "exponent": -float(node.get("beta", 0.75))}
    value = r.emit("activation", [value], power, suffix="power")
    return r.same(tensor, r.emit("multiply", [tensor.value, value]))


def selection(r: Reading, tensor: Tensor, matrix: Array, offset: Array | None) -> Tensor:
    """Channels of ``tensor`` picked, moved or filled up: (in, out) zeros and ones, plus (out,).

    The channels must be our last axis. A convolution of size 1 does it, and takes over the strides
    of a subsampling that stands in front of it.
    """
    if len(tensor.shape) == 1:
        value = r.emit("dense", [tensor.value], None, {"kernel": matrix, "bias": offset})
        return r.same(tensor, value)
    if len(tensor.shape) != 3:
        raise NotUnderstood("it changes the number of channels of something that is no picture")
    source, strides = tensor.value, (1, 1)
    before = r.nodes[source]
    if before.kind == "slice" and not before.attrs.get("squeeze"):
        rows, columns, channels = before.attrs["slices"]
        if channels == (0, None, 1) and rows[:2] == columns[:2] == (0, None):
            source, strides = before.inputs[0], (rows[2], columns[2])
    attrs = {"strides": strides, "padding": "valid", "dilation": (1, 1), "groups": 1}
    weights = {"kernel": matrix[None, None], "bias": offset}
    return r.same(tensor, r.emit("conv2d", [source], attrs, weights))


def reordered_channels(size: int, places: Array) -> Array:
    """(size, len(places)): output channel j is input channel places[j], zero for -1."""
    matrix = np.zeros((size, len(places)), np.float32)
    for column, row in enumerate(places):
        if row >= 0:
            matrix[row, column] = 1.0
    return matrix


LINEAR_OPERATORS = {
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_normalization,
    "LRN": local_response_normalization,
}
