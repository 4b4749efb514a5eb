"""Operators that take and give quantized tensors, for layers of bytes with one step per tensor.

All activations are unsigned bytes, signed ones with the zero point 128, as onnxruntime wants one
type for what an operator reads and gives. QLinearConv, QLinearMatMul and the movements are
operators of ONNX itself; QGemm, QLinearAdd, QLinearMul and the average poolings are onnxruntime's,
of the domain com.microsoft. A layer that has none (a step per channel, 16 bits, a table, ...) stays
between DequantizeLinear and QuantizeLinear.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...numerics.hardware_kinds import Trait
from ...numerics.layer import LayerParams, run_layer
from ...numerics.layer_windows import Window
from ...numerics.rounding import saturate, shift_round
from ...runtime import ProgramLayer
from ..layer_builder import LayerBuilder, Tensor
from ..onnx_windows import fits, window_attributes
from .value_arrays import ValueArrays, Valued
from .value_form import Held
from .value_styles import INT32, QdqStyle
from .value_types import Container, Floats, Limits, container, uniform

CONTRIBUTED = "com.microsoft"
"""Domain of onnxruntime's own operators, version 1."""

BYTE_WEIGHTS = 127

MERGES = {"add": "QLinearAdd", "multiply": "QLinearMul"}


def emit_qoperator(
    builder: LayerBuilder,
    layer: ProgramLayer,
    read: Sequence[Held],
    step: Floats,
    limits: Limits | None,
) -> Tensor | None:
    """The integers of a layer, or None where no operator computes it.

    step, limits: of what leaves the layer; without limits it is an accumulator, given as floats.
    """
    if not all(held.is_quantized for held in read):
        return None
    spec, params = layer.spec, layer.params
    if params.table is not None or params.pad_value is not None:
        return None
    moves = spec.pool is None or spec.pool.kind == "max"
    plain = params.scale is None and params.bias is None and not spec.relu and moves
    if plain and limits is not None and Trait.PASSES in spec.traits:
        return _moved(builder, layer, read, limits)
    return _QLinear(builder, layer, read, step, limits).emit()


def _moved(
    builder: LayerBuilder, layer: ProgramLayer, read: Sequence[Held], limits: Limits
) -> Tensor | None:
    """Movements and maxima of integers, as they are."""
    kind = container(limits, 8, unsigned_bytes=True)
    if kind is None or kind.dtype != np.uint8 or (layer.spec.kind == "pad" and kind.zero):
        return None
    if any((held.tensor.dtype, held.zero) != (kind.dtype, kind.zero) for held in read):
        return None
    if any(shift is not None and np.any(shift) for shift in layer.params.input_shifts):
        return None
    one = np.ones(())
    arrays = ValueArrays(builder, QdqStyle(), LayerParams(), one, 1, 0)
    values = [Valued(held.tensor, one) for held in read]
    moved: Valued = run_layer(layer.spec, LayerParams(), values, arrays)
    return moved.tensor._replace(shape=tuple(layer.output_shape))


