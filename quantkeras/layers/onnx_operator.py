"""A Keras layer for an ONNX operator that the graph has no kind for: it stays float, and runs."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import NDArray

from sanitize.graph import Graph, Node
from sanitize.keras_io.call import Slot
from sanitize.keras_io.opaque_layers import OpaqueCall

if TYPE_CHECKING:
    from sanitize.onnx_io.opaque_operators import OperatorCall

Array = NDArray[Any]


@keras.saving.register_keras_serializable(package="quantkeras")
class OnnxOperatorLayer(keras.layers.Layer):
    """Runs one ONNX node with ONNX's reference implementation, in NumPy, on every backend.

    operator: its ONNX operator. model: the node with its constants, a serialized ModelProto in
    base64. inputs: per tensor that flows in ``{"name", "dtype", "order"}``; outputs: per output
    ``{"shape", "order"}``; axis j here is axis order[j] of ONNX, and shapes are unbatched ones.
    reason: why it is not written with other layers, for messages.

    No gradient passes it: layers in front of it do not learn through it. Calling it needs the
    package onnx.
    """

    def __init__(
        self,
        operator: str,
        model: str,
        inputs: Sequence[Mapping[str, Any]],
        outputs: Sequence[Mapping[str, Any]],
        reason: str = "",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.operator = operator
        self.reason = reason
        self._node = _OnnxNode(
            model,
            [{**entry, "order": list(entry["order"])} for entry in inputs],
            [{key: list(value) for key, value in entry.items()} for entry in outputs],
        )

    @classmethod
    def of_call(
        cls, call: OperatorCall, shapes: Sequence[Sequence[int]], name: str
    ) -> OnnxOperatorLayer:
        """The layer for an opaque node of an imported graph."""
        return cls(
            call.operator.op_type,
            base64.b64encode(call.model().SerializeToString()).decode("ascii"),
            [{"name": n, "dtype": str(t.dtype), "order": t.order} for n, t in call.inputs],
            [
                {"shape": shape, "order": order}
                for shape, order in zip(shapes, call.orders, strict=True)
            ],
            call.operator.reason,
            name=name,
        )

    def call(self, inputs: Any) -> Any:
        """The outputs: one tensor, or a list of them."""
        tensors = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        shapes = [(tensors[0].shape[0], *entry["shape"]) for entry in self._node.outputs]
        backend = keras.backend.backend()
        if backend == "tensorflow":
            import tensorflow as tf

            results = tf.numpy_function(self._run, tensors, [tf.float32] * len(shapes))
            # One output comes as a tensor when run eagerly, as a list in a graph.
            results = list(results) if isinstance(results, (list, tuple)) else [results]
            for tensor, shape in zip(results, shapes, strict=True):
                tensor.set_shape(shape)
        elif backend == "jax":
            import jax

            specs = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
            results = jax.pure_callback(self._run, specs, *tensors)
        else:
            arrays = self._run(*(keras.ops.convert_to_numpy(tensor) for tensor in tensors))
            results = [keras.ops.convert_to_tensor(array) for array in arrays]
        return results if len(results) > 1 else results[0]

    def compute_output_spec(self, inputs: Any) -> Any:
        first = inputs[0] if isinstance(inputs, (list, tuple)) else inputs
        specs = [
            keras.KerasTensor((first.shape[0], *entry["shape"]), dtype="float32")
            for entry in self._node.outputs
        ]
        return specs if len(specs) > 1 else specs[0]

    def get_config(self) -> dict[str, Any]:
        own = {"operator": self.operator, "reason": self.reason, **asdict(self._node)}
        return {**super().get_config(), **own}

    def onnx_call(self) -> tuple[Any, list[tuple[str, str, list[int]]], list[list[int]]]:
        """The model of the node, (name, type, order) of its inputs, the order of its outputs."""
        import onnx

        model = onnx.load_model_from_string(base64.b64decode(self._node.model))
        inputs = [(entry["name"], entry["dtype"], entry["order"]) for entry in self._node.inputs]
        return model, inputs, [entry["order"] for entry in self._node.outputs]

    @cached_property
    def _evaluator(self) -> Any:
        from sanitize.onnx_io.fold import reference_evaluator

        return reference_evaluator(self.onnx_call()[0])

    def _run(self, *arrays: Array) -> list[Array]:
        given = {}
        for entry, array in zip(self._node.inputs, arrays, strict=True):
            back = np.argsort(entry["order"])
            given[entry["name"]] = np.asarray(array).transpose(back).astype(entry["dtype"])
        with np.errstate(all="ignore"):  # sigmoids of the reference overflow, to the right value
            results = self._evaluator.run(None, given)
        return [
            np.ascontiguousarray(np.asarray(result, np.float32).transpose(entry["order"]))
            for result, entry in zip(results, self._node.outputs, strict=True)
        ]


@dataclass(frozen=True)
class _OnnxNode:
    """What the layer was made of; Keras would track plain lists and dicts, and change them."""

    model: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]


def type_name(layer: Any) -> str:
    """The type of a layer or operation for messages and reports: its class, or what operator of an
    ONNX model it runs.
    """
    return layer.operator if isinstance(layer, OnnxOperatorLayer) else type(layer).__name__


def kind_of(node: Node) -> str:
    """The kind of a node; of an activation its function, of an opaque node its type."""
    if node.kind == "opaque":
        return type_name(node.attrs["layer"])
    return str(node.attrs.get("function", node.kind))


def with_operator_layers(graph: Graph) -> Graph:
    """An imported graph whose ONNX operators are layers, which a Keras model can hold."""
    nodes = [_with_layer(node) if node.kind == "opaque" else node for node in graph]
    return replace(graph, nodes=tuple(nodes))


def _with_layer(node: Node) -> Node:
    call = node.attrs["call"]
    layer = OnnxOperatorLayer.of_call(call, node.attrs["shapes"], node.name.replace("/", "_"))
    slots = [Slot(index) for index in range(len(node.inputs))]
    arguments = (slots if len(slots) > 1 else slots[0],)
    dtypes = tuple(str(tensor.dtype) for _, tensor in call.inputs)
    return node.with_attrs(layer=layer, call=OpaqueCall(layer, arguments, {}, dtypes), fresh=True)
