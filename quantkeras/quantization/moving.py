"""Which nodes of a float graph only move numbers, so that integers pass as they are."""

from __future__ import annotations

from sanitize.graph import Graph, Node
from sanitize.kinds import Trait, kinds_with

MOVEMENTS = kinds_with(Trait.MOVES) | {"max_pool"}
"""A global max pool is none: there is no layer for it between quantized ones."""


def only_moves(node: Node) -> bool:
    """Whether a node moves integers and needs no hardware layer around it.

    A max pool with explicit padding needs one: as a Keras layer of its own there is none.
    """
    padded_pool = node.kind == "max_pool" and not isinstance(node.attrs["padding"], str)
    return node.kind in MOVEMENTS and not padded_pool


def moves_channels(graph: Graph, node: Node) -> bool:
    """Whether a movement takes channels off the last axis."""
    if node.kind == "permute":
        return bool(node.attrs["dims"][-1] != len(node.shape) - 1)
    if node.kind in ("flatten", "reshape"):
        return graph.shape_of(node.inputs[0])[-1] != node.shape[-1]
    return False
