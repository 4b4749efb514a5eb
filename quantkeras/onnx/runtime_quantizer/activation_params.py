"""Params of activations where onnxruntime's static quantizers merge an activation function.

They leave out a Relu or Clip behind a quantized operator, and let the saturation of the integers
do its work. That is right only where nothing else reads the operator's output, and where the
output's integers end where the function clips: what is checked here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from sanitize.onnx_io.protos import uses_of

from .number_types import AffineParams, NumberType

_REQUANTIZING = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Concat")
"""Operators whose output has params of its own; others pass on those of their input."""


def merge_clipping(
    graph: onnx.GraphProto,
    nodes: Sequence[onnx.NodeProto],
    params: dict[str, AffineParams],
    kind: NumberType,
    symmetric: bool,
) -> list[onnx.NodeProto]:
    """The nodes without the Relus and Clips that have to stay float.

    The input of one that may be merged takes the params of its output, in ``params``.
    """
    readers = uses_of(graph, graph.node)
    made = {name for node in nodes if node.op_type in _REQUANTIZING for name in node.output}
    kept = []
    for node in nodes:
        if node.op_type not in ("Relu", "Clip") or symmetric:
            kept.append(node)
            continue
        source, output = node.input[0], node.output[0]
        limits = _limits(graph, node)
        if output not in params or limits is None:
            continue
        covers = _covered_by(params[output], kind, limits)
        if covers and readers[source] == 1 and source in made:
            params[source] = params[output]
            kept.append(node)
    return kept


def _limits(graph: onnx.GraphProto, node: onnx.NodeProto) -> tuple[float, float] | None:
    """What the function clips to, None where that is computed."""
    if node.op_type == "Relu":
        return 0.0, np.inf
    attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    limits = [float(attributes.get("min", -np.inf)), float(attributes.get("max", np.inf))]
    for index, name in enumerate(node.input[1:3]):
        tensor = next((tensor for tensor in graph.initializer if tensor.name == name), None)
        if name and tensor is None:
            return None
        if tensor is not None:
            limits[index] = float(onnx.numpy_helper.to_array(tensor))
    return limits[0], limits[1]


def _covered_by(params: AffineParams, kind: NumberType, limits: tuple[float, float]) -> bool:
    """Whether no integer stands for a value half a step or more beyond the limits."""
    zero, scale = int(params.zero_point), float(params.scale)
    low, high = (kind.qmin - zero) * scale, (kind.qmax - zero) * scale
    return low > limits[0] - scale / 2 and high < limits[1] + scale / 2
