"""Where samples come from: each form of them as a source of unchecked batches.

What a user may give, and what is taken from it, is said in `samples`, which checks the batches.
Nothing here imports a framework: an object of one exists only where its library is loaded.
"""

import inspect
import itertools
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from operator import length_hint
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from quantkeras.calibration.archive import Member, RowSource, iterate_rows, open_archive, open_npy
from quantkeras.calibration.batches import (
    InputSpec,
    SampleError,
    as_array,
    inputs_of_element,
    name_inputs,
)

Range = tuple[float, float]
"""(low, high) of random numbers; whole numbers, both inclusive, if both are ints."""

Part = dict[str, RowSource]
"""Arrays with the same number of rows, one per input."""


@runtime_checkable
class ArrayLike(Protocol):
    def __array__(self) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Source:
    """One epoch's batches, unchecked, and what is known beforehand.

    epoch: starts an epoch. repeatable: whether it can be called again. total(n): number of
    batches in an epoch if the first has n samples, None if unknown. promised: how many batches
    whoever gives them says there are, if that is said.
    """

    epoch: Callable[[], Iterator[dict[str, Any]]]
    repeatable: bool
    total: Callable[[int], int | None]
    promised: int | None = None


def holds_batches(samples: Any) -> bool:
    """Whether a list holds batches, as a generator would give them, and not an array per input:
    mappings of arrays, or tuples of them, as a list of a dataset's batches has.
    """
    if not isinstance(samples, list | tuple) or not samples:
        return False
    if all(isinstance(element, Mapping) for element in samples):
        return True
    return isinstance(samples, list) and all(
        isinstance(element, tuple)
        and any(isinstance(part, ArrayLike | Mapping) for part in element)
        for element in samples
    )


def memory_parts(samples: Any, specs: Sequence[InputSpec]) -> list[Part]:
    """Arrays of the user, by name. A list of numbers or of lists is one array."""
    nested = isinstance(samples, list) and not any(isinstance(x, ArrayLike) for x in samples)
    if nested and len(specs) == 1:
        samples = as_array(specs[0], samples)
    values = name_inputs(samples, specs)
    return [{spec.name: as_array(spec, values[spec.name]) for spec in specs}]


def file_parts(path: Path, specs: Sequence[InputSpec]) -> list[Part]:
    """The arrays of a file, by name; several parts if they follow one another."""
    if path.suffix == ".npy":
        return [dict(name_inputs(open_npy(path), specs))]
    members = open_archive(path)
    names = [spec.name for spec in specs]
    if all(name in members for name in names):
        return [{name: members[name] for name in names}]
    if len(specs) == 1:
        fitting: list[Member] = [m for m in members.values() if specs[0].accepts(m.shape)]
        training = [member for member in fitting if member.name == "x_train"]
        if fitting:
            return [{names[0]: member} for member in training or fitting]
        shapes = {name: member.shape for name, member in members.items()}
        hints = [hint for shape in shapes.values() if (hint := specs[0].hint(shape))]
        raise SampleError(
            f"{specs[0]}: no array of {str(path)!r} has the shape {specs[0].batched}; it holds "
            f"{shapes}.{''.join(hints[:1])}"
        )
    return [dict(name_inputs(_in_order(members), specs))]


def _in_order(members: Mapping[str, Member]) -> Mapping[str, Member] | list[Member]:
    """Arrays saved without names (arr_0, arr_1, ...) as a list; others stay named."""
    unnamed = [f"arr_{i}" for i in range(len(members))]
    return [members[name] for name in unnamed] if set(unnamed) == set(members) else members


def array_source(
    parts: Sequence[Part], specs: Sequence[InputSpec], num_samples: int | None, batch_size: int
) -> Source:
    """Rows of arrays: num_samples of them, evenly spaced over all parts together."""
    counts = []
    for part in parts:
        for spec in specs:
            spec.check_dtype(part[spec.name].dtype)
            spec.check_shape(part[spec.name].shape)
        sizes = {name: array.shape[0] for name, array in part.items()}
        if len(set(sizes.values())) != 1:
            raise SampleError(f"The inputs have different numbers of samples: {sizes}.")
        counts.append(next(iter(sizes.values())))
    rows = sum(counts)
    if not rows:
        raise SampleError("There are no samples: the arrays are empty. Give at least one.")
    taken = min(rows, num_samples or rows)
    chosen = np.arange(taken, dtype=np.int64) * rows // taken
    starts = np.concatenate([[0], np.cumsum(counts)])
    shares = [
        (chosen[(chosen >= start) & (chosen < stop)] - start).astype(np.intp)
        for start, stop in itertools.pairwise(starts.tolist())
    ]

    def epoch() -> Iterator[dict[str, Any]]:
        for part, share in zip(parts, shares, strict=True):
            columns = [iterate_rows(part[spec.name], share, batch_size) for spec in specs]
            for arrays in zip(*columns, strict=True):
                yield {spec.name: array for spec, array in zip(specs, arrays, strict=True)}

    batches = sum(math.ceil(len(share) / batch_size) for share in shares)
    return Source(epoch, repeatable=True, total=lambda _: batches)


