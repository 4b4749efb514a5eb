"""ONNX nodes that the graph has no kind for: kept, and run by ONNX's reference implementation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.shape_inference
from numpy.typing import NDArray

from ..node import Node
from .fold import FREE_BATCH, OperatorRunner, evaluator_of, node_model
from .layout import PICTURE, Order, Tensor
from .protos import make_model, value_info
from .state import Reading, error_at
from .view import OnnxNode

Array = NDArray[Any]

_RECURRENT = ("LSTM", "GRU", "RNN")
#: Operators with a graph inside, whose outputs often have sizes that ONNX does not infer.
_BODIES = ("If", "Loop", "Scan")


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
    """Emit ``node`` as an opaque node; a picture comes out channels-last as it came in.

    The axis that counts samples may be any one of its inputs and outputs.
    """
    if node.op_type in _RECURRENT and not node.domain:
        node = _recurrent(r, node)
    inputs, constants = [], {}
    for name in node.reads:
        known = r.known(name)
        if known is None:
            inputs.append((name, r.unfolded(r.tensor(name))))
        elif known.constant is None:
            raise error_at(node, f"is not understood ({reason}), and depends on the batch size")
        else:
            constants[name] = known.constant
    shapes, dtypes, axes = _output_shapes(r, node, inputs, constants)
    pictures = any(tensor.order == PICTURE for _, tensor in inputs)
    orders = [
        PICTURE
        if pictures and len(shape) == 3 and axis == 0
        else (axis, *(other for other in range(len(shape) + 1) if other != axis))
        for shape, axis in zip(shapes, axes, strict=True)
    ]
    ours = tuple(
        tuple(shape[axis - (axis > order[0])] for axis in order[1:])
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
) -> tuple[list[tuple[int, ...]], list[np.dtype[Any]], list[int]]:
    """Of the outputs, by ONNX's own shape inference: ONNX sizes of one sample, types, and the axes
    that count samples, which the sizes leave out.
    """
    found: list[list[tuple[list[int], np.dtype[Any]]]] = []
    # Two sizes even where the model fixes one, so that an operator that mixes samples is found out.
    for batch in FREE_BATCH:
        infos = [
            value_info(
                name,
                tensor.dtype,
                [batch if size is None else size for size in tensor.onnx_shape],
            )
            for name, tensor in inputs
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.outputs if name]
        stored = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
        graph = onnx.helper.make_graph([node.proto], "node", infos, outputs, stored)
        model = make_model(graph, r.graph.opset_imports, r.graph.ir_version)
        try:
            inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        except onnx.shape_inference.InferenceError as error:
            raise error_at(node, f"does not fit its inputs: {error}") from error
        declared = [_declared(value) for value in inferred.graph.output]
        open_rank = any(not v.type.tensor_type.HasField("shape") for v in inferred.graph.output)
        if open_rank or (node.op_type in _BODIES and any(-1 in shape for shape, _ in declared)):
            declared = _shapes_of_a_run(node, model)
        found.append(declared)
    shapes, dtypes, axes = [], [], []
    for versions in zip(*found, strict=True):
        sizes = [shape for shape, _ in versions]
        axis = _batch_axis(sizes)
        if axis is None:
            raise error_at(
                node,
                f"is not understood, and its output of shape {sizes[0]} does not hold one row per"
                " sample, so that samples depend on each other. Cut it off, or export the model for"
                " inference",
            )
        shapes.append((*sizes[0][:axis], *sizes[0][axis + 1 :]))
        dtypes.append(versions[0][1])
        axes.append(axis)
    return shapes, dtypes, axes


def _shapes_of_a_run(
    node: OnnxNode, model: onnx.ModelProto
) -> list[tuple[list[int], np.dtype[Any]]]:
    """Shapes and types of the outputs as they come out for zeros."""
    arrays = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        sizes = [dim.dim_value for dim in kind.shape.dim]
        arrays[value.name] = np.zeros(sizes, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return [(list(array.shape), array.dtype) for array in OperatorRunner(node, model)(arrays)]


def _batch_axis(sizes: Sequence[Sequence[int]]) -> int | None:
    """The one axis that has the sizes FREE_BATCH, where all others are the same and known."""
    if len({len(shape) for shape in sizes}) != 1:
        return None
    free = [axis for axis, found in enumerate(zip(*sizes, strict=True)) if len(set(found)) > 1]
    if len(free) != 1 or any(-1 in shape for shape in sizes):
        return None
    axis = free[0]
    return axis if [shape[axis] for shape in sizes] == list(FREE_BATCH) else None


def _recurrent(r: Reading, node: OnnxNode) -> OnnxNode:
    """An LSTM, GRU or RNN without inputs that say what holds without them: lengths that are the
    whole sequence, and states that begin at zero, which exporters make for the size of the batch.
    """
    sequence = r.tensor(node.input(0))
    batch_axis = 0 if node.get("layout", 0) else 1
    if sequence.batch_axis != batch_axis:
        raise error_at(node, "runs along the axis that counts samples")
    length = sequence.onnx_shape[1 - batch_axis]
    inputs = list(node.inputs)
    for index, usual in ((4, length), (5, 0), (6, 0)):
        known = r.known(node.input(index))
        if known is not None and all((array == usual).all() for array in known.samples):
            inputs[index] = ""
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    proto.input[:] = inputs
    return replace(node, inputs=tuple(inputs), proto=proto)


def _declared(value: onnx.ValueInfoProto) -> tuple[list[int], np.dtype[Any]]:
    kind = value.type.tensor_type
    # A size that is not known stands as -1, which is no batch size.
    shape = [int(d.dim_value) if d.HasField("dim_value") else -1 for d in kind.shape.dim]
    shape = shape if kind.HasField("shape") else [-1]
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type or 1))
    return ([-1] if -1 in shape else shape), dtype
