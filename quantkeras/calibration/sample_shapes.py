"""The sizes that a model leaves open, as its calibration samples have them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .batches import InputSpec, SampleError, inputs_of_element
from .samples import iterate_samples
from .sources import ArrayLike, batches_of_call, holds_batches


class SampleShapes:
    """Reads the shapes of samples before they are used.

    samples: as the user gave them, in any form that ``iterate_samples`` takes. A generator gives
    each batch once, so its first is put back: use ``samples`` of this object from then on.
    """

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def of_inputs(self, specs: Sequence[InputSpec]) -> dict[str, tuple[int, ...]]:
        """Unbatched shape of each input, its axes in the order of its spec.

        specs: the inputs, None for sizes that are open. Raises SampleError where there are no
        samples, or where they do not fit.
        """
        if self.samples is None:
            opened = next(spec for spec in specs if None in spec.shape)
            raise SampleError(
                f"{opened} leaves sizes open, {opened.batched}: give samples, which say them, or"
                " shapes= (--shapes on the command line)"
            )
        first: Any = self.samples
        if isinstance(first, Iterator):
            first = iter([inputs_of_element(self._peek(), specs)])
        batch = next(iter(iterate_samples(first, specs, num_samples=1, batch_size=1)))
        return {name: tuple(array.shape[1:]) for name, array in batch.items()}

    def nested(self) -> tuple[Any, Any]:
        """Shapes and dtypes of the inputs of a model that does not say what it takes.

        A tuple, or a list or dict of them, as the samples are nested; dtypes alike. (None, None)
        where samples do not tell.
        """
        found = self.samples
        if isinstance(found, str | Path) or found is None:
            return _of_file(found)
        if isinstance(found, Iterator):
            found = self._peek()
        elif callable(found) and not isinstance(found, ArrayLike):
            found = next(batches_of_call(found), None)
        elif holds_batches(found):
            found = found[0]
        elif not isinstance(found, ArrayLike | Mapping | list | tuple):
            found = next(iter(found), None)
        if isinstance(found, tuple) and found:
            found = found[0]  # of (x, y)
        if isinstance(found, list) and not any(isinstance(part, ArrayLike) for part in found):
            found = np.asarray(found)
        if isinstance(found, Mapping):
            return (
                {name: _shape(part) for name, part in found.items()},
                {name: _dtype(part) for name, part in found.items()},
            )
        if isinstance(found, list):
            return [_shape(part) for part in found], None
        return (_shape(found), _dtype(found)) if isinstance(found, ArrayLike) else (None, None)

    def _peek(self) -> Any:
        """The first batch of a generator, which stays the first."""
        first = next(self.samples, None)
        if first is None:
            raise SampleError("There are no samples: the generator gave no batch.")
        self.samples = itertools.chain([first], self.samples)
        return first


def _of_file(path: str | Path | None) -> tuple[Any, Any]:
    """Shape and dtype of the one array in a file; (None, None) for several."""
    if path is None:
        return None, None
    from .archive import open_archive, open_npy

    if Path(path).suffix == ".npy":
        array: Any = open_npy(Path(path))
        return tuple(array.shape[1:]), _float_or_integer(array.dtype)
    members = open_archive(Path(path))
    chosen = members.get("x_train") or members.get("x")
    if chosen is None and len(members) == 1:
        chosen = next(iter(members.values()))
    if chosen is None:
        return None, None
    return tuple(chosen.shape[1:]), _float_or_integer(chosen.dtype)


def _shape(array: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in np.shape(array)[1:])


def _dtype(array: Any) -> str:
    return _float_or_integer(np.asarray(array).dtype)


def _float_or_integer(dtype: Any) -> str:
    """Whole numbers of 32 bits and more are indices; pictures of bytes are numbers."""
    return "int32" if np.dtype(dtype).name in ("int32", "int64") else "float32"
