"""Samples in any form a user has them -> batches {input name: array} for calibration.

| samples | read as |
|---|---|
| array (NumPy, or a tensor of any backend) | the only input |
| list or tuple of arrays | one per input, in order |
| mapping of arrays | by input name |
| path of an .npz file | by input name, or as said below |
| path of an .npy file | the only input |
| tf.data.Dataset, keras.utils.PyDataset | batches x or (x, y) |
| list of mappings, or of tuples of arrays | batches x or (x, y), as of a dataset |
| a function without arguments | called every epoch for an iterable of batches |
| any iterable of batches, a generator | batches x or (x, y); a generator gives one epoch |
| None | random numbers, with a warning |

An .npz file whose names are not those of the inputs: for a model of one input the arrays whose
shape fits are taken one after the other (labels do not fit), but of `x_train` and others `x_train`
alone; for several inputs arr_0, arr_1, ... count as a list.

From arrays and files `num_samples` are taken evenly spaced over the whole, since data sets are
often sorted by class and their beginning alone would be a poor picture. From all others the first
`num_samples` of each epoch are taken, or all where there are fewer. Files are read batch by
batch, never as a whole.
"""

import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quantkeras.calibration.batches import Batch, InputSpec, SampleError, check_batch
from quantkeras.calibration.sources import (
    ArrayLike,
    Range,
    Source,
    array_source,
    dataset_source,
    file_parts,
    holds_batches,
    iterable_source,
    memory_parts,
    random_source,
)

__all__ = ["Batch", "InputSpec", "SampleError", "SampleStream", "iterate_samples"]

DEFAULT_BATCH_SIZE = 32


class SampleStream(Iterable[Batch]):
    """Checked batches, and what the first of them tells.

    ``dtypes``: input name -> dtype of the samples as the user has them. ``total``: number of
    batches over all epochs, for a progress bar: exact for arrays and files, an estimate for
    datasets (their batches may differ in size, or be split), None if unknown.

    Iterating again starts over, unless the samples come from a generator, which is an error.

    Args:
        source: what gives the batches.
        inputs: of the model, in order.
        num_samples: at most so many per epoch, None for all.
        batch_size: samples per batch, None: as the source gives them.
        epochs: passes over the source.
    """

    def __init__(
        self,
        source: Source,
        inputs: Sequence[InputSpec],
        num_samples: int | None,
        batch_size: int | None,
        epochs: int,
    ) -> None:
        self._source = source
        self._inputs = inputs
        self._num_samples = num_samples
        self._batch_size = batch_size
        self._epochs = epochs
        self._first_epoch: int | None = None  # samples in it, once it was read
        run = self._run()
        first = next(run)
        self._begun: Iterator[Batch] | None = itertools.chain([first], run)
        self.dtypes: dict[str, np.dtype[Any]] = {name: x.dtype for name, x in first.items()}
        per_epoch = source.total(len(next(iter(first.values()))))
        self.total = None if per_epoch is None else per_epoch * epochs

    def __iter__(self) -> Iterator[Batch]:
        run, self._begun = self._begun, None
        if run is not None:
            return run
        if not self._source.repeatable:
            raise SampleError(
                "The generator of samples is used up. Give a function that returns a new one, or "
                "arrays, to read the samples more than once."
            )
        return self._run()

    def peek(self, count: int, size: int) -> list[Batch]:
        """Look at the first batches; they come again when the stream is read.

        For a stream that was not begun to read.

        Args:
            count: about so many samples.
            size: or so many bytes, whichever is reached first.

        Returns:
            The batches, at least one.
        """
        assert self._begun is not None, "the stream is being read"
        found: list[Batch] = []
        samples = taken = 0
        for batch in self._begun:
            found.append(batch)
            samples += len(next(iter(batch.values())))
            taken += sum(array.nbytes for array in batch.values())
            if samples >= count or taken >= size:
                break
        self._begun = itertools.chain(found, self._begun)
        return found

    def _run(self) -> Iterator[Batch]:
        kinds: dict[str, str] = {}
        for _ in range(self._epochs):
            seen = batches = 0
            for element in self._source.epoch():
                batches += 1
                batch = check_batch(element, self._inputs)
                for name, array in batch.items():
                    if kinds.setdefault(name, array.dtype.kind) != array.dtype.kind:
                        raise SampleError(
                            f"input {name!r}: samples change from dtype kind {kinds[name]!r} to "
                            f"{array.dtype}. Give all of them the same dtype."
                        )
                for part in self._parts(batch, seen):
                    seen += len(next(iter(part.values())))
                    yield part
                if self._num_samples is not None and seen >= self._num_samples:
                    break
            self._check_count(seen, batches)

    def _check_count(self, seen: int, batches: int) -> None:
        """Raise where an epoch had no samples, and warn where it had fewer than it should have.

        Fewer than num_samples are none too few, as these are the most that are taken.
        """
        before = self._first_epoch
        if not seen and before is None:
            raise SampleError("There are no samples: the generator or dataset gave no batch.")
        if not seen:
            raise SampleError(
                f"The samples are used up: at first there were {before}, and now none. A function "
                "that gives samples has to return a new generator each time that it is called."
            )
        if self._first_epoch is None:
            self._first_epoch = seen
        promised = self._source.promised
        full = self._num_samples is not None and seen >= self._num_samples
        if before is not None and seen < before:
            told = f"{seen} of the {before} samples that were read at first"
        elif not full and promised is not None and batches < promised and seen != promised:
            told = f"{batches} of the {promised} batches that their length promises"
        else:
            return
        warnings.warn(
            f"The samples ended after {told}; calibration goes on with the {seen}. See why the "
            "others are missing.",
            stacklevel=3,
        )

    def _parts(self, batch: Batch, seen: int) -> Iterator[Batch]:
        """The batch, cut at num_samples, in pieces of at most batch_size."""
        size = len(next(iter(batch.values())))
        if self._num_samples is not None:
            size = min(size, self._num_samples - seen)
        step = self._batch_size or size
        for start in range(0, size, step):
            stop = min(start + step, size)
            yield {name: array[start:stop] for name, array in batch.items()}


