"""The table of all ONNX operators that the graph has kinds for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .fold import Known
from .layout import Rows, Tensor
from .operators_arithmetic import ARITHMETIC_OPERATORS
from .operators_elementwise import ELEMENTWISE_OPERATORS
from .operators_linear import LINEAR_OPERATORS
from .operators_part import PART_OPERATORS
from .operators_resize import RESIZE_OPERATORS
from .operators_shape import SHAPE_OPERATORS
from .operators_window import WINDOW_OPERATORS
from .state import Reading
from .view import OnnxNode

#: Operator -> entry: from the state of a reading and a node to the values of its outputs. An entry
#: raises NotUnderstood for a use of the operator that the graph has no kinds for.
OPERATORS: Mapping[str, Callable[[Reading, OnnxNode], Any]] = {
    **WINDOW_OPERATORS,
    **LINEAR_OPERATORS,
    **ELEMENTWISE_OPERATORS,
    **ARITHMETIC_OPERATORS,
    **SHAPE_OPERATORS,
    **PART_OPERATORS,
    **RESIZE_OPERATORS,
}


def shape_value(r: Reading, node: OnnxNode) -> Known | None:
    """What Shape and Size make of a value that data flow into; None for other operators."""
    if node.op_type not in ("Shape", "Size"):
        return None
    value = r.values[node.input(0)]
    assert isinstance(value, (Tensor, Rows))
    samples = []
    for batch in r.batches:
        sizes = np.array(value.sizes(batch), np.int64)
        if node.op_type == "Size":
            sizes = np.asarray(sizes.prod(), np.int64)
        else:
            sizes = sizes[slice(node.get("start", 0), node.get("end"))]
        samples.append(sizes)
    return Known(tuple(samples))
