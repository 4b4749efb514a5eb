"""read_onnx: an ONNX model as a graph.

Constants are folded, custom patterns and functions written out as several nodes are found, then
the nodes are read in order, each by the entry for its operator. See ``layout`` for how channels
first becomes channels last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import onnx
import onnx.numpy_helper

from ..graph import Graph
from ..onnx_errors import OnnxError
from .custom import CustomMatch, apply_custom, find_custom
from .dynamic import float_form
from .entrance import OpenShapes, input_shapes, with_batch_axes
from .fold import FREE_BATCH, Known, check_not_random, fold_constants, fold_known
from .imported import Layout, OnnxImport, read_inputs, read_output
from .layout import Rows, Tensor
from .one_by_one import decides_by_data, deciding_nodes, one_by_one, put_off
from .opaque_operators import opaque
from .operators import OPERATORS, shape_value
from .operators_elementwise import sloped
from .operators_rows import apart, read_rows
from .source import load_model
from .spelled_functions import Spelled, find_functions
from .state import NotUnderstood, Reading
from .view import OnnxGraph, OnnxNode, wrapped


def read_onnx(
    model: Any,
    *,
    layout: Layout = "channels_last",
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Graph:
    """Read the graph of an ONNX model; see :func:`import_onnx`.

    Args:
        model: a ModelProto, its bytes, or a path.
        layout: "channels_last", or "as_is" for inputs and outputs with the axes of ONNX.
        shapes: unbatched sizes (in ONNX' order) of inputs that leave one open, by name.

    Returns:
        The graph.

    Raises:
        OnnxError: naming the node, for what cannot be read.
        FileNotFoundError: for a path that leads nowhere.
        TypeError: for what is no model.
        ValueError: for another layout.
    """
    return import_onnx(model, layout=layout, shapes=shapes).graph


def import_onnx(
    model: Any,
    *,
    layout: Layout = "channels_last",
    shapes: Mapping[str, Sequence[int]] | Callable[[OpenShapes], Any] | None = None,
) -> OnnxImport:
    """Read an ONNX model of opset 10 or newer.

    The first axis of every input counts samples and may have any size, whatever the model says, or
    the one whose size is called "batch", "N" or the like, or which recurrent layers take for it; in
    between and in outputs it may be another one. It is the first of the graph's value.
    Products of activations that are quantized as they come are read as float ones: see ``dynamic``.
    A node that the graph has no kind for becomes ``opaque``; it can be evaluated but not written as
    a Keras model.

    Args:
        model: a ModelProto, its bytes, or a path; see ``load_model``.
        layout: with "channels_last" pictures that the model takes or makes as (n, c, h, w) are
            (n, h, w, c) in the graph; with "as_is" inputs and outputs keep the axes of ONNX, behind
            the samples.
        shapes: unbatched sizes (in ONNX' order) of inputs for which the model leaves a size other
            than the batch open, by name, or a function that is asked for them: it gets the declared
            sizes of every input by name, None for open ones, and is called where there are any.

    Returns:
        The graph, and what its inputs and outputs are in the ONNX model.

    Raises:
        OnnxError: naming the node, for what cannot be read: see ``load_model``.
        FileNotFoundError: for a path that leads nowhere.
        TypeError: for what is no model.
        ValueError: for another layout.
    """
    if layout not in ("channels_last", "as_is"):
        raise ValueError(f"layout is 'channels_last' or 'as_is', not {layout!r}")
    form = float_form(load_model(model))
    graph = OnnxGraph(form.model)
    if not graph.inputs:
        raise OnnxError(f"the model '{graph.name}' has no inputs")
    fold_constants(graph)
    declared = with_batch_axes(graph)
    known = input_shapes(declared, shapes or {})
    counts = [entry.shape[entry.batch_axis] for entry in declared]
    fixed = [count for count in counts if isinstance(count, int)]
    r = Reading(graph, (fixed[0],) if len(fixed) == len(counts) else FREE_BATCH)
    inputs = read_inputs(r, declared, known, layout)
    _read_nodes(r)
    outputs = [read_output(r, name, layout) for name in graph.outputs]
    _share_weights(r)
    built = Graph.build(
        r.nodes.values(),
        [port.value for port in inputs],
        [port.value for port in outputs],
        r.unique(graph.name or "model").replace("/", "_"),
    )
    flowing = tuple(
        node
        for node in graph.nodes
        if any(name and not isinstance(r.values.get(name), Known) for name in node.outputs)
    )
    ports = tuple(inputs), tuple(outputs)
    return OnnxImport(built, *ports, graph.opset, flowing, form.products, r.alone)


def _read_nodes(r: Reading) -> None:
    custom = find_custom(r.graph)
    taken = frozenset(node.name for match in custom for node in match.nodes)
    by_last: dict[int, CustomMatch | Spelled] = {id(m.nodes[-1]): m for m in custom}
    for spelled in find_functions(r.graph, taken):
        by_last[id(spelled.nodes[-1])] = spelled
    deciding = deciding_nodes(r.graph)
    by_last = {
        last: match
        for last, match in by_last.items()
        if isinstance(match, CustomMatch) or deciding.isdisjoint(match.nodes[-1].outputs)
    }
    inside = {id(node) for match in by_last.values() for node in match.nodes[:-1]}
    for node in r.graph.nodes:
        if id(node) in inside:
            continue
        match = by_last.get(id(node))
        if match is None and not deciding.isdisjoint(node.outputs):
            with _as_declared(node):
                _read_deciding(r, node)
            continue
        if match is None:
            with _as_declared(node):
                read_node(r, node)
            continue
        r.label, r.source = node.name, tuple(part.name for part in match.nodes)
        if isinstance(match, Spelled):
            _read_spelled(r, match)
        elif not apply_custom(r, match, read_node):
            for part in match.nodes:
                read_node(r, part)


@contextmanager
def _as_declared(node: OnnxNode) -> Iterator[None]:
    """Names the node whose inputs or attributes are not those of its operator.

    onnx.checker looks at their names and types; too few numbers in one show where it is read.
    """
    try:
        yield
    except OnnxError:
        raise
    except (LookupError, TypeError, ValueError, ArithmeticError, AssertionError) as error:
        raise OnnxError(
            f"node {node} has inputs or attributes that its operator does not take:"
            f" {type(error).__name__}: {error}"
        ) from error


def _read_spelled(r: Reading, spelled: Spelled) -> None:
    value = r.values[spelled.x]
    tensor = value.tensor if isinstance(value, Rows) else r.tensor(spelled.x)
    slope = spelled.slope
    if slope is not None:
        slope = apart(slope, value) if isinstance(value, Rows) else slope
        result = sloped(r, tensor, r.fitted(tensor, slope))
    else:
        result = r.same(tensor, r.emit(spelled.kind, [tensor.value], spelled.attrs))
    made = replace(value, tensor=result) if isinstance(value, Rows) else result
    r.values[spelled.nodes[-1].outputs[0]] = made


def _read_deciding(r: Reading, node: OnnxNode) -> None:
    """Read a node of which nothing but conditions is made, or put it off.

    It is left to the branch or loop behind it where it makes one result of all samples.
    """
    if any(name in r.put_off for name in node.reads):
        return put_off(node, r)
    before = dict(r.nodes)
    try:
        read_node(r, node)
    except OnnxError:
        r.nodes = before
        put_off(node, r)


def read_node(r: Reading, node: OnnxNode, strict: bool = False) -> None:
    """Read one ONNX node; one that is not understood becomes opaque, or raises with ``strict``."""
    r.label, r.source = node.name, (node.name,)
    outputs = [name for name in node.outputs if name]
    known = {name: value for name in node.reads if (value := r.known(name)) is not None}
    results: Sequence[Tensor | Rows | Known]
    if len(known) == len(node.reads):
        check_not_random(node)
        results = fold_known(node, known, r.batches, r.graph)
    elif (shape := shape_value(r, node)) is not None:
        results = [shape]
    elif decides_by_data(r, node) or any(name in r.put_off for name in node.reads):
        results = one_by_one(r, node)
    elif (branch := _branch_taken(r, node)) is not None:
        results = _read_branch(r, branch)
    elif any(isinstance(r.values[name], Rows) for name in node.reads):
        results = read_rows(r, node)
    else:
        before = dict(r.nodes)
        try:
            entry = OPERATORS.get(node.op_type) if not node.domain else None
            if entry is None:
                raise NotUnderstood("the graph has no kind for it")
            made = entry(r, node)
            results = [made] if isinstance(made, (Tensor, Rows)) else made
        except NotUnderstood as problem:
            r.nodes = before
            if strict:
                raise
            results = opaque(r, node, str(problem))
    # Outputs beyond those that were made (a mask, statistics) are read by nobody.
    r.values.update(zip(outputs, results, strict=False))


def _branch_taken(r: Reading, node: OnnxNode) -> onnx.GraphProto | None:
    """The graph of an If whose condition is known; None for other nodes."""
    condition = r.known(node.input(0)) if node.op_type == "If" and not node.domain else None
    if condition is None or condition.constant is None:
        return None
    branch = "then_branch" if condition.constant.item() else "else_branch"
    found: onnx.GraphProto = node.get(branch)
    return found


def _read_branch(r: Reading, branch: onnx.GraphProto) -> list[Tensor | Rows | Known]:
    """Read the nodes of a branch as if they stood in the main graph; its outputs."""
    for tensor in branch.initializer:
        r.values[tensor.name] = Known((onnx.numpy_helper.to_array(tensor),))
    for position, proto in enumerate(branch.node):
        read_node(r, wrapped(proto, position))
    return [r.values[value.name] for value in branch.output]


def _share_weights(r: Reading) -> None:
    """Mark nodes that are made of the same constants in the same way as one shared layer."""
    first: dict[str, str] = {}
    for name, constants in r.kernels.items():
        node = r.nodes.get(name)
        if node is None or not constants[0]:
            continue
        key = repr((node.kind, sorted(node.attrs.items()), constants))
        other = first.setdefault(key, name)
        if other != name:
            owner = r.nodes[other].with_(share=other)
            r.nodes[other] = owner
            r.nodes[name] = node.with_(share=other, weights=owner.weights)
