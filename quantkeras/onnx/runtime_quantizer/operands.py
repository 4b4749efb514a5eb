"""What quantized operators read: activations turned to integers on the way, and integer weights.

A tensor that several nodes read is quantized once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .graph_editor import GraphEditor
from .number_types import AffineParams, NumberType
from .quantized_weights import QuantizedWeights, WeightFormat, quantize_weights

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Operand:
    """One input of a quantized operator, as names of values.

    constant_scale: the scale where it is known, () or (channels,). weights: of a constant.
    """

    integers: str
    scale: str
    zero_point: str
    constant_scale: NDArray[np.float32] | None
    weights: QuantizedWeights | None


class Operands:
    """Makes operands for the nodes of one model.

    kind: of activations. params: theirs by name; None: they are measured while the model runs.
    """

    def __init__(
        self,
        editor: GraphEditor,
        kind: NumberType,
        form: WeightFormat,
        params: Mapping[str, AffineParams] | None,
    ) -> None:
        self.editor = editor
        self.form = form
        self.left_form = replace(form, kind=kind)
        self._params = params
        self._activations: dict[str, Operand] = {}
        self._weights: dict[tuple[Any, ...], Operand] = {}

    def activation(self, name: str) -> Operand:
        """The tensor as integers."""
        if name not in self._activations:
            make = self._dynamic if self._params is None else self._static
            self._activations[name] = make(name)
        return self._activations[name]

    def constant_params(self, name: str, params: AffineParams) -> tuple[str, str]:
        """Names of (scale, zero point) as constants; name: of the tensor that they belong to."""
        return (
            self.editor.add_constant(params.scale, f"{name}_scale"),
            self.editor.add_constant(params.zero_point, f"{name}_zero_point"),
        )

    def weights_of(
        self, name: str, array: Array, axis: int | None, key: tuple[Any, ...], on_left: bool
    ) -> Operand:
        """A constant as integers. axis: of its channels. key: what was done to the array before.

        on_left: where activations stand in most nodes. Such constants get their type, as
        onnxruntime multiplies no int8 by uint8.
        """
        form = self.left_form if on_left else self.form
        place = (name, axis if form.per_channel else None, on_left, *key)
        if place not in self._weights:
            found = quantize_weights(array, form, axis)
            add = self.editor.add_constant
            self._weights[place] = Operand(
                add(found.integers, f"{name}_quantized"),
                add(found.scale, f"{name}_scale"),
                add(found.zero_point, f"{name}_zero_point"),
                found.scale,
                found,
            )
        return self._weights[place]

    def _static(self, name: str) -> Operand:
        assert self._params is not None
        params = self._params[name]
        scale, zero_point = self.constant_params(name, params)
        integers = self.editor.node("QuantizeLinear", [name, scale, zero_point], name)
        known = np.asarray(params.scale, np.float32)
        return Operand(integers, scale, zero_point, known, None)

    def _dynamic(self, name: str) -> Operand:
        if self.editor.opset >= 11:
            names = self.editor.several("DynamicQuantizeLinear", [name], name, [None] * 3)
            return Operand(names[0], names[1], names[2], None, None)
        scale, zero_point = self._measured(name)
        integers = self.editor.node("QuantizeLinear", [name, scale, zero_point], name)
        return Operand(integers, scale, zero_point, None, None)

    def _measured(self, name: str) -> tuple[str, str]:
        """DynamicQuantizeLinear in the operators of opset 10: names of (scale, zero point)."""
        node, add = self.editor.node, self.editor.add_constant
        zero = add(np.float32(0), f"{name}_0")
        low = node("Min", [node("ReduceMin", [name], name, keepdims=0), zero], name)
        high = node("Max", [node("ReduceMax", [name], name, keepdims=0), zero], name)
        width = node("Sub", [high, low], name)
        step = node("Div", [width, add(np.float32(255), f"{name}_255")], name)
        scale = node("Max", [step, add(np.finfo(np.float32).tiny, f"{name}_tiny")], name)
        zero_point = node("Div", [node("Sub", [zero, low], name), scale], name)
        rounded = rounded_half_up(self.editor, zero_point, name)
        return scale, node("Cast", [rounded], name, to=onnx.TensorProto.UINT8)


def rounded_half_up(editor: GraphEditor, value: str, base: str) -> str:
    """floor(x + 0.5): opset 10 has no Round."""
    half = editor.add_constant(np.float32(0.5), f"{base}_half")
    return editor.node("Floor", [editor.node("Add", [value, half], base)], base)
