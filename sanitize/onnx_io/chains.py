"""Where a chain of operators occurs in an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence

from .view import OnnxGraph, OnnxNode


def chain_at(
    graph: OnnxGraph, node: OnnxNode, operators: Sequence[str]
) -> tuple[OnnxNode, ...] | None:
    """The nodes from ``node`` on whose operators are ``operators``; None where they are others.

    Each node reads what the one before makes, and nobody else does.
    """
    chain = [node]
    if node.op_type != operators[0]:
        return None
    for operator in operators[1:]:
        value = chain[-1].outputs[0]
        readers = graph.consumers(value)
        if len(readers) != 1 or graph.uses(value) != 1 or readers[0].op_type != operator:
            return None
        chain.append(readers[0])
    return tuple(chain)
