"""ONNX nodes that the graph has no kind for: kept, and run by ONNX's reference implementation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.shape_inference
from numpy.typing import NDArray

from ..node import Node
from .fold import FREE_BATCH, Known, OperatorRunner, evaluator_of, node_model
from .layout import PICTURE, Order, Tensor
from .state import Reading, error_at
from .view import OnnxNode

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class OnnxOperator:
    """The ``layer`` of an opaque node that came from ONNX.

    name, op_type, domain: of the ONNX node ``node``; reason: why the graph has no kind for it.
    imports: the opset version per domain that it was written for.
    """

    node: OnnxNode
    imports: Mapping[str, int]
    ir_version: int
    reason: str

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def op_type(self) -> str:
        return self.node.op_type

    @property
    def domain(self) -> str:
        return self.node.domain

    def __str__(self) -> str:
        return f"the ONNX operator {self.op_type} ({self.reason})"


@dataclass(frozen=True, eq=False)
class OperatorCall:
    """Runs the operator on our arrays: a list of arrays -> a list of arrays.

    inputs: the ONNX inputs that data flow into, each as Tensor; constants: the other inputs.
    orders: our order of each output's axes.
    """

    operator: OnnxOperator
    inputs: tuple[tuple[str, Tensor], ...]
    constants: Mapping[str, Array]
    orders: tuple[Order, ...]

    def model(self) -> onnx.ModelProto:
        """The operator with its constants, as a model of its own."""
        operator = self.operator
        names = [name for name, _ in self.inputs]
        return node_model(
            operator.node, operator.imports, operator.ir_version, names, self.constants
        )

    def onnx_call(self) -> tuple[onnx.ModelProto, list[tuple[str, str, Order]], list[Order]]:
        """The model of the node, (name, type, order) of its inputs, the order of its outputs."""
        inputs = [(name, str(tensor.dtype), tensor.order) for name, tensor in self.inputs]
        return self.model(), inputs, list(self.orders)

    @cached_property
    def _runner(self) -> OperatorRunner:
        names = [*(name for name, _ in self.inputs), *self.constants]
        return evaluator_of(
            self.operator.node, self.operator.imports, self.operator.ir_version, names
        )

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        given = dict(self.constants)
        for (name, tensor), array in zip(self.inputs, arrays, strict=True):
            back = [tensor.order.index(axis) for axis in range(tensor.rank)]
            given[name] = np.asarray(array).transpose(back).astype(tensor.dtype)
        results = self._runner(given)
        return [array.transpose(order) for array, order in zip(results, self.orders, strict=True)]


def opaque(r: Reading, node: OnnxNode, reason: str) -> list[Tensor]:
    """Emit ``node`` as an opaque node; a picture comes out channels-last as it came in."""
    inputs, constants = [], {}
    for name in dict.fromkeys(name for name in node.inputs if name):
        known = r.values[name]
        if not isinstance(known, Known):
            inputs.append((name, r.unfolded(known)))
        elif known.constant is None:
            raise error_at(node, f"is not understood ({reason}), and depends on the batch size")
        else:
            constants[name] = known.constant
    shapes, dtypes = _output_shapes(r, node, inputs, constants)
    pictures = any(tensor.order == PICTURE for _, tensor in inputs)
    orders = [
        PICTURE if pictures and len(shape) == 3 else tuple(range(len(shape) + 1))
        for shape in shapes
    ]
    ours = tuple(
        tuple(shape[axis - 1] for axis in order[1:])
        for shape, order in zip(shapes, orders, strict=True)
    )
    operator = OnnxOperator(node, r.graph.opset_imports, r.graph.ir_version, reason)
    attrs = {
        "layer": operator,
        "call": OperatorCall(operator, tuple(inputs), constants, tuple(orders)),
        "shapes": ours,
        "operator": node.op_type,
        "domain": node.domain,
        "reason": reason,
    }
    name = r.unique(r.label)
    values = tuple(tensor.value for _, tensor in inputs)
    r.nodes[name] = Node(name, "opaque", values, attrs, {}, ours[0], r.source)
    return [
        Tensor(name if index == 0 else f"{name}:{index}", shape, order, dtype)
        for index, (shape, order, dtype) in enumerate(zip(ours, orders, dtypes, strict=True))
    ]


def _output_shapes(
    r: Reading,
    node: OnnxNode,
    inputs: Sequence[tuple[str, Tensor]],
    constants: Mapping[str, Array],
) -> tuple[list[tuple[int, ...]], list[np.dtype[Any]]]:
    """Unbatched ONNX shapes and types of the outputs, by ONNX's own shape inference."""
    found: list[list[tuple[list[int], np.dtype[Any]]]] = []
    # Two sizes even where the model fixes one, so that an operator that mixes samples is found out.
    for batch in FREE_BATCH:
        infos = [
            onnx.helper.make_tensor_value_info(
                name,
                onnx.helper.np_dtype_to_tensor_dtype(tensor.dtype),
                [batch if size is None else size for size in tensor.onnx_shape],
            )
            for name, tensor in inputs
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.outputs if name]
        stored = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
        graph = onnx.helper.make_graph([node.proto], "node", infos, outputs, stored)
        opsets = [onnx.helper.make_opsetid(*pair) for pair in r.graph.opset_imports.items()]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=r.graph.ir_version)
        try:
            inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        except onnx.shape_inference.InferenceError as error:
            raise error_at(node, f"does not fit its inputs: {error}") from error
        found.append([_declared(value) for value in inferred.graph.output])
    shapes, dtypes = [], []
    for versions in zip(*found, strict=True):
        per_sample = {tuple(shape[1:]) for shape, _ in versions}
        batches = [shape[:1] for shape, _ in versions]
        if batches != [[batch] for batch in FREE_BATCH] or len(per_sample) != 1:
            raise error_at(
                node,
                f"is not understood, and its output of shape {versions[0][0]} does not hold one"
                " row per sample. Cut it off, or export the model for inference",
            )
        shapes.append(per_sample.pop())
        dtypes.append(versions[0][1])
    return shapes, dtypes


def _declared(value: onnx.ValueInfoProto) -> tuple[list[int], np.dtype[Any]]:
    kind = value.type.tensor_type
    # A size that is not known stands as -1, which is no batch size.
    shape = [int(d.dim_value) if d.HasField("dim_value") else -1 for d in kind.shape.dim]
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type or 1))
    return ([-1] if -1 in shape else shape), dtype
