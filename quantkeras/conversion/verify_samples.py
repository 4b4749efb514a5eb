"""Samples for `verify`: the user's, or random ones that reach every part of the inputs' ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from sanitize.graph import Graph

from ..calibration.samples import SampleStream, iterate_samples
from ..runtime import Program

Array = npt.NDArray[Any]

BATCH_BUDGET = 128 * 2**20
"""Bytes that the tensors of one step may take."""


def open_for_both(
    graph: Graph,
    program: Program,
    samples: Any,
    num_samples: int | None,
    batch_size: int | None,
) -> SampleStream:
    """The samples as a stream of checked batches, by the names of the graph's inputs.

    graph: of the quantized model. samples: None draws random ones, the same each time.
    """
    inputs = [(name, graph.shape_of(name)) for name in graph.inputs]
    if samples is None:
        samples = _random_samples(graph, program, num_samples or 256, batch_size or 32)
    return iterate_samples(samples, inputs, num_samples, batch_size)


def _random_samples(
    graph: Graph, program: Program, count: int, batch_size: int
) -> Callable[[], Iterator[dict[str, Array]]]:
    """Samples that fill the inputs' ranges and a tenth more, so that saturation is met as well.

    The first is all smallest, the second all largest values.
    """
    quantized = {entry.name: entry for entry in program.inputs}

    def draw(name: str, rng: np.random.Generator, start: int, size: int) -> Array:
        shape = (size, *(d or 8 for d in graph.shape_of(name)))
        entry = quantized.get(name)
        if entry is None:  # it leads to the float part only
            return rng.uniform(-1, 1, shape).astype(np.float32)
        low, high = entry.format.qmin, entry.format.qmax
        drawn: Array
        if entry.takes_integers:
            drawn = rng.integers(low, high, shape, endpoint=True)
        else:
            drawn = rng.uniform(1.1 * low, 1.1 * high, shape)
        drawn[[i for i in (0 - start,) if 0 <= i < size]] = low
        drawn[[i for i in (1 - start,) if 0 <= i < size]] = high
        scale = 1.0 if entry.scale is None else entry.scale
        offset = 0.0 if entry.offset is None else entry.offset
        return (drawn * entry.format.lsb / scale + offset).astype(np.float32)

    def epoch() -> Iterator[dict[str, Array]]:
        rng = np.random.default_rng(0)
        for start in range(0, count, batch_size):
            size = min(batch_size, count - start)
            yield {name: draw(name, rng, start, size) for name in graph.inputs}

    return epoch


def pieces(stream: SampleStream, program: Program) -> Iterator[dict[str, Array]]:
    """The batches, cut where all tensors of both sides together would take too much memory."""
    size = sum(int(np.prod(shape)) for shape in program.shapes.values())
    rows = max(1, BATCH_BUDGET // (12 * size))  # float32 of Keras and int64 of the program
    for batch in stream:
        for start in range(0, len(next(iter(batch.values()))), rows):
            yield {name: array[start : start + rows] for name, array in batch.items()}
