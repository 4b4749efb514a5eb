"""Runs a float graph in NumPy, by what :mod:`sanitize.kinds` says each kind of node computes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .graph import Graph, Node
from .kinds import KINDS

Array = NDArray[Any]

#: What stands for minus infinity around a max pool.
LOWEST = float(np.finfo(np.float32).min)


def evaluate(
    graph: Graph,
    inputs: Mapping[str, Any] | Sequence[Any] | Array,
    keep: Literal["all"] | Iterable[str] | None = None,
    dtype: Any = np.float32,
) -> Any:
    """Run the network on a batch.

    Args:
        graph: the network.
        inputs: an array, a list in the order of ``graph.inputs``, or a dict by input name; (n,
            *shape) each.
        keep: "all", or names of values that are wanted instead of the outputs.
        dtype: float32 or float64, the precision of everything but opaque layers.

    Returns:
        The outputs nested as the model nests them; with ``keep`` a dict of these values, (n,
        *shape) each.

    Raises:
        ValueError: for inputs that are missing or too many.
    """
    wanted = None if keep is None or keep == "all" else set(keep)
    last_read: dict[str, int] = {}
    for position, node in enumerate(graph.nodes):
        for value in node.inputs:
            last_read[value] = position
    values: dict[str, Array] = _named_inputs(graph, inputs, dtype)
    pinned = set(graph.outputs) | (wanted or set())
    for position, node in enumerate(graph.nodes):
        if node.kind != "input":
            results = run_node(node, [values[value] for value in node.inputs], dtype)
            values.update(zip(node.values, results, strict=True))
        if keep != "all":
            for value in set(node.inputs):
                if last_read[value] == position and value not in pinned:
                    del values[value]
    if keep is None:
        return nest(graph.output_structure, [values[value] for value in graph.outputs])
    if wanted is None:
        return values
    return {value: values[value] for value in wanted}


def nest(structure: Any, leaves: Sequence[Any]) -> Any:
    """``leaves`` arranged as ``structure``, whose leaves are positions."""
    if isinstance(structure, Mapping):
        return {key: nest(part, leaves) for key, part in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)(nest(part, leaves) for part in structure)
    return leaves[structure]


def _named_inputs(graph: Graph, inputs: Any, dtype: Any) -> dict[str, Array]:
    if isinstance(inputs, Mapping):
        given = dict(inputs)
        if isinstance(graph.input_structure, Mapping) and set(given) == set(graph.input_structure):
            given = {graph.inputs[pos]: given[key] for key, pos in graph.input_structure.items()}
    elif isinstance(inputs, (list, tuple)):
        if len(inputs) != len(graph.inputs):
            raise ValueError(f"the graph has {len(graph.inputs)} inputs, {len(inputs)} given")
        given = dict(zip(graph.inputs, inputs, strict=True))
    elif len(graph.inputs) != 1:
        raise ValueError(f"the graph has inputs {graph.inputs}: pass a list or a dict")
    else:
        given = {graph.inputs[0]: inputs}
    missing = set(graph.inputs) - set(given)
    if missing:
        raise ValueError(f"no data for the inputs {sorted(missing)}")
    return {name: np.asarray(given[name]).astype(dtype, copy=False) for name in graph.inputs}


def run_node(node: Node, inputs: Sequence[Array], dtype: Any = np.float32) -> list[Array]:
    """Outputs of one node for batched ``inputs``, each (n, *shape)."""
    if node.kind == "opaque":
        results = node.attrs["call"](list(inputs))
        return [np.asarray(result).astype(dtype, copy=False) for result in results]
    weights = {key: value.astype(dtype, copy=False) for key, value in node.weights.items()}
    result = KINDS[node.kind].run(node.attrs, weights, list(inputs))
    fused = node.attrs.get("activation")
    if fused is not None:
        result = KINDS[fused["kind"]].run(fused, {}, [result])
    return [np.asarray(result, dtype)]
