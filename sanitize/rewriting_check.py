"""Whether two graphs compute the same: both run on random inputs, in double precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph import Graph, Node
from .semantics import evaluate

Array = NDArray[Any]

#: Largest difference between two outputs, relative to the largest value of the sample. Rewriting
#: rounds weights to float32 once per fold (6e-8); a wrong rewrite is off by percents.
TOLERANCE = 1e-4
#: By how much a difference may exceed that between float32 and float64 on the same sample.
NOISE_FACTOR = 10.0
#: Size that stands for a dimension that is not known.
_ANY_SIZE = 32


def random_inputs(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """A batch of five samples per input: noise, pictures in 0..1, -1..1 and 0..255, and a constant.

    Whatever range a network was trained for, one of them exercises it. Integer inputs get 0 and 1,
    8-bit ones the whole 0..255.
    """
    generator = np.random.default_rng(seed)
    result: dict[str, Array] = {}
    for name in graph.inputs:
        node = graph[name]
        shape = tuple(_ANY_SIZE if size is None else size for size in node.shape)
        dtype = str(node.attrs["dtype"])
        if dtype == "uint8":
            result[name] = generator.integers(0, 256, (5, *shape)).astype(np.float64)
        elif dtype.startswith(("int", "uint", "bool")):
            result[name] = generator.integers(0, 2, (5, *shape)).astype(np.float64)
        else:
            samples = [
                generator.normal(size=shape),
                generator.uniform(0.0, 1.0, shape),
                generator.uniform(-1.0, 1.0, shape),
                np.floor(generator.uniform(0.0, 256.0, shape)),
                np.full(shape, 0.5),
            ]
            result[name] = np.stack(samples)
    return result


def saturated(graph: Graph) -> tuple[bool, ...]:
    """Per output, whether it is a softmax or sigmoid, which would hide differences."""
    return tuple(_bare_value(graph, value) is not None for value in graph.outputs)


def run_for_comparison(
    graph: Graph, inputs: Mapping[str, Array], strip: Sequence[bool], dtype: Any = np.float64
) -> list[Array]:
    """Flat outputs in ``dtype``; where ``strip`` says so, the value in front of the softmax."""
    nodes = {node.name: node for node in graph.nodes}
    outputs = []
    for value, bare in zip(graph.outputs, strip, strict=True):
        before = _bare_value(graph, value) if bare else None
        if before is None:
            outputs.append(value)
        elif isinstance(before, str):
            outputs.append(before)
        else:
            nodes[before.name] = before
            outputs.append(before.name)
    stripped = graph.with_nodes(nodes.values(), outputs)
    values = evaluate(stripped, inputs, keep=stripped.outputs, dtype=dtype)
    return [values[value] for value in stripped.outputs]


def _bare_value(graph: Graph, value: str) -> str | Node | None:
    """The value in front of a final softmax or sigmoid, or the node to compute it with."""
    node = graph[value]
    if _saturates(node.kind, node.attrs):
        return node.inputs[0]
    fused = node.attrs.get("activation")
    if fused is not None and _saturates(fused["kind"], fused) and graph.uses(value) == 1:
        return node.with_(name=graph.unique_name(f"{node.name}/bare")).with_attrs(activation=None)
    return None


def _saturates(kind: str, attrs: Mapping[str, Any]) -> bool:
    return kind == "softmax" or (kind == "activation" and attrs["function"] == "sigmoid")


def largest_differences(before: list[Array], after: list[Array]) -> Array:
    """Largest |difference| of each sample (n,), relative to the largest |value| of the sample.

    inf where shapes differ. Samples on which a network overflows count only if they overflow
    differently.
    """
    worst = np.zeros(len(before[0]))
    for old, new in zip(before, after, strict=True):
        if old.shape != new.shape:
            return np.full(worst.shape, np.inf)
        axes = tuple(range(1, old.ndim))
        finite = np.isfinite(old)
        if not np.array_equal(finite, np.isfinite(new)):
            return np.full(worst.shape, np.inf)
        zero = np.zeros_like(old)
        scale = np.abs(np.where(finite, old, zero)).max(axis=axes, initial=0.0, keepdims=True)
        gap = np.abs(np.where(finite, old, zero) - np.where(finite, new, zero))
        # Differences far below one are noise around a true zero, not a wrong function.
        relative = gap / np.maximum(scale, 1e-3)
        worst = np.maximum(worst, relative.max(axis=axes, initial=0.0))
    return worst
