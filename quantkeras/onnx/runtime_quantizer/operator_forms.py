"""A product as quantized operators: the forms that this package writes itself.

All of them read float tensors and leave the float tensor that the product made, under its name:
what stands around a node need not know that it was quantized.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from .graph_editor import GraphEditor
from .number_types import AffineParams
from .operands import Operand, Operands, rounded_half_up
from .products import Product

MICROSOFT = "com.microsoft"
"""Domain of onnxruntime's own operators."""

_LARGEST_BIAS = np.float32(2**31 - 128)
"""The largest float32 that an int32 can take."""


def write_integer(operands: Operands, product: Product) -> None:
    """ConvInteger or MatMulInteger: an accumulator of 32 bits, then one factor and the bias."""
    editor, name = operands.editor, product.node.name
    left, right = _sides(operands, product)
    sources = [left.integers, right.integers, left.zero_point, right.zero_point]
    op = "ConvInteger" if product.is_conv else "MatMulInteger"
    sums = editor.node(op, sources, name, attributes=product.window)
    values = editor.node("Cast", [sums], name, to=onnx.TensorProto.FLOAT)
    scale = _joint_scale(editor, product, left, right)
    output = product.node.output[0]
    if product.bias is None:
        editor.node("Mul", [values, scale], name, output)
        return
    scaled = editor.node("Mul", [values, scale], name)
    editor.node("Add", [scaled, _bias(editor, product)], name, output)


def write_qlinear(operands: Operands, product: Product, made: AffineParams) -> None:
    """QLinearConv, QLinearMatMul, or onnxruntime's QGemm for a Gemm (there is no standard one).

    made: zero point and scale of the output.
    """
    editor, name = operands.editor, product.node.name
    left, right = _sides(operands, product)
    output = product.node.output[0]
    out_scale, out_zero = operands.constant_params(output, made)
    sides = [
        *(left.integers, left.scale, left.zero_point),
        *(right.integers, right.scale, _zero_points(editor, right)),
    ]
    ends = [out_scale, out_zero]
    bias = [] if product.bias is None else [_integer_bias(editor, product, left, right)]
    if product.is_conv:
        found = editor.node("QLinearConv", [*sides, *ends, *bias], name, attributes=product.window)
    elif product.node.op_type == "Gemm":
        editor.use_domain(MICROSOFT)
        sources = [*sides, *(bias or [""]), *ends]
        found = editor.node("QGemm", sources, name, domain=MICROSOFT)
    else:
        found = editor.node("QLinearMatMul", [*sides, *ends], name)
    editor.node("DequantizeLinear", [found, *ends], name, output)


def write_qdq(operands: Operands, product: Product) -> None:
    """The float operator, reading what DequantizeLinear gives."""
    editor, node = operands.editor, product.node
    kept = onnx.NodeProto()
    kept.CopyFrom(node)
    for index, side in enumerate((product.left, product.right)):
        found = side.operand(operands)
        sources = [found.integers, found.scale, _zero_points(editor, found)]
        axis = None if found.weights is None else found.weights.axis
        more: dict[str, Any] = {} if axis is None else {"axis": axis}
        kept.input[index] = editor.node("DequantizeLinear", sources, side.name, **more)
    if node.op_type == "Gemm":  # transB and alpha are in the weights now
        for index in reversed(range(len(kept.attribute))):
            if kept.attribute[index].name in ("transB", "alpha"):
                del kept.attribute[index]
    editor.nodes.append(kept)


def _sides(operands: Operands, product: Product) -> tuple[Operand, Operand]:
    """Both sides as integers, the left one turned if the product asks for that."""
    left, right = product.left.operand(operands), product.right.operand(operands)
    if not product.transposed:
        return left, right
    turned = operands.editor.node("Transpose", [left.integers], product.node.name, perm=[1, 0])
    return (
        Operand(turned, left.scale, left.zero_point, left.constant_scale, left.weights),
        right,
    )


def _zero_points(editor: GraphEditor, operand: Operand) -> str:
    """As many zero points as there are scales, which all operators but ConvInteger ask for."""
    weights = operand.weights
    if weights is None or weights.axis is None:
        return operand.zero_point
    zeros = np.full(weights.scale.shape, weights.zero_point)
    return editor.add_constant(zeros, f"{operand.integers}_zero_points")


def _joint_scale(editor: GraphEditor, product: Product, left: Operand, right: Operand) -> str:
    """Name of what the accumulator is multiplied by, in a shape that broadcasts to the output."""
    name = f"{product.node.name}_scale"
    measured, known = [], np.ones(())
    for side in (left, right):
        if side.constant_scale is None:
            measured.append(side.scale)
        else:
            known = known * product.along_channels(side.constant_scale.astype(np.float64))
    if len(measured) == 2:
        return editor.node("Mul", measured, product.node.name)
    constant = editor.add_constant(known.astype(np.float32), name)
    return editor.node("Mul", [*measured, constant], product.node.name) if measured else constant


def _bias(editor: GraphEditor, product: Product) -> str:
    """Name of the bias, times beta, in a shape that broadcasts to the output."""
    assert product.bias is not None
    name = product.node.name
    array = editor.constant(product.bias)
    if array is not None:
        found = product.along_channels(array * array.dtype.type(product.beta))
        return editor.add_constant(found, f"{name}_bias")
    if not product.is_conv:
        return _times_beta(editor, product)
    assert product.right.array is not None
    shape = [-1, *[1] * (product.right.array.ndim - 2)]
    sources = [product.bias, editor.add_constant(np.asarray(shape, np.int64), f"{name}_bias_shape")]
    return editor.node("Reshape", sources, name)


def _times_beta(editor: GraphEditor, product: Product) -> str:
    assert product.bias is not None
    if product.beta == 1.0:
        return product.bias
    factor = editor.add_constant(np.float32(product.beta), f"{product.node.name}_beta")
    return editor.node("Mul", [product.bias, factor], product.node.name)


def _integer_bias(editor: GraphEditor, product: Product, left: Operand, right: Operand) -> str:
    """The bias in steps of the accumulator, which are only known while the model runs."""
    name = product.node.name
    step = editor.node("Mul", [left.scale, right.scale], name)
    steps = rounded_half_up(
        editor, editor.node("Div", [_times_beta(editor, product), step], name), name
    )
    most = editor.add_constant(_LARGEST_BIAS, f"{name}_most")
    least = editor.add_constant(-_LARGEST_BIAS, f"{name}_least")
    limited = editor.node("Max", [editor.node("Min", [steps, most], name), least], name)
    return editor.node("Cast", [limited], name, to=onnx.TensorProto.INT32)
