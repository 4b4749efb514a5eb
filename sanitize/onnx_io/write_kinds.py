"""How each kind of node is written as ONNX operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..functions import FUNCTIONS
from ..node import Node
from ..onnx_errors import OnnxError
from .write_opaque import opaque
from .write_windows import WINDOW_WRITERS
from .writer import Writer, natural_axes

Array = NDArray[Any]
KindWriter = Callable[["Writer", Node, Sequence[str]], "str | list[str]"]

#: A slice without an end reads up to here.
_ENDLESS = 2**31 - 1


def dense(w: Writer, node: Node, inputs: Sequence[str]) -> str:
    kernel, bias, rank = node.weights["kernel"], node.weights.get("bias"), len(node.shape)
    if rank == 3:  # along the channels of a picture: a convolution of one pixel
        stored = w.weight(kernel, "kernel", kernel.T[:, :, None, None])
        given = [] if bias is None else [w.weight(bias, "bias")]
        return w.emit("Conv", inputs[0], stored, *given, kernel_shape=[1, 1])
    stored = w.weight(kernel, "kernel")
    if rank == 1:
        given = [] if bias is None else [w.weight(bias, "bias")]
        return w.emit("Gemm", inputs[0], stored, *given)
    result = w.emit("MatMul", inputs[0], stored)
    return result if bias is None else w.emit("Add", result, w.weight(bias, "bias"))


def batchnorm(w: Writer, node: Node, inputs: Sequence[str]) -> str:
    weights, rank = node.weights, len(node.shape)
    if rank == 2:  # (t, c): ONNX normalizes axis 1
        scale = 1.0 / np.sqrt(weights["variance"].astype(np.float64) + node.attrs["epsilon"])
        scale = scale * weights.get("gamma", 1.0)
        offset = weights.get("beta", 0.0) - weights["mean"] * scale
        return _scaled(w, inputs[0], scale, np.asarray(offset), rank)
    ones = np.ones_like(weights["mean"])
    parts = (
        ("gamma", weights.get("gamma", ones)),
        ("beta", weights.get("beta", 0 * ones)),
        ("mean", weights["mean"]),
        ("variance", weights["variance"]),
    )
    stored = [w.weight(array, key) for key, array in parts]
    epsilon = float(node.attrs["epsilon"])
    return w.emit("BatchNormalization", inputs[0], *stored, epsilon=epsilon)


def affine(w: Writer, node: Node, inputs: Sequence[str]) -> str:
    scale, offset = node.weights["scale"], node.weights["offset"]
    return _scaled(w, inputs[0], scale, offset, len(node.shape))


def _scaled(w: Writer, x: str, scale: Array, offset: Array, rank: int) -> str:
    scaled, moved = bool((scale != 1).any()), bool((offset != 0).any())
    if scaled:
        x = w.emit("Mul", x, w.broadcast(scale, rank, "scale"))
    if moved:
        x = w.emit("Add", x, w.broadcast(offset, rank, "offset"))
    return x


def relu(w: Writer, node: Node, inputs: Sequence[str]) -> str:
    ceiling = node.weights.get("max_value")
    if ceiling is not None:
        upper = w.broadcast(ceiling, len(node.shape), "max_value")
        return w.emit("Min", w.emit("Relu", inputs[0]), upper)
    top = node.attrs.get("max_value")
    if top is None:
        return w.emit("Relu", inputs[0])
    return w.emit("Clip", inputs[0], w.number(0.0), w.number(float(top)))


def activation(w: Writer, node: Node, inputs: Sequence[str]) -> str:
    if node.attrs["function"] == "prelu":
        alpha = w.broadcast(node.weights["alpha"], len(node.shape), "alpha")
        return w.emit("PRelu", inputs[0], alpha)
    function = FUNCTIONS[node.attrs["function"]]
    if function.write is None:
        raise OnnxError(
            f"node '{node.name}' is the function '{function.name}', which ONNX has no operators for"
        )
    return function.write(w, inputs[0], node.attrs)


def softmax(w: Writer, node: Node, inputs: Sequence[str]) -> str:
    return w.emit("Softmax", inputs[0], axis=w.axis(node.attrs["axis"], len(node.shape)))


def merge(op: str) -> KindWriter:
    """A merge of two or more values of one rank."""

    def write(w: Writer, node: Node, inputs: Sequence[str]) -> str:
        ranks = {len(w.shape(value)) for value in node.inputs}
        if len(ranks) > 1:
            raise OnnxError(f"node '{node.name}' ({node.kind}) merges values of different ranks")
        result = inputs[0]
        for other in inputs[1:]:
            result = w.emit(op, result, other)
        return result

    return write


def concat(w: Writer, node: Node, inputs: Sequence[str]) -> str:
    return w.emit("Concat", *inputs, axis=w.axis(node.attrs["axis"], len(node.shape)))


def flatten(w: Writer, node: Node, inputs: Sequence[str]) -> str:
    shape = w.shape(node.inputs[0])
    pixel = len(shape) == 3 and 1 in (shape[2], shape[0] * shape[1])
    return w.emit("Flatten", inputs[0] if pixel else w.to_ours(inputs[0], len(shape)), axis=1)


def reshape(w: Writer, node: Node, inputs: Sequence[str]) -> str:
    shape, before = w.shape(node.name), w.shape(node.inputs[0])
    value = w.to_ours(inputs[0], len(before))
    value = w.emit("Reshape", value, w.numbers((-1, *shape)))
    return w.from_ours(value, len(shape))


def permute(w: Writer, node: Node, inputs: Sequence[str]) -> str:
    rank, dims = len(node.shape), node.attrs["dims"]
    axes = natural_axes(rank)
    # ONNX axis a of the result is our axis axes[a], which is axis dims[axes[a]] of the input.
    perm = [0, *(w.axis(dims[axis], rank) for axis in axes)]
    return w.emit("Transpose", inputs[0], perm=perm)


def pad(w: Writer, node: Node, inputs: Sequence[str]) -> str:
    (top, bottom), (left, right) = node.attrs["padding"]
    pads = w.numbers((0, 0, top, left, 0, 0, bottom, right))
    return w.emit("Pad", inputs[0], pads, w.number(float(node.attrs.get("value", 0.0))))


def upsample(w: Writer, node: Node, inputs: Sequence[str]) -> str:
    height, width = node.attrs["size"]
    scales = np.asarray([1.0, 1.0, height, width], np.float32)
    return w.emit(
        "Resize",
        inputs[0],
        "",
        w.add_constant(scales, f"{w.label}/scales"),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def slices(w: Writer, node: Node, inputs: Sequence[str]) -> str:
    before = len(w.shape(node.inputs[0]))
    dropped = tuple(node.attrs.get("squeeze", ()))
    cuts: list[tuple[int, int, int, int]] = []
    for axis, (start, stop, step) in enumerate(node.attrs["slices"]):
        pace = step or 1
        first = start if start is not None else (0 if pace > 0 else _ENDLESS)
        end = stop if stop is not None else (_ENDLESS if pace > 0 else -_ENDLESS)
        if (first, end, pace) != (0, _ENDLESS, 1):
            cuts.append((first, end, axis + 1 if dropped else w.axis(axis, before), pace))
    value = w.to_ours(inputs[0], before) if dropped else inputs[0]
    if cuts:
        value = w.emit("Slice", value, *map(w.numbers, zip(*cuts, strict=True)))
    if dropped:
        value = w.emit("Squeeze", value, w.numbers([axis + 1 for axis in dropped]))
        value = w.from_ours(value, len(node.shape))
    return value


WRITERS: Mapping[str, KindWriter] = {
    **WINDOW_WRITERS,
    "dense": dense,
    "batchnorm": batchnorm,
    "affine": affine,
    "relu": relu,
    "activation": activation,
    "softmax": softmax,
    "add": merge("Add"),
    "subtract": merge("Sub"),
    "multiply": merge("Mul"),
    "maximum": merge("Max"),
    "minimum": merge("Min"),
    "concat": concat,
    "flatten": flatten,
    "reshape": reshape,
    "permute": permute,
    "pad": pad,
    "upsample": upsample,
    "slice": slices,
    "identity": lambda w, node, inputs: inputs[0],
    "opaque": opaque,
}
"""Kind of node -> its writer: from the writer, the node and its ONNX inputs to its outputs."""
