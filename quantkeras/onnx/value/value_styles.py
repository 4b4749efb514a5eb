"""How tensors of values are marked as quantized: by Q/DQ pairs, or in a list beside the graph.

A style is told of every activation, kernel and bias by its integers and their step, and gives
back the float tensor that the next operator reads.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..layer_builder import LayerBuilder, Tensor
from .value_types import OPSET, Container, Floats, Limits, container

Ints = npt.NDArray[np.int64]

ACTIVATION_BITS = 8
"""Of the narrowest type of activations."""

INT32 = Limits(-(2**31), 2**31 - 1)


class Style(Protocol):
    """What the value forms differ in."""

    opset: int

    def activation(
        self,
        builder: LayerBuilder,
        x: Tensor,
        step: npt.ArrayLike,
        limits: Limits,
        within: bool = False,
    ) -> Tensor: ...

    def weights(
        self,
        builder: LayerBuilder,
        name: str,
        integers: Ints,
        step: Floats,
        axis: int,
        bits: int,
        apart: bool = False,
    ) -> str: ...

    def bias(self, builder: LayerBuilder, integers: Ints, step: Floats) -> str: ...


class QdqStyle:
    """QuantizeLinear and DequantizeLinear around every operator; weights are stored as integers.

    Types of 4 bits are for weights alone: onnxruntime has no QuantizeLinear of 4 bits behind a Relu
    or Clip. unsigned_bytes: signed activations of bytes have the zero point 128. opset: what the
    types used so far take.
    """

    def __init__(self, unsigned_bytes: bool = False) -> None:
        self.unsigned_bytes = unsigned_bytes
        self.opset = OPSET

    def activation(
        self,
        builder: LayerBuilder,
        x: Tensor,
        step: npt.ArrayLike,
        limits: Limits,
        within: bool = False,
    ) -> Tensor:
        """Integers, Clip first for limits that their type does not have; values without a type.

        within: whether x is within the limits already.
        """
        kind = container(limits, ACTIVATION_BITS, self.unsigned_bytes)
        even, factors = common_step(step)
        if factors is not None:
            # One step for the pair: onnxruntime fails to fuse pairs along an axis into some
            # operators, and other runtimes have no such pairs for activations.
            x = builder.operate("Mul", x, 1 / factors)
        if not within:
            x = emit_clip(builder, x, even, limits, kind)
        if kind is not None:
            self.opset = max(self.opset, kind.opset)
            x = emit_quantize(builder, x, kind, even)
        if factors is None:
            return x
        return emit_values(builder, x, step, 0 if kind is None else kind.zero)

    def weights(
        self,
        builder: LayerBuilder,
        name: str,
        integers: Ints,
        step: Floats,
        axis: int,
        bits: int,
        apart: bool = False,
    ) -> str:
        """Integers behind a DequantizeLinear; bits: of the weights, sign included, if known.

        apart: a Mul has the steps. onnxruntime (1.32) takes a DequantizeLinear of weights and the
        MatMul or Gemm behind it for a MatMulNBits of accuracy level 4, which rounds the other
        factor to 8 bits, unless that comes from a DequantizeLinear of 8 bits itself.
        """
        top = max(int(abs(integers).max(initial=1)), (1 << max(bits - 1, 0)) - 1)
        kind = container(Limits(-top, top))
        assert kind is not None, "weights have up to 16 bits"
        self.opset = max(self.opset, kind.opset)
        stored = builder.initializer(name, integers, kind.dtype)
        if apart:
            values = _dequantized(builder, stored, np.ones(()), axis)
            steps = step.reshape([-1 if at == axis else 1 for at in range(integers.ndim)])
            return builder.node("Mul", [values, builder.constant(steps, np.float32)])
        return _dequantized(builder, stored, step, axis)

    def bias(self, builder: LayerBuilder, integers: Ints, step: Floats) -> str:
        """Integers of 32 bits behind a DequantizeLinear; floats if these do not hold them."""
        if integers.min(initial=0) < INT32.low or integers.max(initial=0) > INT32.high:
            return builder.initializer("bias", integers * step, np.float32)
        return _dequantized(builder, builder.initializer("bias", integers, np.int32), step, 0)


def common_step(step: npt.ArrayLike) -> tuple[float, Floats | None]:
    """The coarsest step of a tensor, and by what the others differ from it; None if all are it."""
    steps = np.asarray(step, np.float64)
    coarsest = float(steps.max())
    return coarsest, None if (steps == coarsest).all() else steps / coarsest


def emit_quantize(builder: LayerBuilder, x: Tensor, kind: Container, step: float) -> Tensor:
    """QuantizeLinear."""
    zero = builder.constant(kind.zero, kind.dtype)
    inputs = [x.name, builder.constant(step, np.float32), zero]
    return x._replace(name=builder.node("QuantizeLinear", inputs), dtype=kind.dtype)


def emit_values(builder: LayerBuilder, x: Tensor, step: npt.ArrayLike, zero: int = 0) -> Tensor:
    """DequantizeLinear of integers, or nothing for floats, and a Mul where steps differ.

    step: of the integers, broadcastable to the unbatched shape; zero: their zero point.
    """
    even, factors = common_step(step)
    if x.dtype != np.float32:
        inputs = [x.name, builder.constant(even, np.float32), builder.constant(zero, x.dtype)]
        name = builder.node("DequantizeLinear", inputs)
        x = x._replace(name=name, dtype=np.dtype(np.float32))
    return x if factors is None else builder.operate("Mul", x, factors)


def emit_clip(
    builder: LayerBuilder, x: Tensor, step: float, limits: Limits, kind: Container | None
) -> Tensor:
    """Values within the limits of a format; nothing where its type saturates there anyway."""
    if kind is not None and kind.holds_exactly(limits):
        return x
    ends = [builder.constant(end * step, np.float32) for end in limits]
    return x._replace(name=builder.node("Clip", [x.name, *ends]))


def _dequantized(
    builder: LayerBuilder,
    stored: str,
    steps: Floats,
    axis: int,
) -> str:
    """Weights by value. Without a zero point: nothing moves their DequantizeLinear."""
    inputs = [stored, builder.constant(steps, np.float32)]
    attributes: dict[str, Any] = {"axis": axis} if steps.ndim else {}
    return builder.node("DequantizeLinear", inputs, **attributes)
