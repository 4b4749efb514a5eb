"""Whether the graph that was read is the model: both run on random inputs, layer by layer.

Each layer runs on what the model really feeds it, and the nodes it was read as on the same
numbers, so that rounding does not add up through a deep network, and the first one that differs is
named. A wrong connection shows as well: values go by the tensors of the model on one side and by
the names of the graph on the other.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..graph import GraphError, Node
from ..semantics import run_node
from .moved import Value
from .opaque_layers import OpaqueCall
from .trial import UNFIT

Array = NDArray[Any]

#: Largest difference relative to the largest value of a sample, by the precision of a layer.
TOLERANCES: Mapping[str, float] = {"float16": 2e-2, "bfloat16": 1e-1}
TOLERANCE = 1e-3
#: By how much a difference may exceed that between float32 and float64 on the same numbers.
NOISE_FACTOR = 10.0
#: Magnitudes of the samples: a limit at 20 or at 1000 is met by one of them.
MAGNITUDES = (1.0, 100.0, 1e4)
#: Size that stands for a dimension that is not known.
_ANY_SIZE = 32


class ReadingError(GraphError):
    """A graph that does not compute what the Keras model computes; names the layer."""


@dataclass(frozen=True)
class Step:
    """One call of a layer or operation, and the nodes it was read as.

    inputs, outputs: identities of the tensors in the model. results: what they are in the graph.
    """

    name: str
    call: OpaqueCall
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    results: tuple[Value, ...]
    nodes: tuple[str, ...]

    @property
    def values(self) -> list[str]:
        """The values of the graph that the outputs are."""
        return [result if isinstance(result, str) else result.value for result in self.results]

    def of_model(self, arrays: Sequence[Array]) -> list[Array]:
        """Outputs of the layer as the graph has them."""
        return [
            array if isinstance(result, str) else result.of_model(array)
            for result, array in zip(self.results, arrays, strict=True)
        ]


@dataclass(frozen=True)
class Link:
    """Tensors that are others under the name of a nested model: each source is its target."""

    sources: tuple[int, ...]
    targets: tuple[int, ...]


def check_reading(
    steps: Sequence[Step | Link], nodes: Sequence[Node], inputs: Sequence[tuple[Any, str]]
) -> None:
    """Raise ReadingError unless the nodes of each step compute what its layer computes.

    ``inputs``: tensor of the model and name of the graph's input. A layer that does not run on
    random numbers, or not on this machine, is taken at the graph's word.
    """
    named = {node.name: node for node in nodes}
    generator = np.random.default_rng(0)
    fixed = [tensor.shape[0] for tensor, _ in inputs if tensor.shape[0]]
    size = fixed[0] if fixed else len(MAGNITUDES)
    rounds = math.ceil(len(MAGNITUDES) / size)
    for number in range(rounds):
        scales = np.resize(np.roll(MAGNITUDES, -number * size), size)
        truth: dict[int, Array] = {}
        values: dict[str, Array] = {}
        for tensor, name in inputs:
            array = _random_input(tensor, scales, generator)
            truth[id(tensor)], values[name] = array, array.astype(np.float32)
        _run_steps(steps, named, truth, values)


def _run_steps(
    steps: Sequence[Step | Link],
    nodes: Mapping[str, Node],
    truth: dict[int, Array],
    values: dict[str, Array],
) -> None:
    last = _last_reads(steps, nodes)
    for place, step in enumerate(steps):
        if isinstance(step, Link):
            for source, target in zip(step.sources, step.targets, strict=True):
                truth[target] = truth[source]
        else:
            inside = [nodes[name] for name in step.nodes if name in nodes]
            arrays = [truth[tensor] for tensor in step.inputs]
            wanted = _run_layer(step, arrays)
            opaque = any(node.kind == "opaque" for node in inside)
            moved = not all(isinstance(result, str) for result in step.results)
            if wanted is None and (opaque or moved):
                return
            turned = None if wanted is None else step.of_model(wanted)
            if not (opaque and len(inside) == 1):
                found = _run_nodes(inside, step.values, values, np.float32)
                if turned is None:
                    wanted = turned = found
                _compare(step, inside, values, turned, found)
            assert wanted is not None and turned is not None
            truth |= zip(step.outputs, wanted, strict=True)
            for value, array in zip(step.values, turned, strict=True):
                values[value] = array.astype(np.float32)
        _forget(truth, last, place)
        _forget(values, last, place)


def _run_layer(step: Step, arrays: Sequence[Array]) -> list[Array] | None:
    """What the layer of a step makes of what flows into it; None where it does not run here."""
    try:
        with warnings.catch_warnings():
            # The user has heard it when the model was made, or will when it runs.
            warnings.simplefilter("ignore")
            return step.call(arrays)
    except UNFIT:
        return None


def _forget(table: dict[Any, Array], last: Mapping[Any, int], place: int) -> None:
    """Drop what no later step reads."""
    for key in [key for key in table if last.get(key, -1) <= place]:
        del table[key]


def _last_reads(steps: Sequence[Step | Link], nodes: Mapping[str, Node]) -> dict[Any, int]:
    """The last step that reads each tensor, by identity, and each value, by name."""
    last: dict[Any, int] = {}
    for place, step in enumerate(steps):
        if isinstance(step, Link):
            last |= dict.fromkeys(step.sources, place)
            continue
        last |= dict.fromkeys((*step.inputs, *step.values), place)
        for name in step.nodes:
            if name in nodes:
                last |= dict.fromkeys(nodes[name].inputs, place)
    return last


def _run_nodes(
    inside: Sequence[Node], results: Sequence[str], values: Mapping[str, Array], dtype: Any
) -> list[Array]:
    """What the nodes of one step make of the values in front of them."""
    known: dict[str, Array] = {}
    for node in inside:
        arrays = [
            np.asarray(known[value] if value in known else values[value], dtype)
            for value in node.inputs
        ]
        with np.errstate(all="ignore"):
            made = run_node(node, arrays, dtype)
        known |= dict(zip(node.values, made, strict=True))
    return [known[value] if value in known else values[value] for value in results]


def _compare(
    step: Step,
    inside: Sequence[Node],
    values: Mapping[str, Array],
    wanted: Sequence[Array],
    found: Sequence[Array],
) -> None:
    """Raise ReadingError where ``found`` is not ``wanted``, but for rounding."""
    precisions = {str(getattr(step.call.layer, "compute_dtype", "")), *step.call.dtypes}
    tolerance = max(TOLERANCES.get(precision, TOLERANCE) for precision in precisions)
    gaps = _differences(wanted, found)
    if gaps.max(initial=0.0) <= tolerance:
        return
    exact = _run_nodes(inside, step.values, values, np.float64)
    allowed = np.maximum(tolerance, NOISE_FACTOR * _differences(exact, found))
    if (gaps <= allowed).all():
        return
    kinds = ", ".join(node.kind for node in inside) or "nothing"
    gap = float(gaps[gaps > allowed].max())
    raise ReadingError(
        f"layer '{step.name}' ({type(step.call.layer).__name__}) is read as {kinds}, which computes"
        f" something else: on random inputs it differs by {gap:.2e} of the largest value. The layer"
        " may depend on the size of the batch or on training; write it with Keras layers or"
        " keras.ops, or skip this check with verify=False"
    )


def _differences(wanted: Sequence[Array], found: Sequence[Array]) -> Array:
    """Largest difference of each sample (n,), relative to its largest value; inf for other shapes.

    Samples that overflow say nothing.
    """
    worst = np.zeros(len(wanted[0]) if wanted and wanted[0].ndim else 1)
    for target, array in zip(wanted, found, strict=True):
        if target.shape != array.shape:
            return np.full(worst.shape, np.inf)
        if not target.ndim or len(target) != len(worst):
            continue
        rows = np.asarray(target, np.float64).reshape(len(target), -1)
        others = np.asarray(array, np.float64).reshape(len(target), -1)
        finite = np.isfinite(rows).all(axis=1) & np.isfinite(others).all(axis=1)
        rows, others = rows[finite], others[finite]
        # Differences far below one are noise around a true zero.
        scale = np.maximum(np.abs(rows).max(axis=1, initial=0.0), 1e-3)
        gap = np.abs(rows - others).max(axis=1, initial=0.0) / scale
        worst[finite] = np.maximum(worst[finite], gap)
    return worst


def _random_input(tensor: Any, scales: Array, generator: np.random.Generator) -> Array:
    shape = tuple(_ANY_SIZE if size is None else size for size in tensor.shape[1:])
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype == "uint8":
        return generator.integers(0, 256, (len(scales), *shape)).astype(np.uint8)
    if not dtype.startswith(("float", "bfloat")):
        return generator.integers(0, 2, (len(scales), *shape)).astype(dtype)
    noise = generator.normal(size=(len(scales), *shape))
    return (noise * scales.reshape(-1, *(1,) * len(shape))).astype(np.float32)
