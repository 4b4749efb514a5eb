"""Arithmetic of two and more values: with constants an affine map, else a merge."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layout import Tensor
from .operators_elementwise import ENDLESS, Entry, affine, clipped
from .state import NotUnderstood, Reading, needs_float
from .view import OnnxNode

Array = NDArray[Any]


def aligned(r: Reading, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same values with their axes in one order: the one of the largest."""
    if len({tensor.rank for tensor in tensors}) > 1 or len({t.batch_axis for t in tensors}) > 1:
        shapes = [tensor.onnx_shape for tensor in tensors]
        raise NotUnderstood(f"its inputs {shapes} (None counts samples) have different axes")
    if len({(tensor.order, tensor.folded) for tensor in tensors}) == 1:
        return list(tensors)
    leader = max(tensors, key=lambda tensor: int(np.prod(tensor.shape)))
    return [r.arranged(tensor, leader.order) for tensor in tensors]


def _parts(r: Reading, node: OnnxNode) -> tuple[list[Tensor], list[Array]]:
    """The inputs that data flow into, and the constants among the inputs."""
    tensors, constants = [], []
    for name in node.inputs:
        if r.known(name) is None:
            tensor = r.tensor(name)
            needs_float(tensor)
            tensors.append(tensor)
        else:
            constants.append(r.constant(name))
    return tensors, constants


def merged(kind: str, fold: Any) -> Entry:
    """A symmetric operator of any number of inputs; ``fold`` combines its constants."""

    def read(r: Reading, node: OnnxNode) -> Tensor:
        tensors, constants = _parts(r, node)
        suffix = "merge" if constants else ""
        tensor = tensors[0]
        if len(tensors) > 1:
            tensors = aligned(r, tensors)
            value = r.emit(kind, [part.value for part in tensors], suffix=suffix)
            tensor = r.made(value, tensors[0].order, tensors[0].dtype)
            tensor = Tensor(
                tensor.value, tensor.shape, tensor.order, tensor.dtype, tensors[0].folded
            )
        if not constants:
            return tensor
        return with_constant(r, node, kind, tensor, reduce(fold, constants))

    return read


def with_constant(r: Reading, node: OnnxNode, kind: str, tensor: Tensor, array: Array) -> Tensor:
    constant = r.fitted(tensor, np.asarray(array, np.float32))
    if kind == "add":
        return _with_bias(r, node, tensor, constant) or affine(r, tensor, 1.0, constant)
    if kind == "multiply":
        return affine(r, tensor, constant, 0.0)
    if np.isnan(constant).any():
        raise NotUnderstood("its constant is not a number")
    endless = constant <= -ENDLESS if kind == "maximum" else constant >= ENDLESS
    if endless.all():  # as exporters write a maximum over an axis: the larger of x and -inf
        return tensor
    if not np.isfinite(constant).all():
        raise NotUnderstood("its constant is infinite in places")
    if (constant == constant.flat[0]).all():
        bound = float(constant.flat[0])
        return clipped(r, tensor, *((bound, None) if kind == "maximum" else (None, bound)))
    # max(x, c) = relu(x - c) + c and min(x, c) = c - relu(c - x).
    sign = 1.0 if kind == "maximum" else -1.0
    tensor = affine(r, tensor, sign, -sign * constant, suffix="from_bound")
    tensor = r.same(tensor, r.emit("relu", [tensor.value], suffix="relu"))
    return affine(r, tensor, sign, constant)


def _with_bias(r: Reading, node: OnnxNode, tensor: Tensor, constant: Array) -> Tensor | None:
    """A MatMul becomes a dense layer with bias when nobody else reads it."""
    dense = r.nodes[tensor.value]
    if dense.kind != "dense" or "bias" in dense.weights or constant.ndim > 1:
        return None
    name = next(name for name in node.inputs if r.known(name) is None)
    producer = r.graph.producer(name)
    if producer is None or producer.op_type != "MatMul" or r.graph.uses(name) != 1:
        return None
    units = dense.weights["kernel"].shape[1]
    if constant.ndim == 1 and constant.shape != (units,):
        return None
    bias = np.broadcast_to(constant, (units,)).copy()
    source = (*dense.source, *r.source)
    r.nodes[dense.name] = dense.with_weights(bias=bias).with_(source=source)
    kernel = r.kernels.get(dense.name)
    if kernel is not None:
        constants = [name for name in node.inputs if r.known(name) is not None]
        r.kernels[dense.name] = (kernel[0], *constants)
    return tensor


def subtract(r: Reading, node: OnnxNode) -> Tensor:
    tensors, constants = _parts(r, node)
    if not constants:
        left, right = aligned(r, tensors)
        value = r.emit("subtract", [left.value, right.value])
        made = r.made(value, left.order, left.dtype)
        return Tensor(made.value, made.shape, made.order, made.dtype, left.folded)
    constant = r.fitted(tensors[0], constants[0])
    if r.known(node.input(1)) is not None:
        return affine(r, tensors[0], 1.0, -constant)
    return affine(r, tensors[0], -1.0, constant)


def divide(r: Reading, node: OnnxNode) -> Tensor:
    tensors, constants = _parts(r, node)
    if r.known(node.input(1)) is not None:
        constant = r.fitted(tensors[0], constants[0]).astype(np.float64)
        if (constant == 0).any():
            raise NotUnderstood("it divides by zero")
        return affine(r, tensors[0], 1.0 / constant, 0.0)
    divisor = tensors[-1]
    value = r.emit("activation", [divisor.value], {"function": "reciprocal"}, suffix="reciprocal")
    inverse = r.same(divisor, value)
    if constants:
        return affine(r, inverse, r.fitted(inverse, constants[0]), 0.0)
    left, right = aligned(r, [tensors[0], inverse])
    made = r.made(r.emit("multiply", [left.value, right.value]), left.order, left.dtype)
    return Tensor(made.value, made.shape, made.order, made.dtype, left.folded)


def mean(r: Reading, node: OnnxNode) -> Tensor:
    tensors, constants = _parts(r, node)
    if constants:
        raise NotUnderstood("it takes the mean of values and constants")
    count = len(tensors)
    if count == 1:
        return tensors[0]
    tensors = aligned(r, tensors)
    value = r.emit("add", [part.value for part in tensors], suffix="sum")
    return affine(r, r.made(value, tensors[0].order, tensors[0].dtype), 1.0 / count, 0.0)


ARITHMETIC_OPERATORS: dict[str, Entry] = {
    "Add": merged("add", np.add),
    "Sum": merged("add", np.add),
    "Mul": merged("multiply", np.multiply),
    "Max": merged("maximum", np.maximum),
    "Min": merged("minimum", np.minimum),
    "Sub": subtract,
    "Div": divide,
    "Mean": mean,
}
