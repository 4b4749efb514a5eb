"""Operations on several tensors, in the number that the hardware takes."""

from __future__ import annotations

import numpy as np

from ..graph import Graph, Node
from ..match import Match, Rewrite
from .linear import LINEAR, only_use


class SubtractToAdd:
    """a - b  ->  a + (-1) * b, when b comes from weights that can take the sign in."""

    name = "subtract to add"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind != "subtract" or len(node.inputs) != 2:
            return None
        return Match(node, {"second": graph[node.inputs[1]]})

    def check(self, graph: Graph, match: Match) -> str | None:
        second = match["second"]
        if second.kind not in LINEAR:
            return f"'{second.name}' ({second.kind}) has no weights that could take the sign in"
        if not only_use(graph, second.name):
            return f"the value of '{second.name}' is used elsewhere"
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        name = graph.unique_name(f"{node.name}/negative")
        minus = Node(name, "affine", (node.inputs[1],), source=node.source)
        minus = minus.with_weights(scale=np.asarray(-1.0), offset=np.asarray(0.0))
        return Rewrite(add=[minus, node.with_(kind="add", inputs=(node.inputs[0], name))])


class MultiplyByTwo:
    """a * b * c  ->  (a * b) * c: products of two tensors, the larger ones first.

    Integer products grow with every factor, so each one is rounded to the width of a value.
    """

    name = "multiply by two"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        many = node.kind == "multiply" and len(node.inputs) > 2
        return Match(node) if many else None

    def check(self, graph: Graph, match: Match) -> str | None:
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor

        def missing(value: str) -> int:
            return sum(size == 1 for size in graph.shape_of(value))

        first, second, *rest = sorted(node.inputs, key=missing)
        name = graph.unique_name(f"{node.name}/first")
        head = Node(name, "multiply", (first, second), source=node.source)
        return Rewrite(add=[head, node.with_(inputs=(name, *rest))])


class _SplitMerge:
    """f(a, b, c, ...)  ->  f(f(a, b), c) ... with at most ``limit`` inputs each."""

    hardware_only = True
    name = "split"
    kind = ""

    def __init__(self, limit: int = 2) -> None:
        self.limit = limit

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        too_many = node.kind == self.kind and len(node.inputs) > self.limit
        return Match(node) if too_many else None

    def check(self, graph: Graph, match: Match) -> str | None:
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        name = graph.unique_name(f"{node.name}/first")
        head = node.with_(name=name, inputs=node.inputs[: self.limit])
        return Rewrite(add=[head, node.with_(inputs=(name, *node.inputs[self.limit :]))])


class SplitAdd(_SplitMerge):
    """a + b + c  ->  (a + b) + c, for hardware that adds few tensors at a time."""

    name = "split add"
    kind = "add"


class SplitConcat(_SplitMerge):
    """concat(a, b, c)  ->  concat(concat(a, b), c), for hardware that joins few at a time."""

    name = "split concat"
    kind = "concat"


class SplitMaximum(_SplitMerge):
    """maximum(a, b, c)  ->  maximum(maximum(a, b), c), for hardware that compares few at a time."""

    name = "split maximum"
    kind = "maximum"


class SplitMinimum(_SplitMerge):
    """minimum(a, b, c)  ->  minimum(minimum(a, b), c), for hardware that compares few at a time."""

    name = "split minimum"
    kind = "minimum"