def iterate_samples(
    samples: Any,
    inputs: Sequence[InputSpec | tuple[str, Sequence[int | None]]],
    num_samples: int | None = 1024,
    batch_size: int | None = None,
    epochs: int = 1,
    *,
    random_range: Range | Mapping[str, Range] = (0.0, 1.0),
    seed: int = 0,
) -> SampleStream:
    """Open samples (see the table above) as a stream of checked batches.

    The first batch is read at once, so most mistakes show here.

    Args:
        samples: in any form of the table.
        inputs: (name, unbatched shape) of each input of the model, or its InputSpec, in order.
        num_samples: at most so many per epoch; None: all.
        batch_size: samples per batch; None: 32, or the batches of the dataset or generator as they
            come. Batches larger than a given batch_size are split.
        epochs: passes over the samples; a generator can give one only.
        random_range: (low, high) of the random numbers if samples is None, or one per input name;
            two ints make them integers, low to high inclusive, of the smallest dtype that holds
            them.
        seed: of the random numbers.

    Returns:
        The stream.

    Raises:
        SampleError: for samples that do not fit the inputs, and numbers out of range.
        NonFiniteError: for NaN and infinity.
    """
    _check_positive("num_samples", num_samples)
    _check_positive("batch_size", batch_size)
    _check_positive("epochs", epochs)
    specs = [
        entry if isinstance(entry, InputSpec) else InputSpec(entry[0], tuple(entry[1]))
        for entry in inputs
    ]
    if not specs:
        raise SampleError("The model has no inputs, so there is nothing to feed samples to.")
    size = batch_size or DEFAULT_BATCH_SIZE
    if samples is None:
        count = num_samples or 1024
        source = random_source(specs, count, size, random_range, seed)
    elif isinstance(samples, str | Path):
        source = array_source(file_parts(Path(samples), specs), specs, num_samples, size)
    elif (dataset := dataset_source(samples, specs, num_samples)) is not None:
        source = dataset
    elif not holds_batches(samples) and isinstance(samples, Mapping | list | tuple | ArrayLike):
        source = array_source(memory_parts(samples, specs), specs, num_samples, size)
    else:
        source = iterable_source(samples, specs)
    if epochs > 1 and not source.repeatable:
        raise SampleError(
            f"epochs is {epochs}, but a generator gives its samples only once. Give a function "
            "that returns a new generator, or a dataset or arrays."
        )
    return SampleStream(source, specs, num_samples, batch_size, epochs)


def _check_positive(name: str, value: Any) -> None:
    if value is None and name != "epochs":
        return
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise SampleError(f"{name} is {value!r}; it must be a whole number of at least 1.")
