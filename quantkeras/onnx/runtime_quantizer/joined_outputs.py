"""Concatenations at the end of a network that join what one scale cannot serve.

Boxes of 0..640 and scores of 0..1 in one output: with the scale of the boxes nothing is left of the
scores. Both are quantized where they are made, so joining them as floats costs nothing there. What
a quantized operator reads is another matter: it needs one scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import onnx

from .number_types import AffineParams

UNLIKE = 4.0
"""A scale this many times that of an input takes two bits of it."""

_MOVES = ("Flatten", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")


def leave_joined_outputs(
    graph: onnx.GraphProto,
    nodes: Sequence[onnx.NodeProto],
    params: Mapping[str, AffineParams],
    given: AbstractSet[str],
) -> list[onnx.NodeProto]:
    """The nodes, in the order of the graph, without the Concats of unlike inputs that only floats
    read, and what moves their values on.

    given: tensors whose params the user chose, which are not left out.
    """
    last = _read_by_floats(graph, nodes)
    left: set[str] = set()
    kept = []
    for node in nodes:
        free = node.output[0] in last and given.isdisjoint(node.output)
        moved = node.op_type in _MOVES and node.input[0] in left
        if free and (moved or (node.op_type == "Concat" and _is_unlike(node, params))):
            left.update(node.output)
        else:
            kept.append(node)
    return kept


def _read_by_floats(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> set[str]:
    """Outputs of Concats and movements from which nothing comes to other quantized nodes."""
    quantized = {node.output[0] for node in nodes}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found: set[str] = set()
    for node in reversed(nodes):
        users = [user for name in node.output for user in readers.get(name, [])]
        passive = node.op_type in ("Concat", *_MOVES)
        if passive and all(u.output[0] in found or u.output[0] not in quantized for u in users):
            found.update(node.output)
    return found


def _is_unlike(node: onnx.NodeProto, params: Mapping[str, AffineParams]) -> bool:
    scales = [float(params[name].scale) for name in node.input if name in params]
    made = params.get(node.output[0])
    return made is not None and bool(scales) and float(made.scale) > UNLIKE * min(scales)
