"""Element-wise functions that a network writes out in arithmetic are recognised by their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..functions import POINTS, Tried, recognised
from ..graph import Graph, Node
from ..kinds import Trait
from ..match import Match, Rewrite
from ..semantics import run_node
from .linear import used_elsewhere

Array = NDArray[Any]
Spec = Mapping[str, Any]

#: More operations than this are not searched for one function.
_MOST = 16


@dataclass(frozen=True)
class _Found:
    """The operations between ``root`` and the anchor, and what they compute together."""

    root: str
    interior: tuple[Node, ...]
    spec: Spec


class FunctionFromArithmetic:
    """Several element-wise operations on one value x that together are a known f  ->  f(x).

    Known: relu (with a ceiling), leaky_relu, clip, hard_sigmoid = relu6(x + 3) / 6, hard_silu = x *
    hard_sigmoid(x), silu = x * sigmoid(x), mish = x * tanh(softplus(x)), gelu = x/2 * (1 + erf(x /
    sqrt 2)) and its tanh form, elu, selu, softplus, softsign, absolute and affine maps, in whatever
    way they are written. The operations are run on numbers from 1e-3 to 1e6 of both signs, and f is
    taken when all results agree to five digits.
    """

    name = "function from arithmetic"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        found = _search(graph, node)
        if found is None:
            return None
        return Match(node, {f"part {i}": part for i, part in enumerate(found.interior)})

    def check(self, graph: Graph, match: Match) -> str | None:
        for part in match.roles.values():
            inside = {node.name for node in match.nodes}
            readers = {reader.name for reader in graph.consumers(part.name)}
            if graph.is_output(part.name) or not readers <= inside:
                return used_elsewhere(graph, part)
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        found = _search(graph, node)
        assert found is not None
        spec = dict(found.spec)
        parts = (*reversed(found.interior), node)
        source = tuple(dict.fromkeys(name for part in parts for name in part.source))
        new = Node(node.name, spec.pop("kind"), (found.root,), source=source)
        weights = {key: np.asarray(spec.pop(key)) for key in ("scale", "offset") if key in spec}
        new = new.with_(attrs=spec).with_weights(**weights)
        return Rewrite([part.name for part in found.interior], [new])


def _elementwise(node: Node) -> bool:
    """Whether ``node`` applies one and the same function to every number."""
    if Trait.JOINS in node.traits:
        return True
    if node.kind == "affine":
        return all(array.size == 1 for array in node.weights.values())
    return node.kind in ("relu", "activation") and not node.weights


def _search(graph: Graph, node: Node) -> _Found | None:
    """The fewest operations up to ``node`` that are a known function of one value."""
    if not _elementwise(node):
        return None
    place: dict[str, int] = {}
    inside: dict[str, Node] = {node.name: node}
    border = set(node.inputs)
    while len(inside) <= _MOST:
        if any(graph.shape_of(value) != node.shape for value in border):
            return None
        if len(border) == 1 and (len(inside) > 1 or Trait.JOINS in node.traits):
            (root,) = border
            spec = _known(root, list(inside.values()))
            if spec is not None:
                return _Found(root, tuple(inside.values())[1:], spec)
        if len(border) > 1 and not place:
            place = {other.name: i for i, other in enumerate(graph.nodes)}
        # The last one made: whoever else it feeds inside has been taken in before.
        latest = max(border, key=lambda value: place.get(value.partition(":")[0], 0))
        inner = graph[latest]
        if not _elementwise(inner):
            return None
        border.remove(latest)
        inside[inner.name] = inner
        border |= {value for value in inner.inputs if value not in inside}
    return None


def _known(root: str, inside: list[Node]) -> Spec | None:
    """The function that the operations compute from ``root``; None when it has no name here."""
    values: dict[str, Array] = {root: POINTS[None]}
    with np.errstate(all="ignore"):
        for node in reversed(inside):
            values[node.name] = run_node(node, [values[v] for v in node.inputs], np.float64)[0]
    result = values[inside[0].name][0]
    found = recognised(POINTS, result, Tried.WRITTEN_OUT)
    if found is None and any(Trait.JOINS in node.traits for node in inside):
        return _affine(result)
    return found


def _affine(result: Array) -> Spec | None:
    """The affine map from the points to ``result``, if it is one."""
    zero, one = (float(result[np.argmin(np.abs(POINTS - place))]) for place in (0.0, 1.0))
    slope = one - zero
    if max(abs(slope), abs(zero)) < 1e6 and np.allclose(POINTS * slope + zero, result, 1e-5, 1e-6):
        return {"kind": "affine", "scale": slope, "offset": zero}
    return None
