"""Activations: one node each, known by name, and behind the max pool."""

from __future__ import annotations

import numpy as np

from ..activations import is_monotonic
from ..graph import Graph, Node
from ..match import Match, Rewrite
from .linear import only_use, used_elsewhere


class SplitActivation:
    """conv(x, activation=f)  ->  f(conv(x)), for every layer that has an activation argument."""

    name = "split activation"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        return Match(node) if "activation" in node.attrs else None

    def check(self, graph: Graph, match: Match) -> str | None:
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        spec = dict(node.attrs["activation"])
        kind = spec.pop("kind")
        name = graph.unique_name(f"{node.name}/{spec.get('function', kind)}")
        split = Node(name, kind, (node.name,), spec, source=node.source)
        return Rewrite(add=[node.with_attrs(activation=None), split], redirect={node.name: name})


class ReluBehindMaxPool:
    """max_pool(f(x))  ->  f(max_pool(x)) for every f that never decreases.

    Padding counts as minus infinity on both sides, and every window holds at least one real value.
    A ReLU with a ceiling per channel works on each channel alone, so it commutes as well.
    """

    name = "activation behind max pool"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind not in ("max_pool", "global_max_pool"):
            return None
        before = graph[node.inputs[0]]
        return Match(node, {"f": before}) if before.kind in ("relu", "activation") else None

    def check(self, graph: Graph, match: Match) -> str | None:
        f = match["f"]
        if f.kind == "activation" and not is_monotonic(f.attrs, f.weights):
            return f"the function of '{f.name}' also decreases, so the maximum is not kept"
        if not only_use(graph, f.name):
            return used_elsewhere(graph, f)
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        pool, f = match.anchor, match["f"]
        return Rewrite(
            add=[pool.with_(inputs=f.inputs), _behind(pool, f)], redirect={pool.name: f.name}
        )


def _behind(pool: Node, f: Node) -> Node:
    """``f`` reading the pool. A slope per channel loses its axes of size 1 with the map."""
    weights = dict(f.weights)
    if pool.kind == "global_max_pool" and not pool.attrs["keepdims"]:
        weights = {key: value.reshape(-1) for key, value in weights.items()}
    return f.with_(inputs=(pool.name,), weights=weights)


def _affine(node: Node, scale: float, offset: float) -> bool:
    """Whether ``node`` is x * scale + offset with these numbers everywhere."""
    if node.kind != "affine":
        return False
    found = (node.weights["scale"], node.weights["offset"])
    pairs = zip(found, (scale, offset), strict=True)
    return all(np.allclose(array, number, rtol=1e-5, atol=1e-7) for array, number in pairs)


def _is_relu6(node: Node) -> bool:
    return node.kind == "relu" and not node.weights and node.attrs.get("max_value") == 6.0


class HardSigmoidFromArithmetic:
    """relu6(x + 3) / 6  ->  hard_sigmoid(x)."""

    name = "hard sigmoid from arithmetic"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if not _affine(node, 1 / 6, 0.0):
            return None
        relu = graph[node.inputs[0]]
        if not _is_relu6(relu):
            return None
        shift = graph[relu.inputs[0]]
        return Match(node, {"relu": relu, "shift": shift}) if _affine(shift, 1.0, 3.0) else None

    def check(self, graph: Graph, match: Match) -> str | None:
        for part in (match["relu"], match["shift"]):
            if not only_use(graph, part.name):
                return used_elsewhere(graph, part)
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node, shift = match.anchor, match["shift"]
        source = (*shift.source, *match["relu"].source, *node.source)
        new = Node(
            node.name, "activation", shift.inputs, {"function": "hard_sigmoid"}, source=source
        )
        return Rewrite([shift.name, match["relu"].name], [new])


class HardSiluFromArithmetic:
    """(x * relu6(x + 3)) / 6  ->  hard_silu(x). The other order, x * (relu6(x + 3) / 6), becomes
    x * hard_sigmoid(x) first.
    """

    name = "hard silu from arithmetic"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if not _affine(node, 1 / 6, 0.0):
            return None
        product = graph[node.inputs[0]]
        if product.kind != "multiply" or len(product.inputs) != 2:
            return None
        for value, other in (product.inputs, product.inputs[::-1]):
            relu = graph[other]
            if not _is_relu6(relu):
                continue
            shift = graph[relu.inputs[0]]
            if _affine(shift, 1.0, 3.0) and shift.inputs == (value,):
                return Match(node, {"product": product, "relu": relu, "shift": shift})
        return None

    def check(self, graph: Graph, match: Match) -> str | None:
        for part in match.roles.values():
            if not only_use(graph, part.name):
                return used_elsewhere(graph, part)
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node, shift = match.anchor, match["shift"]
        gone = [match["product"], match["relu"], shift]
        source = tuple(dict.fromkeys(name for part in (*gone, node) for name in part.source))
        new = Node(node.name, "activation", shift.inputs, {"function": "hard_silu"}, source=source)
        return Rewrite([part.name for part in gone], [new])


#: x * key(x) is value(x).
_PRODUCTS = {"sigmoid": "silu", "hard_sigmoid": "hard_silu"}


class SiluFromProduct:
    """x * sigmoid(x) -> silu(x), and x * hard_sigmoid(x) -> hard_silu(x)."""

    name = "silu from product"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind != "multiply" or len(node.inputs) != 2:
            return None
        for value, other in (node.inputs, node.inputs[::-1]):
            gate = graph[other]
            known = gate.kind == "activation" and gate.attrs["function"] in _PRODUCTS
            if known and gate.inputs == (value,):
                return Match(node, {"gate": gate})
        return None

    def check(self, graph: Graph, match: Match) -> str | None:
        gate = match["gate"]
        return None if only_use(graph, gate.name) else used_elsewhere(graph, gate)

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node, gate = match.anchor, match["gate"]
        function = _PRODUCTS[gate.attrs["function"]]
        source = (*gate.source, *node.source)
        new = Node(node.name, "activation", gate.inputs, {"function": function}, source=source)
        return Rewrite([gate.name], [new])
