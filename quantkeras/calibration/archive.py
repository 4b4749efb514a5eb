"""Arrays on disk, read batch by batch: the members of an .npz archive, and .npy files.

An archive of 50,000 images need not fit in memory twice (once compressed, once not): a member is
decompressed as a stream and only the rows asked for are kept. Rows must be asked for in rising
order within one pass; a new pass opens the member again.
"""

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quantkeras.errors import QuantizationError
from quantkeras.runtime.array_entries import read_npy_header

_READ_AHEAD = 2**20
_DAMAGE = (ValueError, EOFError, OSError, RuntimeError, LookupError, MemoryError, zlib.error)
"""What zipfile and NumPy raise for bytes that make no sense."""


class RowSource(Protocol):
    """Something with rows: an array in memory or on disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape with the number of rows first."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the elements."""


@dataclass(frozen=True)
class Member:
    """One array of an .npz archive, not read yet. shape includes the rows, the first axis."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool


def open_archive(path: Path) -> dict[str, Member]:
    """The arrays of an .npz file by name, headers read, data not."""
    _check_exists(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            members = {name.removesuffix(".npy"): _header(path, archive, name) for name in names}
    except QuantizationError:
        raise
    except (zipfile.BadZipFile, *_DAMAGE) as error:
        raise QuantizationError(
            f"Samples file {str(path)!r} is not an .npz archive, or is cut off ({error}). "
            "Write it with numpy.savez or numpy.savez_compressed."
        ) from error
    if not members:
        raise QuantizationError(f"Samples file {str(path)!r} holds no arrays.")
    return members


def open_npy(path: Path) -> NDArray[Any]:
    """The array of an .npy file, mapped into memory: read when used."""
    _check_exists(path)
    try:
        with path.open("rb") as file:
            read_npy_header(file)
        return np.lib.format.open_memmap(path, mode="r")
    except _DAMAGE as error:
        raise QuantizationError(
            f"Samples file {str(path)!r} is not an .npy array of numbers, or is cut off ({error})."
        ) from error


def iterate_rows(
    source: RowSource, indices: NDArray[np.intp], batch_size: int
) -> Iterator[NDArray[Any]]:
    """Batches of the rows `indices` (rising), each of batch_size rows, the last one of the rest."""
    batches = [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]
    if not isinstance(source, Member):
        array = np.asanyarray(source)
        for batch in batches:
            yield np.asarray(array[_as_slice(batch)])
    elif source.fortran_order or source.dtype.hasobject:
        # Not row by row in the file; objects are refused by the checks on the batches.
        with np.load(source.path, allow_pickle=False) as archive:
            yield from iterate_rows(_loaded(source, archive), indices, batch_size)
    else:
        yield from _stream(source, batches)


def _as_slice(indices: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """A run of neighbours as a slice, which copies nothing."""
    if len(indices) and indices[-1] - indices[0] == len(indices) - 1:
        return slice(int(indices[0]), int(indices[-1]) + 1)
    return indices


def _header(path: Path, archive: zipfile.ZipFile, name: str) -> Member:
    try:
        with archive.open(name) as file:
            shape, fortran_order, dtype = read_npy_header(file)
            held = archive.getinfo(name).file_size - file.tell()
        if not dtype.hasobject and math.prod(shape) * dtype.itemsize > held:
            raise ValueError(f"it claims an array of shape {shape}, and holds {held} bytes")
    except (zipfile.BadZipFile, *_DAMAGE) as error:
        raise QuantizationError(
            f"Array {name.removesuffix('.npy')!r} of {str(path)!r} is damaged: {error}."
        ) from error
    return Member(path, name.removesuffix(".npy"), shape, dtype, fortran_order)


def _check_exists(path: Path) -> None:
    try:
        found = path.is_file()
    except OSError as error:
        raise QuantizationError(
            f"Samples file {str(path)!r} cannot be read: {error.strerror}."
        ) from error
    if not found:
        raise QuantizationError(f"Samples file {str(path)!r} does not exist.")


def _loaded(member: Member, archive: Any) -> NDArray[Any]:
    try:
        return np.asarray(archive[member.name])
    except (zipfile.BadZipFile, *_DAMAGE) as error:
        raise _damaged(member, error) from error


def _stream(member: Member, batches: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[Any]]:
    """Rows in rising order from the decompressed stream; rows in between are skipped."""
    row_shape = member.shape[1:]
    row_bytes = int(np.prod(row_shape, dtype=np.int64)) * member.dtype.itemsize
    try:
        with zipfile.ZipFile(member.path) as archive, archive.open(member.name + ".npy") as file:
            read_npy_header(file)
            position = 0
            for indices in batches:
                batch = np.empty((len(indices), *row_shape), dtype=member.dtype)
                view = batch.reshape(-1).view(np.uint8)
                filled = 0
                for first, count in _runs(indices):
                    _skip(file, (first - position) * row_bytes)
                    filled += _fill(file, view[filled : filled + count * row_bytes])
                    position = first + count
                yield batch
    except (zipfile.BadZipFile, *_DAMAGE) as error:
        raise _damaged(member, error) from error


def _runs(indices: NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    """(first, count) of each run of neighbouring indices."""
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    for run in np.split(indices, breaks):
        yield int(run[0]), len(run)


def _skip(file: Any, count: int) -> None:
    while count > 0:
        chunk = file.read(min(count, _READ_AHEAD))
        if not chunk:
            raise EOFError("the data end early")
        count -= len(chunk)


def _fill(file: Any, target: NDArray[np.uint8]) -> int:
    """Fills target with the next bytes; returns how many these are."""
    done = 0
    while done < len(target):
        count = file.readinto(target[done:].data)
        if not count:
            raise EOFError("the data end early")
        done += count
    return done


def _damaged(member: Member, error: Exception) -> QuantizationError:
    return QuantizationError(
        f"Array {member.name!r} of {str(member.path)!r} can't be read: {error}. "
        "The file is damaged or cut off; write it again."
    )
