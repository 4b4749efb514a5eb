"""Which nodes are meant: by operator type and by lists of names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import onnx

from ...errors import QuantizationError

PRODUCTS = ("Conv", "Gemm", "MatMul")
"""Operators with the work of a network in them; this package has an integer form of each."""

_SURROUNDINGS = (
    "Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "LeakyRelu", "MaxPool",
    "Mul", "Pad", "Relu", "Reshape", "Resize", "Sigmoid", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
)  # fmt: skip

STATIC_TYPES = {
    "integer": PRODUCTS,
    "qlinear": (*PRODUCTS, *_SURROUNDINGS),
    "qdq": (*PRODUCTS, *_SURROUNDINGS, "ConvTranspose", "Slice"),
}
"""Mode -> operator types that are quantized unless others are asked for, static scales."""

DYNAMIC_EXTRAS = ("Attention", "EmbedLayerNormalization", "Gather", "LSTM")
"""Further types that onnxruntime's dynamic quantizer does in mode "integer", if asked for."""

MORE_STATIC_TYPES = {
    "integer": (),
    "qlinear": ("ArgMax", "Gather", "Softmax", "Where"),
    "qdq": None,
}
"""Mode -> further types that may be asked for; None: any."""


_STANDARD_TYPES = {*STATIC_TYPES["qdq"], *(MORE_STATIC_TYPES["qlinear"] or ()), "LSTM"}
"""Types above that are standard operators; the others are onnxruntime's own."""


def is_type(node: onnx.NodeProto, op_types: Collection[str]) -> bool:
    """Whether the node is an operator of these types."""
    return node.op_type in op_types and not is_namesake(node)


def is_namesake(node: onnx.NodeProto) -> bool:
    """Whether an operator of another domain only has the name of a standard one: Conv of
    "com.microsoft.nchwc", for example, reads another layout.
    """
    return bool(node.domain) and node.op_type in _STANDARD_TYPES


def select_nodes(
    graph: onnx.GraphProto,
    op_types: Sequence[str],
    nodes_to_quantize: Sequence[str] | None,
    nodes_to_exclude: Sequence[str] | None,
) -> list[onnx.NodeProto]:
    """Nodes of the types, of these only the listed ones if there is a list, less the excluded.

    Raises QuantizationError for a name that no node has, or that of an operator of another domain.
    """
    only = _known_names(graph, nodes_to_quantize, "nodes_to_quantize")
    without = _known_names(graph, nodes_to_exclude, "nodes_to_exclude")
    for node in graph.node:
        if node.name in only and is_namesake(node):
            raise QuantizationError(
                f"nodes_to_quantize: '{node.name}' is {node.op_type} of the domain "
                f"'{node.domain}', which has no quantized form; leave it out"
            )
    return [
        node
        for node in graph.node
        if is_type(node, op_types)
        and (nodes_to_quantize is None or node.name in only)
        and node.name not in without
    ]


def forced_nodes(
    graph: onnx.GraphProto,
    op_types: Sequence[str],
    nodes_to_quantize: Sequence[str] | None,
    nodes_to_exclude: Sequence[str] | None,
) -> list[onnx.NodeProto]:
    """Nodes of the types and those listed, whatever their type, less the excluded."""
    also = _known_names(graph, nodes_to_quantize, "nodes_to_quantize")
    without = _known_names(graph, nodes_to_exclude, "nodes_to_exclude")
    return [
        node
        for node in graph.node
        if (is_type(node, op_types) or node.name in also) and node.name not in without
    ]


def check_types(
    op_types: Sequence[str], allowed: Sequence[str] | None, graph: onnx.GraphProto, where: str
) -> None:
    """Raises QuantizationError for a type that cannot be quantized, or that is none.

    allowed: the types there are; None: whatever the graph has. where: for the message.
    """
    if isinstance(op_types, str):
        raise QuantizationError(f"operator types are a list, such as ['Conv'], not {op_types!r}")
    known = set(allowed or STATIC_TYPES["qdq"])
    if allowed is None:
        known |= {node.op_type for node in graph.node}
    for op_type in op_types:
        if op_type in known:
            continue
        if allowed is None:
            what = f"'{graph.name}' has no operator '{op_type}'"
        else:
            takes = ", ".join(sorted(allowed))
            what = f"{where} has no quantized form of operator '{op_type}'; it takes {takes}"
        raise QuantizationError(what + close_names(op_type, known))


def _known_names(
    graph: onnx.GraphProto, names: Sequence[str] | None, argument: str
) -> frozenset[str]:
    """The names as a set; QuantizationError for one that no node has."""
    if isinstance(names, str):
        raise QuantizationError(f"{argument} is a list of node names, not the text {names!r}")
    existing = {node.name for node in graph.node}
    for name in names or ():
        if name not in existing:
            hint = close_names(name, existing)
            raise QuantizationError(
                f"{argument}: there is no node '{name}' in '{graph.name}'{hint}"
            )
    return frozenset(names or ())


def close_names(name: Any, existing: Iterable[str]) -> str:
    """A sentence with names like this one, the closest first, or nothing."""
    names = sorted(existing)
    by_lower = {known.lower(): known for known in names}
    near = get_close_matches(str(name).lower(), by_lower, n=3, cutoff=0.5)
    return f". Did you mean {' or '.join(repr(by_lower[found]) for found in near)}?" if near else ""
