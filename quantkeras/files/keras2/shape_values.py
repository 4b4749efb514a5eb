"""Sizes that a Keras 2 graph computes, `tf.shape(x)[1:3]`, where the network fixes them.

What follows from fixed sizes alone is a constant: a size to resize to, or the target of a reshape.
The size of the batch stays a tensor, as `reshape` understands it.
"""

import copy
import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import keras

from quantkeras.files.keras2.calls import OpCall, Tensor

Config = dict[str, Any]

_SHAPES = ("compat.v1.shape", "shape")
_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "__operators__.add": operator.add,
    "math.add": operator.add,
    "math.floordiv": operator.floordiv,
    "math.multiply": operator.mul,
    "math.subtract": operator.sub,
}
_INDEXING = ("__operators__.getitem", "strided_slice")
#: What building a part of a network raises where a layer in it is not known here.
_UNBUILDABLE = (ValueError, TypeError, KeyError, AttributeError, IndexError, NotImplementedError)


class ShapeValues:
    """What is known of the sizes in one functional model, while its functions are replaced.

    config: of the model. used: gives the names of the layers that a reference needs. The layers
    in front of a function have to be upgraded already.
    """

    def __init__(self, config: Config, used: Callable[[list[Any]], set[str]]) -> None:
        self._config = config
        self._used = used
        # By layer: a number, or the list of numbers and None for what is not fixed.
        self._values: dict[str, Any] = {}

    def constant(self, reference: Tensor) -> Any:
        """The value of a tensor, or the tensor itself where it is not a number (or several)."""
        return self._values[reference.layer] if self.knows(reference.layer) else reference

    def knows(self, layer: str) -> bool:
        """Whether what a layer makes is a number, or several, all of them fixed."""
        value = self._values.get(layer)
        return value is not None and not (isinstance(value, list) and None in value)

    def learn(self, layer: str, call: OpCall) -> None:
        """Work out what a function of sizes makes, if it is one."""
        if call.function in _SHAPES and isinstance(call.first, Tensor):
            self._values[layer] = self._shape_of(call.first)
        elif call.function in _INDEXING:
            known = self._known(call.first)
            if isinstance(known, list):
                self._values[layer] = _indexed(known, call.rest.get("slice_spec"))
        elif call.function in _ARITHMETIC:
            pair = self._known(call.first), self._known(call.rest.get("y"))
            if all(isinstance(number, int) for number in pair) and (
                call.function != "math.floordiv" or pair[1]
            ):
                self._values[layer] = _ARITHMETIC[call.function](*pair)

    def with_rest(self, call: OpCall) -> OpCall:
        """The call with the length that a split leaves open, -1, where the network fixes it."""
        parts, axis = call.rest.get("num_or_size_splits"), call.rest.get("axis", 0)
        if call.function != "split" or not isinstance(parts, list) or parts.count(-1) != 1:
            return call
        shape = self._shape_of(call.first) if isinstance(call.first, Tensor) else None
        if shape is None or not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
            return call
        whole, known = shape[axis], [part for part in parts if part != -1]
        if whole is None or not all(isinstance(part, int) for part in known) or whole < sum(known):
            return call
        sizes = [whole - sum(known) if part == -1 else part for part in parts]
        return replace(call, rest={**call.rest, "num_or_size_splits": sizes})

    def _known(self, operand: Any) -> Any:
        return self._values.get(operand.layer) if isinstance(operand, Tensor) else operand

    def _shape_of(self, reference: Tensor) -> list[int | None] | None:
        """The shape of a tensor of the network, the batch first; None where it cannot be told."""
        ends: list[Any] = [reference.layer, reference.node, reference.index]
        needed = self._used(ends)
        part = copy.deepcopy(self._config)
        part["layers"] = [layer for layer in part["layers"] if layer["name"] in needed]
        by_name = {layer["name"]: layer for layer in part["layers"]}
        if by_name[reference.layer]["class_name"] == "Functional":
            ends[1] += 1  # as Keras 3 counts where an output is an inner model's
        part["output_layers"] = ends
        try:
            outputs = keras.tree.flatten(keras.Model.from_config(part).outputs)
        except _UNBUILDABLE:
            return None
        return list(outputs[0].shape)


def _indexed(value: list[Any], spec: Any) -> Any:
    """value[spec] for one index or slice as Keras 2 writes it; None for others."""
    if isinstance(spec, list) and len(spec) == 1:
        spec = spec[0]
    if isinstance(spec, dict) and {"start", "stop", "step"} <= set(spec):
        spec = slice(spec["start"], spec["stop"], spec["step"])
    if not isinstance(spec, int | slice):
        return None
    try:
        return value[spec]
    except (IndexError, TypeError):
        return None
