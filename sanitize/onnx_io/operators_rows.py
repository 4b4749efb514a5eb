"""Operators on values one axis of which counts samples times something: those that look at each
row alone are read as they are on the value with these axes apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from .fold import Known
from .layout import Rows, Tensor
from .opaque_operators import opaque
from .operators_arithmetic import ARITHMETIC_OPERATORS
from .operators_elementwise import ELEMENTWISE_OPERATORS
from .operators_linear import LINEAR_OPERATORS, gemm_weights
from .operators_part import PART_OPERATORS
from .operators_shape import SHAPE_OPERATORS
from .state import NotUnderstood, Reading, error_at, needs_float
from .view import OnnxNode

Array = NDArray[Any]
Values = Sequence[Tensor | Rows]

#: Whose constants meet the value number by number.
_BROADCASTING = (*ARITHMETIC_OPERATORS, "Pow", "PRelu")
#: Whose attribute ``axis`` names an axis of the value.
_ALONG_AN_AXIS = ("Softmax", "LogSoftmax", "Concat", "Split", "Gather")
_MOVING = ("Reshape", "Flatten", "Transpose")
_ADVICE = "Export the model so that one axis counts samples alone"


def read_rows(r: Reading, node: OnnxNode) -> Values:
    """Read a node some inputs of which are Rows.

    Raises OnnxError, naming it, for one that does not look at each row alone, or that the graph has
    no kind for.
    """
    rows = [value for name in node.inputs if isinstance(value := r.values.get(name), Rows)]
    try:
        if node.domain or not rows:
            raise NotUnderstood("it is not known to look at each row alone")
        if node.op_type in _MOVING:
            return [SHAPE_OPERATORS[node.op_type](r, node)]
        others = [value for name in node.inputs if isinstance(value := r.values.get(name), Tensor)]
        if others or not all(rows[0].alike(value) for value in rows):
            raise NotUnderstood("its other input counts something else along that axis")
        read = _ENTRIES.get(node.op_type)
        if read is None:
            raise NotUnderstood("it is not known to look at each row alone")
        return [Rows(made, rows[0].start, rows[0].count) for made in read(r, node, rows[0])]
    except NotUnderstood as problem:
        read_in = [value for name in node.reads if isinstance(value := r.values[name], Rows)]
        raise error_at(node, f"reads {read_in[0]}: {problem}. {_ADVICE}") from problem


def _plain(r: Reading, node: OnnxNode, rows: Rows) -> list[Tensor]:
    """By the entry for the operator, on values whose axes are apart."""
    entry = {**ELEMENTWISE_OPERATORS, **ARITHMETIC_OPERATORS, **LINEAR_OPERATORS,
             **SHAPE_OPERATORS, **PART_OPERATORS}[node.op_type]  # fmt: skip
    return _with_axes_apart(entry, r, node, rows)


def _with_axes_apart(entry: Any, r: Reading, node: OnnxNode, rows: Rows) -> list[Tensor]:
    before = {name: r.values[name] for name in node.reads}
    try:
        for name, value in before.items():
            if isinstance(value, Rows):
                r.values[name] = value.tensor
            elif isinstance(value, Known) and node.op_type in _BROADCASTING:
                r.values[name] = Known((apart(r.constant(name), rows),))
        made: Any = entry(r, node)
    finally:
        r.values.update(before)
    return [made] if isinstance(made, Tensor) else list(made)


def apart(constant: Array, rows: Rows) -> Array:
    """A constant that meets a value, for the value with its axes apart."""
    place = constant.ndim - (rows.rank - rows.start)
    if place < 0:
        return constant
    if constant.shape[place] != 1:
        raise NotUnderstood("its constant has other numbers for other rows")
    shape = constant.shape
    return constant.reshape(*shape[:place], *(1,) * rows.count, *shape[place + 1 :])


def _along(r: Reading, node: OnnxNode, rows: Rows) -> list[Tensor]:
    """Along another axis than that of the rows, which is a later one when these are apart."""
    softmax = node.op_type in ("Softmax", "LogSoftmax")
    old = softmax and r.graph.opset < 13
    usual = (1 if old else -1) if softmax else 0
    axis = int(node.get("axis", usual)) % rows.rank
    if axis == rows.start or (old and axis != rows.rank - 1):
        raise NotUnderstood("it works on the rows together")
    attributes = {**node.attributes, "axis": rows.inner_axis(axis)}
    return _plain(r, replace(node, attributes=attributes), rows)


def _product(r: Reading, node: OnnxNode, rows: Rows) -> list[Tensor]:
    """MatMul: a matrix behind any axes, or in front of the last two."""
    behind = r.known(node.input(0)) is None
    if rows.start == rows.rank - 1 or (not behind and rows.start == rows.rank - 2):
        raise NotUnderstood("it works on the rows together")
    data = [name for name in node.inputs if r.known(name) is None]
    if len(data) == 2 and rows.start < rows.rank - 2:  # as the heads of attention
        return _with_axes_apart(_kept, r, node, rows)
    return _plain(r, node, rows)


def _kept(r: Reading, node: OnnxNode) -> list[Tensor]:
    return opaque(r, node, "it multiplies two values that data flow into")


def _gemm(r: Reading, node: OnnxNode, rows: Rows) -> list[Tensor]:
    if rows.start != 0:
        raise NotUnderstood("it works on the rows together")
    kernel, bias = gemm_weights(r, node)
    tensor = _features_last(r, rows)
    if kernel.shape[0] != tensor.shape[-1]:
        raise NotUnderstood(f"its matrix {kernel.shape} does not fit {tensor.shape[-1]} features")
    value = r.emit("dense", [tensor.value], None, {"kernel": kernel, "bias": bias})
    r.kernels[value] = (node.input(1), node.input(2))
    return [r.made(value, tensor.order, tensor.dtype)]


def _batch_normalization(r: Reading, node: OnnxNode, rows: Rows) -> list[Tensor]:
    if rows.start != 0 or rows.rank != 2:
        raise NotUnderstood("it works on maps of theirs")
    tensor = _features_last(r, rows)
    # As for a sequence: its axes in front of the channels are normalized alike.
    inner = replace(tensor, order=(0, *range(2, tensor.rank), 1))
    before = r.values[node.input(0)]
    try:
        r.values[node.input(0)] = inner
        made: Tensor = LINEAR_OPERATORS["BatchNormalization"](r, node)
    finally:
        r.values[node.input(0)] = before
    return [replace(made, order=tensor.order)]


def _features_last(r: Reading, rows: Rows) -> Tensor:
    """The value of (rows, features) with its features as our last axis."""
    tensor = rows.tensor
    needs_float(tensor)
    if rows.rank != 2:
        raise NotUnderstood(f"its input has {rows.rank} axes, not two")
    last = tensor.rank - 1
    others = [axis for axis in tensor.order[1:] if axis != last]
    return r.arranged(tensor, (tensor.batch_axis, *others, last))


_ENTRIES: Mapping[str, Callable[[Reading, OnnxNode, Rows], list[Tensor]]] = {
    **dict.fromkeys((*ELEMENTWISE_OPERATORS, *ARITHMETIC_OPERATORS), _plain),
    **dict.fromkeys(_ALONG_AN_AXIS, _along),
    "MatMul": _product,
    "Gemm": _gemm,
    "BatchNormalization": _batch_normalization,
}
