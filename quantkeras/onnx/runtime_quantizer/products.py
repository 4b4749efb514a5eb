"""Conv, MatMul and Gemm as one thing: a product of two sides, and perhaps a bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.helper
from numpy.typing import NDArray

from .graph_editor import GraphEditor
from .operands import Operand, Operands

Array = NDArray[Any]

DEEPEST = (2**31 - 1) // (255 * 255)
"""So many products of two 8-bit integers fit the 32-bit accumulators of ONNX for certain."""


@dataclass(frozen=True, eq=False)
class Side:
    """One factor. array: of a constant, as the product takes it. axis: of the output channels.
    key: what was done to a constant before, for constants that several nodes read. on_left: of it.
    """

    name: str
    array: Array | None = None
    axis: int | None = None
    key: tuple[Any, ...] = ()
    on_left: bool = False

    def operand(self, operands: Operands) -> Operand:
        """The side as integers."""
        if self.array is None:
            return operands.activation(self.name)
        return operands.weights_of(self.name, self.array, self.axis, self.key, self.on_left)


@dataclass(frozen=True, eq=False)
class Product:
    """A node that can be quantized.

    bias: name of what is added, times beta. transposed: the left side (a matrix) is.
    """

    node: onnx.NodeProto
    left: Side
    right: Side
    bias: str | None = None
    beta: float = 1.0
    transposed: bool = False

    @property
    def is_conv(self) -> bool:
        return bool(self.node.op_type == "Conv")

    @property
    def activations(self) -> list[str]:
        """Names of the sides that are computed."""
        return [side.name for side in (self.left, self.right) if side.array is None]

    @property
    def window(self) -> list[onnx.AttributeProto]:
        """Attributes of a convolution, which its integer forms share; others have none."""
        return list(self.node.attribute) if self.is_conv else []

    def along_channels(self, values: Array) -> Array:
        """One number per channel so that it broadcasts to the output; scalars as they are."""
        if values.ndim == 0 or not self.is_conv or self.right.array is None:
            return values
        return values.reshape(-1, *[1] * (self.right.array.ndim - 2))


def read_product(editor: GraphEditor, node: onnx.NodeProto) -> Product | str:
    """The node as a product, or why it cannot be quantized."""
    read = {"Conv": _read_conv, "Gemm": _read_gemm, "MatMul": _read_matmul}
    found = read[node.op_type](editor, node)
    if isinstance(found, str):
        return found
    for side in (found.left, found.right):
        if side.array is not None and side.array.dtype != np.float32:
            return f"its weights are {side.array.dtype}, not float32"
        if side.array is None and side.name in editor.types and not editor.is_float(side.name):
            return f"its input '{side.name}' is not float32"
    if found.left.array is not None and found.right.array is not None:
        return "it is constant"
    depth = _depth(editor, found)
    if depth > DEEPEST:
        return f"a sum of {depth:,} products could pass 32 bits"
    return found


def _read_conv(editor: GraphEditor, node: onnx.NodeProto) -> Product | str:
    array = editor.constant(node.input[1])
    if array is None:
        return "its weights are computed"
    bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
    return Product(node, Side(node.input[0]), Side(node.input[1], array, axis=0), bias)


def _read_gemm(editor: GraphEditor, node: onnx.NodeProto) -> Product | str:
    array = editor.constant(node.input[1])
    if array is None:
        return "its weights are computed"
    given = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    alpha, beta = float(given.get("alpha", 1.0)), float(given.get("beta", 1.0))
    turned = bool(given.get("transB", 0))
    # Its factor becomes part of the weights, its sign included.
    array = np.ascontiguousarray((array.T if turned else array) * array.dtype.type(alpha))
    bias = node.input[2] if len(node.input) > 2 and node.input[2] and beta else None
    right = Side(node.input[1], array, axis=1, key=("Gemm", turned, alpha))
    return Product(node, Side(node.input[0]), right, bias, beta, bool(given.get("transA", 0)))


def _read_matmul(editor: GraphEditor, node: onnx.NodeProto) -> Product | str:
    left, right = (editor.constant(name) for name in node.input)
    if left is None and right is None and not all(map(editor.is_float, node.input)):
        return "the type of its inputs is not known to be float32"
    # Stacks of matrices take one scale: what onnxruntime fuses them into knows no other.
    axis = 1 if right is not None and right.ndim == 2 else None
    return Product(node, Side(node.input[0], left, on_left=True), Side(node.input[1], right, axis))


def _depth(editor: GraphEditor, product: Product) -> int:
    """How many products one output sums up; 0 where that is not known."""
    right, left = product.right.array, product.left.array
    if right is not None:
        if product.is_conv:
            return int(np.prod(right.shape[1:]))
        return int(right.shape[-2] if right.ndim > 1 else right.shape[0])
    if left is not None:
        return int(left.shape[-1])
    known = editor.types.get(product.left.name)
    return int(known.shape.dim[-1].dim_value) if known is not None and known.shape.dim else 0
