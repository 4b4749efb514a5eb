"""Writing operators that were kept as they are: moved to the opset of the model, and wired in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.defs
import onnx.helper
import onnx.numpy_helper
import onnx.version_converter

from ..node import Node
from ..onnx_errors import OnnxError
from .fold import OperatorRunner
from .layout import Order
from .opaque_operators import OperatorCall
from .protos import inner_graphs, opset_of, rename_in_node, rename_within, value_info
from .view import wrapped
from .writer import Writer

Given = Sequence[tuple[str, str, Sequence[int]]]


def opaque(w: Writer, node: Node, inputs: Sequence[str]) -> list[str]:
    """An ONNX operator that was kept; what else is opaque has no ONNX form.

    A ``layer`` may say what it is: its ``onnx_call()`` gives (its model, mostly of one node, (name,
    type, order) per input, order per output).
    """
    call, layer = node.attrs["call"], node.attrs["layer"]
    describe = call.onnx_call if isinstance(call, OperatorCall) else _described(layer, node)
    model, given, orders = describe()
    model = _at_opset(w, node, model, given)
    names = {"": ""}
    for value, ours, (name, dtype, order) in zip(inputs, node.inputs, given, strict=True):
        value = w.reordered(value, _order_here(len(w.shape(ours)) + 1), _inverse(order))
        if np.dtype(dtype) != np.float32:
            kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            value = w.emit("Cast", value, to=kind)
        names[name] = value
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        names[tensor.name] = w.add_constant(array, f"{w.label}/constant")
    for proto in model.graph.node:
        for name in proto.output:
            names.setdefault(name, w.unique(f"{node.name}/output"))
    for proto in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(proto)
        copy.name = w.unique(node.name)
        rename_within(copy, lambda name: w.unique(f"{node.name}/{name}"))
        rename_in_node(copy, names)
        w.nodes.append(copy)
    made = []
    for info, order in zip(model.graph.output, orders, strict=True):
        cast = w.emit("Cast", names[info.name], to=onnx.TensorProto.FLOAT)
        made.append(w.reordered(cast, tuple(range(len(order))), _turned(order)))
    return made


def _at_opset(w: Writer, node: Node, model: onnx.ModelProto, given: Given) -> onnx.ModelProto:
    """The model of an operator in the opset that is written, which may take more nodes there.

    Raises OnnxError where the operator is another one there, and ONNX cannot convert it.
    """
    written = opset_of(model)
    changed = [proto for proto in model.graph.node if _changed(proto, written, w.opset)]
    if not changed:
        return model
    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    del typed.graph.input[:]
    for ours, (name, dtype, order) in zip(node.inputs, given, strict=True):
        sizes: list[Any] = ["n", *w.shape(ours)]
        shape = [sizes[axis] for axis in _inverse(order)]
        typed.graph.input.append(value_info(name, dtype, shape))
    try:
        converted = onnx.version_converter.convert_version(typed, w.opset)
    except (RuntimeError, ValueError) as error:
        problem = str(error)
    else:
        problem = "" if _agree(model, converted, typed) else "the outcome is another function"
    if problem:
        raise OnnxError(
            f"node '{node.name}' is the operator '{changed[0].op_type}' of opset {written}, which"
            f" opset {w.opset} has changed, and which cannot be converted by itself: {problem}."
            f" Convert the model first: onnx.version_converter.convert_version(model, {w.opset})"
        )
    return converted


def _agree(model: onnx.ModelProto, other: onnx.ModelProto, typed: onnx.ModelProto) -> bool:
    """Whether two models give the same for random inputs of the types of ``typed``.

    Not every step between opsets that ONNX converts is converted rightly. Where its reference can
    run the first model, it must run the second, too; else the second is believed.
    """
    generator = np.random.default_rng(0)
    feeds = {}
    for value in typed.graph.input:
        kind = value.type.tensor_type
        sizes = [dim.dim_value or 2 for dim in kind.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        feeds[value.name] = generator.uniform(0, 4, sizes).astype(dtype)
    wanted, found = _outcome(model, feeds), _outcome(other, feeds)
    if wanted is None:
        return True
    return found is not None and all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
        for a, b in zip(wanted, found, strict=True)
    )


def _outcome(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any] | None:
    """What ONNX's reference computes; None where it lacks an operator or does not take these."""
    try:
        return list(OperatorRunner(wrapped(model.graph.node[-1], 0), model)(feeds))
    except OnnxError:
        return None


def _changed(proto: onnx.NodeProto, written: int, opset: int) -> bool:
    """Whether an operator, or one in a graph within it, is another one in another opset."""
    versions = {
        onnx.defs.get_schema(proto.op_type, version, proto.domain).since_version
        for version in (written, opset)
    }
    parts = (part for graph in inner_graphs(proto) for part in graph.node)
    return len(versions) > 1 or any(_changed(part, written, opset) for part in parts)


def _described(layer: Any, node: Node) -> Callable[[], Any]:
    describe = getattr(layer, "onnx_call", None)
    if describe is None:
        raise OnnxError(
            f"node '{node.name}' is a {type(layer).__name__}, which ONNX has no operators for; cut"
            " the model off in front of it"
        )
    found: Callable[[], Any] = describe
    return found


def _order_here(rank: int) -> Order:
    """Our axes, the batch included, in the order of ONNX values here."""
    return (0, 3, 1, 2) if rank == 4 else tuple(range(rank))


def _inverse(order: Sequence[int]) -> Order:
    """Our axes in the order in which the operator has them: axis j of ours is its order[j]."""
    return tuple(list(order).index(axis) for axis in range(len(order)))


def _turned(order: Sequence[int]) -> Order:
    """The operator's axes in the order of values here."""
    return tuple(order[axis] for axis in _order_here(len(order)))
