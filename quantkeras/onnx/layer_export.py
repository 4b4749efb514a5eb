"""Single Keras layers as ONNX operators, by Keras's own exporter: what the float tail may hold."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import onnx
import onnx.helper
from onnx.checker import ValidationError

from sanitize.graph import Graph, Node
from sanitize.keras_io.opaque_layers import OpaqueCall
from sanitize.onnx_errors import OnnxError

from ..errors import QuantizationError
from .float_export import export_float
from .onnx_options import OnnxOptions

_CHOICES = {"Argmax": "ArgMax", "Argmin": "ArgMin"}
_EXPORT_FAULTS = (RuntimeError, ValueError, TypeError, NotImplementedError)
"""What Keras and tf2onnx raise where they have no operators for a layer."""


def with_exported_layers(graph: Graph) -> Graph:
    """The graph with its opaque Keras layers as layers that say what they are in ONNX.

    Without tf2onnx, or on a backend that Keras does not export from, they stay as they are.
    """
    if importlib.util.find_spec("tf2onnx") is None:
        return graph
    return replace(graph, nodes=tuple(_with_exported(graph, node) for node in graph))


def _with_exported(graph: Graph, node: Node) -> Node:
    layer = node.attrs.get("layer")
    if node.kind != "opaque" or hasattr(layer, "onnx_call"):
        return node
    call = node.attrs["call"]
    if not isinstance(call, OpaqueCall):
        return node
    shapes = [tuple(graph.shape_of(value)) for value in node.inputs]
    return node.with_attrs(layer=ExportedLayer(node.name, call, shapes))


@dataclass(frozen=True, eq=False)
class ExportedLayer:
    """A call of a Keras layer on inputs of the given unbatched shapes, as a model of its own."""

    name: str
    call: OpaqueCall
    shapes: Sequence[tuple[int | None, ...]]

    def onnx_call(self) -> tuple[Any, list[tuple[str, str, list[int]]], list[list[int]]]:
        """(its model, (name, type, order of axes) per input, order of axes per output)."""
        inputs = [
            keras.Input(shape, dtype=dtype, name=f"input_{index}")
            for index, (shape, dtype) in enumerate(zip(self.shapes, self.call.dtypes, strict=True))
        ]
        outputs = keras.tree.flatten(self.call.apply(self.call.layer, inputs))
        orders = [[*_axes(tensor)] for tensor in outputs]
        if type(self.call.layer).__name__ in _CHOICES and len(inputs) == 1:
            return (
                self._choice(inputs[0]),
                [("input_0", inputs[0].dtype, [*_axes(inputs[0])])],
                orders,
            )
        try:
            found = export_float(keras.Model(inputs, outputs), None, OnnxOptions())
        except (QuantizationError, ValidationError, *_EXPORT_FAULTS) as error:
            kind = type(self.call.layer).__name__
            raise OnnxError(
                f"node {self.name!r} is a {kind}, which Keras cannot export: {error}"
            ) from error
        given = [
            (entry.name, str(tensor.dtype), [*_axes(tensor)])
            for entry, tensor in zip(found.graph.input, inputs, strict=True)
        ]
        return found, given, orders

    def _choice(self, tensor: Any) -> onnx.ModelProto:
        """The place of the largest or smallest value: Keras writes one that tells -0 from 0, with
        operators that ONNX does not have.
        """
        helper, layer, kind = onnx.helper, self.call.layer, onnx.TensorProto.FLOAT
        axis = layer.axis % len(tensor.shape)
        node = helper.make_node(
            _CHOICES[type(layer).__name__], ["input_0"], ["place"], axis=axis,
            keepdims=int(layer.keepdims),
        )  # fmt: skip
        graph = helper.make_graph(
            [node],
            self.name,
            [helper.make_tensor_value_info("input_0", kind, ["n", *tensor.shape[1:]])],
            [onnx.ValueInfoProto(name="place")],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def _axes(tensor: Any) -> range:
    return range(len(tensor.shape))
