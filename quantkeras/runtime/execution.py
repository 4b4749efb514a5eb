"""Running a program over many samples: inputs checked, cut into batches, results joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import QuantizationError
from ..terminal.progress import progress_bar
from .check import collect_inputs
from .engines import Engine
from .fed import check_fed
from .memory import available_memory
from .program_data import ProgramData
from .schedule import live_elements

Array = npt.NDArray[Any]

WORKING_SET = 2**22
"""Bytes of activations that a batch should stay below: what a processor's cache holds."""

LARGEST_BATCH = 256


def run(
    program: ProgramData,
    x: Any,
    engine: Engine,
    batch_size: int | None,
    verbose: bool | int,
    keep: Sequence[str],
    quantized: bool,
    told: set[str] | None = None,
) -> dict[str, Array]:
    """Int64 tensors of the names in keep for all samples of x.

    told: check that x is prepared as the samples were, see :func:`check_fed`; None: don't.
    """
    arrays = collect_inputs(program, x, quantized)
    if told is not None:
        check_fed(program.inputs, arrays, told, stacklevel=4)
    step = automatic_batch(program) if batch_size is None else _whole(batch_size)
    total = len(arrays[program.inputs[0].name])
    results: dict[str, Array] = {}
    bar = progress_bar(total, program.name, bool(verbose))
    with _fitting_memory(program), bar as advance:
        for start in range(0, total, step):
            batch = {}
            for entry in program.inputs:
                part = arrays[entry.name][start : start + step]
                batch[entry.name] = part.astype(np.int64) if quantized else entry.quantize(part)
            count = min(step, total - start)
            for name, found in engine.run(batch, keep).items():
                if name not in results:
                    results[name] = np.empty((total, *found.shape[1:]), np.int64)
                results[name][start : start + count] = found
            advance(count)
    return results


def _whole(batch_size: Any) -> int:
    whole = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
    if not whole or batch_size < 1:
        raise QuantizationError(
            f"batch_size is {batch_size!r}; it must be a whole number of at least 1, or None"
        )
    return int(batch_size)


@contextmanager
def _fitting_memory(program: ProgramData) -> Iterator[None]:
    """Raises QuantizationError where not even one sample fits, before or after trying."""
    least = 4 * live_elements(program)
    message = (
        f"the program {program.name!r} does not fit into the memory: a sample takes "
        f"{least / 2**20:,.0f} MiB at least; use smaller inputs or a smaller batch_size"
    )
    available = available_memory()
    if available is not None and least > available:
        raise QuantizationError(message)
    try:
        yield
    except MemoryError as error:
        raise QuantizationError(message) from error


def automatic_batch(program: ProgramData) -> int:
    """Samples at a time, so that the live tensors in float32 stay in cache."""
    return max(1, min(LARGEST_BATCH, WORKING_SET // max(1, 4 * live_elements(program))))


def top1(values: Any, labels: Array) -> dict[str, float]:
    """Accuracy of class scores (n, ..., classes) against class numbers or one-hot rows."""
    if not isinstance(values, np.ndarray):
        raise QuantizationError("evaluate needs a program with one output; use predict")
    scores = values.reshape(len(values), -1)
    classes = scores.shape[1]
    if classes < 2:
        raise QuantizationError("evaluate needs one score per class, and the output has only one")
    expected = f"labels are class numbers 0 .. {classes - 1}, or one-hot rows"
    if labels.dtype.kind not in "biuf":
        raise QuantizationError(f"{expected}, not of type {labels.dtype}")
    if not np.isfinite(labels).all():
        raise QuantizationError(f"{expected}; these hold NaN or infinity, take such samples out")
    if labels.ndim == 2 and labels.shape[1] == classes:
        labels = labels.argmax(axis=1)
    if labels.size != len(scores):
        raise QuantizationError(
            f"labels of shape {labels.shape} for {len(scores)} samples of {classes} classes"
        )
    numbers = labels.reshape(-1)
    wrong = (numbers < 0) | (numbers >= classes) | (numbers != np.floor(numbers))
    if wrong.any():
        raise QuantizationError(f"{expected}; there is {numbers[wrong][0]}")
    return {"accuracy": float((scores.argmax(axis=1) == numbers).mean()), "samples": len(scores)}