class _QLinear:
    """One layer with arithmetic; the methods give None where its numbers do not fit."""

    def __init__(
        self,
        builder: LayerBuilder,
        layer: ProgramLayer,
        read: Sequence[Held],
        step: Floats,
        limits: Limits | None,
    ) -> None:
        self.builder = builder
        self.layer = layer
        self.read = read
        self.step = step
        self.limits = limits
        self.kind = None if limits is None else container(limits, 8, unsigned_bytes=True)

    def emit(self) -> Tensor | None:
        """The layer, if there is an operator for it."""
        spec, steps = self.layer.spec, [uniform(held.step) for held in self.read]
        bytes_in = all(held.tensor.dtype == np.uint8 for held in self.read)
        if not bytes_in or None in steps or self._shifts() is None:
            return None
        if self.limits is not None and (
            uniform(self.step) is None or self.kind is None or self.kind.dtype != np.uint8
        ):
            return None
        if spec.kind == "dense" and len(self.read[0].tensor.shape) == 1 and spec.pool is None:
            return self._dense()
        if self.limits is None:
            return None
        if Trait.WEIGHTED in spec.traits and spec.pool is None:
            return self._convolution()
        if spec.kind in MERGES and spec.pool is None and len(self.read) == 2:
            return self._merge()
        if spec.kind == "identity" and spec.pool is not None:
            return self._average()
        return None

    # -- kinds -------------------------------------------------------------------------------

    def _convolution(self) -> Tensor | None:
        spec, weights = self.layer.spec, np.asarray(self.layer.params.weights, np.int64)
        x, groups = self.read[0].tensor, spec.groups
        window = spec.window or Window((1, 1))
        if spec.kind == "dense":
            if not x.is_map:
                return None
            kernel = weights.T[:, :, None, None]
        elif spec.kind == "depthwise_conv2d":
            groups = x.shape[2]
            kernel = weights.transpose(2, 3, 0, 1).reshape(-1, 1, *window.size)
        else:
            kernel = weights.transpose(3, 2, 0, 1)
        clip = self._clip()
        if window.input_dilation != (1, 1) or clip is None or not self._byte_weights(kernel):
            return None
        bias = self._bias(len(kernel))
        if bias is None:
            return None
        attributes = window_attributes(window, window.pads(x.shape[:2]))
        if groups > 1:
            attributes["group"] = groups
        inputs = [
            *self._operand(self.read[0]),
            *self._weights(kernel, len(kernel)),
            *self._result(),
            *bias,
        ]
        return self._finished(self.builder.node("QLinearConv", inputs, **attributes), clip)

    def _dense(self) -> Tensor | None:
        matrix = np.asarray(self.layer.params.weights, np.int64)
        clip, bias = self._clip(), self._bias(matrix.shape[1])
        if clip is None or bias is None or not self._byte_weights(matrix):
            return None
        operands = [*self._operand(self.read[0]), *self._weights(matrix, matrix.shape[1])]
        if self.limits is not None and not bias:
            return self._finished(
                self.builder.node("QLinearMatMul", [*operands, *self._result()]), clip
            )
        if self.limits is None and self.layer.spec.relu:
            return None
        inputs = [*operands, *(bias or [""]), *([] if self.limits is None else self._result())]
        name = self.builder.node("QGemm", inputs, CONTRIBUTED, alpha=1.0, transA=0, transB=0)
        if self.limits is None:
            return Tensor(name, np.dtype(np.float32), tuple(self.layer.output_shape))
        return self._finished(name, clip)

    def _merge(self) -> Tensor | None:
        shifts, clip = self._shifts(), self._clip()
        assert shifts is not None
        if self.layer.params.bias is not None or clip is None:
            return None
        unit = uniform(self._unit())
        if unit is None:
            return None
        factors = [unit * 2.0**shift for shift in shifts]
        if self.layer.spec.kind == "multiply":
            factors = [factors[0] * 2.0 ** shifts[1], 1.0]
        inputs = []
        for held, factor in zip(self.read, factors, strict=True):
            inputs += [held.tensor.name, self._number(factor), self._zero(held.zero)]
        operator = MERGES[self.layer.spec.kind]
        name = self.builder.node(operator, [*inputs, *self._result()], CONTRIBUTED)
        return self._finished(name, clip)

    def _average(self) -> Tensor | None:
        pool, x, clip = self.layer.spec.pool, self.read[0].tensor, self._clip()
        assert pool is not None
        unit = uniform(self._unit())
        wrong = self.layer.params.bias is not None or self.layer.params.max_value is not None
        if wrong or clip is None or unit is None or pool.kind == "max":
            return None
        shifts = self._shifts()
        assert shifts is not None
        factor = unit * pool.area(x.shape[:2]) * 2.0 ** shifts[0]
        if self.layer.spec.relu and self.read[0].zero:
            return None
        inputs = [x.name, self._number(factor), self._zero(self.read[0].zero), *self._result()]
        if pool.window is None:
            name = self.builder.node("QLinearGlobalAveragePool", inputs, CONTRIBUTED)
            shape = (1, 1, x.shape[2])
            if not pool.keepdims:
                mean = Tensor(name, x.dtype, shape)
                name = self.builder.reshape_stored(mean, shape[2:], shape[2:]).name
            return self._finished(name, clip)
        if not fits(pool.window, x.shape[:2]) or pool.window.dilation != (1, 1):
            return None
        attributes = window_attributes(pool.window, pool.window.pads(x.shape[:2]))
        name = self.builder.node("QLinearAveragePool", inputs, CONTRIBUTED, **attributes)
        return self._finished(name, clip)

    # -- operands ----------------------------------------------------------------------------

    def _unit(self) -> Floats:
        """Value of one integer of the accumulator, () or per channel."""
        params = self.layer.params
        if params.scale is None:
            return self.step
        shift = np.asarray(params.shift, np.float64)
        return np.asarray(np.asarray(params.scale) * np.exp2(-shift) * self.step)

    def _shifts(self) -> list[int] | None:
        """The left shift of each input; None if one has several."""
        found = []
        for shift in self.layer.params.input_shifts or [None] * len(self.read):
            each = np.asarray(0 if shift is None else shift).reshape(-1)
            if (each != each[0]).any():
                return None
            found.append(int(each[0]))
        return found

    def _operand(self, held: Held) -> list[str]:
        step = uniform(held.step)
        assert step is not None
        return [held.tensor.name, self._number(step), self._zero(held.zero)]

    def _weights(self, integers: npt.NDArray[np.int64], outputs: int) -> list[str]:
        """The weights, their steps, which fit those of input and accumulator, and zero points."""
        shifts, step = self._shifts(), uniform(self.read[0].step)
        assert shifts is not None and step is not None
        steps = np.broadcast_to(self._unit() * 2.0 ** shifts[0] / step, (outputs,))
        return [
            self.builder.initializer("kernel", integers, np.int8),
            self.builder.constant(steps, np.float32),
            self.builder.constant(np.zeros(outputs), np.int8),
        ]

    def _bias(self, outputs: int) -> list[str] | None:
        """In steps of the products: no names without a bias, None where 32 bits do not hold it."""
        params, shifts = self.layer.params, self._shifts()
        if params.bias is None:
            return []
        integers = np.asarray(params.bias, np.int64)
        if params.bias_shift is not None:
            integers = integers << np.asarray(params.bias_shift, np.int64)
        wide = integers.min() < INT32.low or integers.max() > INT32.high
        if wide or shifts is None or shifts[0]:
            return None
        full = np.broadcast_to(integers, (outputs,))
        return [self.builder.initializer("bias", full, np.int32)]

    def _result(self) -> list[str]:
        step = uniform(self.step)
        assert step is not None and self.kind is not None
        return [self._number(step), self._zero(self.kind.zero)]

    def _clip(self) -> Limits | None:
        """What the output is within, ReLU and its limit included; None if channels differ."""
        params, limits = self.layer.params, self.limits
        if limits is None:
            return INT32 if params.max_value is None else None
        low, high = limits
        if self.layer.spec.relu:
            low = max(low, 0)
            if params.max_value is not None:
                top = np.asarray(params.max_value, np.int64)
                if params.scale is not None:
                    scaled = shift_round(top * np.asarray(params.scale, np.int64), params.shift)
                    top = saturate(scaled, low, high)
                if (top != top.reshape(-1)[0]).any():
                    return None
                high = min(high, int(top.reshape(-1)[0]))
        return Limits(low, high)

    def _finished(self, name: str, clip: Limits) -> Tensor:
        kind: Container | None = self.kind
        assert kind is not None
        found = Tensor(name, kind.dtype, tuple(self.layer.output_shape))
        if kind.holds_exactly(clip):
            return found
        ends = [self.builder.constant(end + kind.zero, kind.dtype) for end in clip]
        return found._replace(name=self.builder.node("Clip", [name, *ends]))

    def _byte_weights(self, integers: npt.NDArray[np.int64]) -> bool:
        return int(abs(integers).max(initial=0)) <= BYTE_WEIGHTS

    def _number(self, value: float) -> str:
        return self.builder.constant(value, np.float32)

    def _zero(self, zero: int) -> str:
        return self.builder.constant(zero, np.uint8)
