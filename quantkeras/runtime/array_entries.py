"""Arrays out of files that nobody vouches for: what they claim is checked before memory is taken.

A small archive can claim arrays of any size, and can unpack to a thousand times its own. Here the
claims are added up first, and no more bytes are unpacked than were claimed.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .packing import NIBBLES, unpack

Array = npt.NDArray[Any]
Header = tuple[tuple[int, ...], bool, np.dtype[Any]]

NUMBERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
FLOATS = ("float32", "float64")
MOST_AXES = 16

ROOM = 2**28
"""Bytes that the arrays of any file may take, and what a larger file may: so many of its own."""
ROOM_PER_BYTE = 100

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Ways of compression that are read: those that are written."""


def read_entry(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """The bytes of an entry of at most `most`. Raises ValueError where it has more."""
    with archive.open(_usable(archive, name)) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{name} unpacks to more than {most} bytes")
    return data


def read_npy_header(file: IO[bytes]) -> Header:
    """Shape, order (whether Fortran's) and type of an array in NumPy's format.

    Raises ValueError for anything that is no such array, or none of numbers.
    """
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        # Others are for headers beyond 64 KiB, which arrays of numbers do not have.
        raise ValueError(f"it is an array of format {version}; format (1, 0) is read")
    try:
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    except (SyntaxError, tokenize.TokenError, TypeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"the header of its array is damaged: {error}") from error
    if len(shape) > MOST_AXES or any(not 0 <= n < 2**62 for n in shape):
        raise ValueError(f"it claims an array of shape {shape}")
    return shape, fortran_order, dtype


class ArrayReader:
    """The arrays of a program's file by name of entry, each read once.

    described: name -> type, shape and stored type, as the header has them; size: of the file.
    Raises ValueError where the arrays together would take more memory than such a file may.
    """

    def __init__(
        self, archive: zipfile.ZipFile, described: Mapping[str, Mapping[str, Any]], size: int
    ) -> None:
        self._archive = archive
        self._described = described
        self._read: dict[str, Array] = {}
        claimed = sum(_claimed(about) for about in described.values())
        if claimed > max(ROOM, ROOM_PER_BYTE * size):
            raise ValueError(f"its arrays would take {claimed} bytes, from a file of {size}")

    def get(self, name: str | None) -> Array | None:
        """The array of that entry; None for None."""
        if name is None:
            return None
        if name not in self._read:
            self._read[name] = self._array(name, self._described[name])
        return self._read[name]

    def _array(self, name: str, about: Mapping[str, Any]) -> Array:
        shape, stored = tuple(about["shape"]), about["stored"]
        held = stored_shape(shape, stored)
        kind = np.dtype("uint8" if stored in NIBBLES else stored)
        with self._archive.open(_usable(self._archive, f"{name}.npy")) as file:
            found, fortran_order, dtype = read_npy_header(file)
            if dtype.hasobject:
                raise ValueError("Object arrays are not read")
            if found != held or dtype != kind:
                raise ValueError(f"an array of {dtype} {found} in place of {stored} {shape}")
            count = math.prod(held) * kind.itemsize
            data = file.read(count)
            if len(data) != count or file.read(1):
                raise ValueError(f"{name} does not hold {count} bytes of numbers")
        flat = np.frombuffer(data, dtype)
        array = flat.reshape(held[::-1]).T if fortran_order else flat.reshape(held)
        return unpack(array, stored, shape, about["dtype"])


def stored_shape(shape: tuple[int, ...], stored: str) -> tuple[int, ...]:
    """Shape of an array in its file: its own, or that of bytes with two numbers each."""
    return ((math.prod(shape) + 1) // 2,) if stored in NIBBLES else shape


def _claimed(about: Mapping[str, Any]) -> int:
    """Bytes in memory of one array, stored and unpacked. Raises ValueError for no array."""
    shape, stored, dtype = about["shape"], about["stored"], about["dtype"]
    if stored not in (*NIBBLES, *NUMBERS, *FLOATS) or dtype not in (*NUMBERS, *FLOATS):
        raise ValueError(f"an array of {dtype!r}, stored as {stored!r}")
    if not isinstance(shape, list) or len(shape) > MOST_AXES:
        raise ValueError(f"an array of shape {str(shape)[:100]}")
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in shape):
        raise ValueError(f"an array of shape {str(shape)[:100]}")
    width = 1 if stored in NIBBLES else np.dtype(stored).itemsize
    return int(math.prod(shape) * (width + np.dtype(dtype).itemsize))


def _usable(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    entry = archive.getinfo(name)
    if entry.compress_type not in METHODS:
        raise ValueError(f"{name} is compressed by method {entry.compress_type}, which is not read")
    return entry