def random_source(
    specs: Sequence[InputSpec],
    num_samples: int,
    batch_size: int,
    random_range: Range | Mapping[str, Range],
    seed: int,
) -> Source:
    """Uniform random numbers, the same in every epoch, and one warning."""
    for spec in specs:
        if None in spec.shape:
            raise SampleError(
                f"{spec} has the shape {spec.batched}: random samples need known sizes. "
                "Give samples."
            )
    warnings.warn(
        "No samples were given: calibrating with random numbers. The ranges, and so the accuracy, "
        "will be poor; give a few hundred real samples, here or to calibrate.",
        stacklevel=3,
    )
    ranges = {
        spec.name: random_range[spec.name] if isinstance(random_range, Mapping) else random_range
        for spec in specs
    }

    def draw(generator: np.random.Generator, spec: InputSpec, count: int) -> NDArray[Any]:
        low, high = ranges[spec.name]
        shape = (count, *(size for size in spec.shape if size is not None))
        if isinstance(low, int) and isinstance(high, int):
            limits = {name: np.iinfo(name) for name in ("uint8", "int8", "int16", "int64")}
            dtype = next(k for k, v in limits.items() if v.min <= low and high <= v.max)
            return generator.integers(low, high, shape, endpoint=True).astype(dtype)
        return generator.uniform(low, high, shape).astype(np.float32)

    def epoch() -> Iterator[dict[str, Any]]:
        generator = np.random.default_rng(seed)
        for start in range(0, num_samples, batch_size):
            count = min(batch_size, num_samples - start)
            yield {spec.name: draw(generator, spec, count) for spec in specs}

    batches = math.ceil(num_samples / batch_size)
    return Source(epoch, repeatable=True, total=lambda _: batches)


def dataset_source(
    samples: Any, specs: Sequence[InputSpec], num_samples: int | None
) -> Source | None:
    """A tf.data.Dataset or a keras PyDataset, or None if samples is neither."""
    tensorflow, keras = sys.modules.get("tensorflow"), sys.modules.get("keras")
    if tensorflow is not None and isinstance(samples, tensorflow.data.Dataset):
        cardinality = int(samples.cardinality())
        batches: int | None = None if cardinality < 0 else cardinality
        infinite = cardinality == int(tensorflow.data.INFINITE_CARDINALITY)
        start: Callable[[], Iterator[Any]] = samples.__iter__
    elif keras is not None and isinstance(samples, keras.utils.PyDataset):
        batches = samples.num_batches
        infinite = batches is None

        def start() -> Iterator[Any]:
            samples.on_epoch_begin()
            for index in itertools.count() if batches is None else range(batches):
                yield samples[index]
            samples.on_epoch_end()
    else:
        return None
    if infinite and num_samples is None:
        raise SampleError("The dataset of samples never ends: give num_samples.")

    def total(first: int) -> int | None:
        limit = None if num_samples is None else math.ceil(num_samples / first)
        known = [count for count in (batches, limit) if count is not None]
        return min(known) if batches is not None or infinite else None

    return Source(lambda: _named(start(), specs), repeatable=True, total=total)


def iterable_source(samples: Any, specs: Sequence[InputSpec]) -> Source:
    """A generator, a function that returns one, or any other iterable of batches."""
    if callable(samples) and not isinstance(samples, Iterable):
        return Source(
            lambda: _named(batches_of_call(samples), specs), repeatable=True, total=lambda _: None
        )
    if not isinstance(samples, Iterable):
        raise _no_samples(samples)
    repeatable = not isinstance(samples, Iterator)
    return Source(
        lambda: _named(iter(samples), specs),
        repeatable=repeatable,
        total=lambda _: None,
        # A length may be declared, and not be known.
        promised=(length_hint(samples) or None) if isinstance(samples, Sized) else None,
    )


def batches_of_call(function: Callable[..., Any]) -> Iterator[Any]:
    """What a function without arguments returns, begun.

    Raises SampleError for a model or layer, which could be called as well, for a function that
    takes arguments, and for one that returns no batches.
    """
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(function, keras.layers.Layer):
        raise _no_samples(function)
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise SampleError(
            f"The function that gives the samples cannot be called without arguments ({error}); "
            "give a function without arguments that returns batches, or arrays."
        ) from error
    except ValueError:
        pass  # one that is not written in Python does not say what it takes
    found = function()
    if not isinstance(found, Iterable):
        raise SampleError(
            f"The function that gives the samples returned a {type(found).__name__}; it has to "
            "return batches: a generator, a dataset or a list of arrays."
        )
    return iter(found)


def _no_samples(given: Any) -> SampleError:
    return SampleError(
        f"Samples are a {type(given).__name__}; expected arrays, a path of an .npz file, a "
        "dataset or a generator of batches."
    )


def _named(elements: Iterator[Any], specs: Sequence[InputSpec]) -> Iterator[dict[str, Any]]:
    return (inputs_of_element(element, specs) for element in elements)
