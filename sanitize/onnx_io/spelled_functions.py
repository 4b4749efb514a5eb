"""Activation functions written out as several ONNX nodes, found by what they compute.

Exporters write GELU, Mish, HardSwish and others as products, sums and clips, each in its own way.
Instead of a pattern for every way, a set of element-wise nodes with one input and one output is run
on numbers; a set that agrees with a known function is that function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..functions import POINTS, Tried, apply_activation, recognised
from .operators_elementwise import spec_of
from .view import OnnxGraph, OnnxNode

Array = NDArray[Any]

#: The longest spelling that is looked for: GELU by tanh takes ten nodes.
_LONGEST = 12
#: Operators that a spelled-out function has at least one of.
_TELLING = frozenset(
    {
        "Abs",
        "Clip",
        "Erf",
        "Exp",
        "HardSigmoid",
        "Log",
        "Max",
        "Min",
        "Relu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Tanh",
    }
)
_BINARY: Mapping[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "Pow": np.power,
}
_UNARY: Mapping[str, Callable[[Array], Array]] = {
    "Relu": lambda x: np.maximum(x, 0),
    "Neg": np.negative,
    "Identity": lambda x: x,
}


@dataclass(frozen=True)
class Spelled:
    """A function written out: its ``nodes`` in order, the value ``x`` it works on, and what it is.

    kind, attrs: of our node. slope: for prelu, the ONNX constant by which negative numbers grow.
    """

    nodes: tuple[OnnxNode, ...]
    x: str
    kind: str
    attrs: Mapping[str, Any]
    slope: Array | None = None


def find_functions(graph: OnnxGraph, taken: frozenset[str]) -> list[Spelled]:
    """All functions written out in ``graph``, the longest spelling of each.

    taken: names of nodes that are not to be part of one.
    """
    found: list[Spelled] = []
    used: set[int] = {id(node) for node in graph.nodes if node.name in taken}
    position = {id(node): index for index, node in enumerate(graph.nodes)}
    for node in reversed(graph.nodes):
        if id(node) in used or not _allowed(graph, node):
            continue
        spelled = _spelled_at(graph, node, position, used)
        if spelled is not None:
            found.append(spelled)
            used |= {id(part) for part in spelled.nodes}
    return found


def _allowed(graph: OnnxGraph, node: OnnxNode) -> bool:
    if node.domain or len(node.outputs) != 1:
        return False
    if node.op_type in _BINARY:
        return len(node.inputs) == 2
    if node.op_type == "Clip":
        return all(name in graph.constants for name in node.inputs[1:] if name)
    return node.op_type in _UNARY or spec_of(node) is not None or node.op_type == "HardSigmoid"


def _spelled_at(
    graph: OnnxGraph, last: OnnxNode, position: Mapping[int, int], used: set[int]
) -> Spelled | None:
    """The function whose last node is ``last``: nodes are added until one value feeds them all."""
    nodes = [last]
    best: Spelled | None = None
    while True:
        made = {name for node in nodes for name in node.outputs}
        leaves = {
            name
            for node in nodes
            for name in node.inputs
            if name and name not in made and name not in graph.constants
        }
        if len(leaves) == 1 and len(nodes) > 1:
            best = _recognized(graph, nodes, next(iter(leaves)), position) or best
        producers = [graph.producer(name) for name in leaves]
        candidates = [
            node
            for node in producers
            if node is not None
            and id(node) not in used
            and _allowed(graph, node)
            and all(reader in nodes for reader in graph.consumers(node.outputs[0]))
            and node.outputs[0] not in graph.outputs
        ]
        if not candidates or len(nodes) >= _LONGEST:
            return best
        nodes.append(max(candidates, key=lambda node: position[id(node)]))


def _recognized(
    graph: OnnxGraph, nodes: Sequence[OnnxNode], x: str, position: Mapping[int, int]
) -> Spelled | None:
    """The function that ``nodes`` compute of ``x``; the last node of the model comes first."""
    if not any(node.op_type in _TELLING for node in nodes):
        return None
    ordered = tuple(sorted(nodes, key=lambda node: position[id(node)]))
    constants = {
        name: graph.constants[name].astype(np.float64)
        for node in nodes
        for name in node.inputs
        if name in graph.constants
    }
    plain = all(array.size == 1 for array in constants.values())
    rank = max((array.ndim for array in constants.values()), default=0)
    probes = POINTS.reshape(-1, *(1,) * rank)
    with np.errstate(all="ignore"):
        # The numbers reach the limits of float64 on the way.
        values: dict[str, Array] = {**constants, x: probes}
        for node in ordered:
            values[node.outputs[0]] = _run(node, values)
    if (values[ordered[0].outputs[0]] == probes).all():
        return None  # It begins behind a node that does nothing, as x * 1.
    result = values[nodes[0].outputs[0]]
    if plain:
        spec = recognised(POINTS, result.reshape(-1), Tried.WRITTEN_OUT)
        return None if spec is None else Spelled(ordered, x, spec.pop("kind"), spec)
    # Slopes per channel: max(x, 0) + slope * min(x, 0).
    if not {node.op_type for node in nodes} & {"Relu", "Max"} or not np.isfinite(result).all():
        return None
    slope = result[0] / POINTS[0]
    wanted = np.maximum(probes, 0) + slope * np.minimum(probes, 0)
    if np.allclose(result, wanted, rtol=1e-5, atol=2e-6):
        return Spelled(ordered, x, "activation", {"function": "prelu"}, slope.astype(np.float32))
    return None


def _run(node: OnnxNode, values: Mapping[str, Array]) -> Array:
    if node.op_type in _BINARY:
        return np.asarray(_BINARY[node.op_type](values[node.inputs[0]], values[node.inputs[1]]))
    x = values[node.inputs[0]]
    if node.op_type in _UNARY:
        return np.asarray(_UNARY[node.op_type](x))
    if node.op_type == "Clip":
        low, high = (
            float(values[node.input(i)].item()) if node.input(i) else node.get(name, default)
            for i, name, default in ((1, "min", -math.inf), (2, "max", math.inf))
        )
        return np.asarray(np.clip(x, low, high))
    if node.op_type == "HardSigmoid":
        return np.asarray(np.clip(node.get("alpha", 0.2) * x + node.get("beta", 0.5), 0.0, 1.0))
    spec = spec_of(node)
    assert spec is not None
    return apply_activation(spec, {}, x)
