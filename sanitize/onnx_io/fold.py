"""What an ONNX model computes from constants and shapes alone, worked out while it is read.

Shapes are known except for the batch size. A value that depends on it is held by what it is for two
batch sizes: a number that differs between the two is the batch size or follows from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from ..onnx_errors import OnnxError
from .limits import check_result
from .protos import make_model
from .view import OnnxGraph, OnnxNode

Array = NDArray[Any]

#: Batch sizes that stand for a free one.
FREE_BATCH = (2, 3)
_RANDOM = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
#: Operators that ONNX's reference lacks in older opsets; since then they only took more types.
_NEWER = {"DequantizeLinear": 19, "QuantizeLinear": 19}


_FAULTS = (RuntimeError, TypeError, ValueError, LookupError, ArithmeticError, MemoryError)
"""What ONNX's reference raises for inputs or attributes that an operator does not take."""


@dataclass(frozen=True, eq=False)
class Known:
    """A value that no data flow into: one array per batch size, or one for all."""

    samples: tuple[Array, ...]

    @property
    def constant(self) -> Array | None:
        """The array, where it is the same for every batch size."""
        first = self.samples[0]
        same = all(
            other.shape == first.shape and np.array_equal(other, first)
            for other in self.samples[1:]
        )
        return first if same else None

    def at(self, index: int) -> Array:
        """The array for the batch size number ``index``."""
        return self.samples[index] if len(self.samples) > 1 else self.samples[0]


def run_operator(node: OnnxNode, arrays: Mapping[str, Array], graph: OnnxGraph) -> list[Array]:
    """Outputs of one ONNX node by ONNX's own reference implementation.

    arrays: the node's inputs by name. Raises OnnxError, naming the node, for an operator that the
    reference does not have, for inputs that it rejects, and where the outputs would be too large.
    """
    check_result(node.proto, arrays, graph.opset_imports, f"node {node}")
    return evaluator_of(node, graph.opset_imports, graph.ir_version, tuple(arrays))(arrays)


def reference_evaluator(model: onnx.ModelProto) -> ReferenceEvaluator:
    """ONNX's reference implementation of a model, of operators that it has in newer opsets too."""
    newest = max((_NEWER.get(node.op_type, 0) for node in model.graph.node), default=0)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for entry in copy.opset_import:
        if not entry.domain:
            entry.version = max(entry.version, newest)
    return ReferenceEvaluator(copy)


class OperatorRunner:
    """One ONNX node as a function from a dict of arrays to a list of arrays."""

    def __init__(self, node: OnnxNode, model: onnx.ModelProto) -> None:
        self.node = node
        try:
            self._evaluator = reference_evaluator(model)
        except (NotImplementedError, RuntimeError) as error:
            raise OnnxError(
                f"node {node} is an operator that ONNX's reference does not have: {error}"
            ) from error

    def __call__(self, arrays: Mapping[str, Array]) -> list[Array]:
        try:
            with np.errstate(all="ignore"):
                results = self._evaluator.run(None, dict(arrays))
        except _FAULTS as error:
            shapes = {name: array.shape for name, array in arrays.items()}
            raise OnnxError(f"node {self.node} cannot be run on {shapes}: {error}") from error
        if not all(isinstance(result, (np.ndarray, np.generic)) for result in results):
            raise OnnxError(f"node {self.node} makes a sequence; only tensors are read")
        return [np.asarray(result) for result in results]


def evaluator_of(
    node: OnnxNode, imports: Mapping[str, int], ir_version: int, inputs: Sequence[str]
) -> OperatorRunner:
    """A runner for ``node``; ``inputs`` are the names of its inputs that are given."""
    return OperatorRunner(node, node_model(node, imports, ir_version, inputs))


def node_model(
    node: OnnxNode,
    imports: Mapping[str, int],
    ir_version: int,
    inputs: Sequence[str],
    constants: Mapping[str, Array] | None = None,
) -> onnx.ModelProto:
    """A model of ``node`` alone, which takes ``inputs`` and holds ``constants``."""

    def info(name: str) -> onnx.ValueInfoProto:
        value = onnx.ValueInfoProto()
        value.name = name
        return value

    outputs = [name for name in node.outputs if name]
    graph = onnx.helper.make_graph(
        [node.proto],
        "node",
        [info(name) for name in dict.fromkeys(inputs)],
        [info(name) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    return make_model(graph, imports, ir_version)


def fold_constants(graph: OnnxGraph) -> None:
    """Compute every node that reads constants only; the results become constants.

    What only such nodes read is dropped as soon as they are computed.
    """
    rest: list[OnnxNode] = []
    left = Counter(name for node in graph.nodes for name in node.reads)
    left.update(graph.outputs)
    for node in graph.nodes:
        check_not_random(node)
        if all(name in graph.constants for name in node.reads):
            arrays = {name: graph.constants[name] for name in node.reads}
            names = [name for name in node.outputs if name]
            for name, array in zip(names, run_operator(node, arrays, graph), strict=True):
                graph.constants[name] = array
            left.subtract(node.reads)
            for name in node.reads:
                if not left[name]:
                    del graph.constants[name]
        else:
            rest.append(node)
    graph.keep_nodes(rest)


def check_not_random(node: OnnxNode) -> None:
    """Raise OnnxError for a node that draws random numbers."""
    if node.op_type in _RANDOM:
        raise OnnxError(
            f"node {node} draws random numbers, so the model has no fixed function. Export the"
            " model for inference"
        )


def fold_known(
    node: OnnxNode, inputs: Mapping[str, Known], batches: Sequence[int], graph: OnnxGraph
) -> list[Known]:
    """Outputs of a node all inputs of which are known."""
    count = len(batches) if any(len(known.samples) > 1 for known in inputs.values()) else 1
    runs = []
    for index in range(count):
        arrays = {name: known.at(index) for name, known in inputs.items()}
        runs.append(run_operator(node, arrays, graph))
    return [Known(tuple(samples)) for samples in zip(*runs, strict=True)]
