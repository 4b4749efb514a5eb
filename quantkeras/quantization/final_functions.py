"""Functions at the very end of a network, such as a softmax: they are left to the application."""

from __future__ import annotations

from sanitize.graph import Graph, Node

FINAL_FUNCTIONS = ("softmax", "activation", "identity", "reshape", "flatten")


def is_final_function(graph: Graph, node: Node) -> bool:
    """Whether this is (part of) a softmax, sigmoid or the like at the very end of the model."""
    if node.kind not in FINAL_FUNCTIONS:
        return False
    return all(is_final_function(graph, user) for user in graph.consumers(node.name))
