"""Operators that work number by number: activation functions and arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx.helper
from numpy.typing import NDArray

from ..functions import ONNX_OPERATORS, clip_spec, of_operator, power_spec, relu_spec
from .layout import Tensor
from .state import NotUnderstood, Reading, needs_float
from .view import OnnxNode

Array = NDArray[Any]
Entry = Callable[[Reading, OnnxNode], Tensor]

#: What ONNX takes for a Selu without alpha and gamma.
_SELU = (1.67326319217681884765625, 1.05070102214813232421875)
#: Numbers beyond this are no bounds: exporters write the limits of float32.
ENDLESS = 3.4e38


def spec_of(node: OnnxNode) -> dict[str, Any] | None:
    """Attributes of the activation that an operator with one input is; None for other operators."""
    return of_operator(node.op_type, node.get)


def function(r: Reading, node: OnnxNode) -> Tensor:
    tensor = r.tensor(node.input(0))
    needs_float(tensor)
    spec = spec_of(node)
    if spec is not None:
        return r.same(tensor, r.emit("activation", [tensor.value], spec))
    if node.op_type == "HardSigmoid":
        slope, offset = float(node.get("alpha", 0.2)), float(node.get("beta", 0.5))
        line = affine(r, tensor, slope, offset, suffix="line")
        return r.same(tensor, r.emit("relu", [line.value], {"max_value": 1.0}))
    if node.op_type == "Selu":
        attrs = {"function": "elu", "alpha": float(node.get("alpha", _SELU[0]))}
        inner = r.same(tensor, r.emit("activation", [tensor.value], attrs, suffix="elu"))
        return affine(r, inner, float(node.get("gamma", _SELU[1])), 0.0)
    raise NotUnderstood("its parameters make a function that the graph has no name for")


def emit_spec(r: Reading, tensor: Tensor, spec: Mapping[str, Any]) -> Tensor:
    """The function of that spec of a value."""
    attrs = {key: value for key, value in spec.items() if key != "kind"}
    return r.same(tensor, r.emit(spec["kind"], [tensor.value], attrs))


def affine(r: Reading, tensor: Tensor, scale: Any, offset: Any, suffix: str = "") -> Tensor:
    """scale and offset are in our layout already."""
    weights = {"scale": scale, "offset": offset}
    return r.same(tensor, r.emit("affine", [tensor.value], None, weights, suffix=suffix))


def relu(r: Reading, node: OnnxNode) -> Tensor:
    tensor = r.tensor(node.input(0))
    needs_float(tensor)
    return r.same(tensor, r.emit("relu", [tensor.value]))


def clipped(r: Reading, tensor: Tensor, low: float | None, high: float | None) -> Tensor:
    """clip(x, low, high): a ReLU with or without a ceiling wherever it can be."""
    if low is None and high is None:
        return tensor
    before = r.nodes[tensor.value]
    if before.kind == "relu" and not before.attrs and not before.weights and (low or 0.0) <= 0.0:
        if high is None:
            return tensor
        if high > 0:
            return r.same(tensor, r.emit("relu", before.inputs, {"max_value": high}))
    return emit_spec(r, tensor, clip_spec(low, high))


def clip(r: Reading, node: OnnxNode) -> Tensor:
    tensor = r.tensor(node.input(0))
    needs_float(tensor)
    low, high = r.setting(node, "min", 1), r.setting(node, "max", 2)
    low = None if low is None or low <= -ENDLESS else float(low)
    high = None if high is None or high >= ENDLESS else float(high)
    return clipped(r, tensor, low, high)


def prelu(r: Reading, node: OnnxNode) -> Tensor:
    tensor = r.tensor(node.input(0))
    needs_float(tensor)
    return sloped(r, tensor, r.fitted(tensor, r.constant(node.input(1))))


def sloped(r: Reading, tensor: Tensor, slope: Array) -> Tensor:
    """max(x, 0) + slope * min(x, 0) with the slope in our layout."""
    if np.ptp(slope) == 0:
        return emit_spec(r, tensor, relu_spec(None, float(slope.flat[0])))
    alpha = slope.reshape((1,) * (len(tensor.shape) - slope.ndim) + slope.shape)
    attrs = {"function": "prelu"}
    return r.same(tensor, r.emit("activation", [tensor.value], attrs, {"alpha": alpha}))


def softmax(r: Reading, node: OnnxNode) -> Tensor:
    tensor = r.unfolded(r.tensor(node.input(0)))
    needs_float(tensor)
    old = r.graph.opset < 13
    axis = int(node.get("axis", 1 if old else -1)) % tensor.rank
    suffix = "softmax" if node.op_type == "LogSoftmax" else ""
    sizes = tensor.onnx_shape
    # Up to opset 12 all axes from ``axis`` on are one.
    if old and any(size != 1 for size in sizes[axis + 1 :]):
        if axis != 1 or tensor.batch_axis != 0:
            raise NotUnderstood(f"it works on the axes from {axis} on together")
        value = r.emit("flatten", [tensor.value], suffix="flatten")
        value = r.emit("softmax", [value], {"axis": 0}, suffix="softmax")
        value = r.emit("reshape", [value], {"shape": tensor.shape})
    elif axis == tensor.batch_axis:
        raise NotUnderstood("it works on the axis that counts samples")
    else:
        value = r.emit("softmax", [tensor.value], {"axis": tensor.place(axis)}, suffix=suffix)
    if node.op_type == "LogSoftmax":
        value = r.emit("activation", [value], {"function": "log"})
    return r.same(tensor, value)


def negative(r: Reading, node: OnnxNode) -> Tensor:
    tensor = r.tensor(node.input(0))
    needs_float(tensor)
    return affine(r, tensor, -1.0, 0.0)


def power(r: Reading, node: OnnxNode) -> Tensor:
    tensor = r.tensor(node.input(0))
    needs_float(tensor)
    exponents = r.constant(node.input(1)).astype(np.float64)
    if exponents.size == 0 or np.ptp(exponents) != 0:
        raise NotUnderstood("its exponents differ")
    exponent = float(exponents.flat[0])
    r.fitted(tensor, exponents)
    return tensor if exponent == 1.0 else emit_spec(r, tensor, power_spec(exponent))


def passing(r: Reading, node: OnnxNode) -> Tensor:
    """Identity, and Dropout at inference: nothing happens."""
    if any(r.graph.uses(name) for name in node.outputs[1:]):
        raise NotUnderstood("somebody reads the mask it makes")
    return r.tensor(node.input(0))


def cast(r: Reading, node: OnnxNode) -> Tensor:
    tensor = r.tensor(node.input(0))
    if node.op_type == "CastLike":
        raise NotUnderstood("it casts to the type of another value")
    target = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(node.get("to")))
    if target.kind not in "fV" and not np.can_cast(tensor.dtype, target):
        raise NotUnderstood(f"it casts {tensor.dtype} to {target}, which loses digits")
    return Tensor(tensor.value, tensor.shape, tensor.order, target, tensor.folded)


ELEMENTWISE_OPERATORS: dict[str, Entry] = {
    **dict.fromkeys(ONNX_OPERATORS, function),
    "Relu": relu,
    "Clip": clip,
    "PRelu": prelu,
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "Neg": negative,
    "Pow": power,
    "Identity": passing,
    "Dropout": passing,
    "Cast": cast,
    "CastLike": cast,
}
