"""Integer arrays in as few bytes as they need.

An array is stored in the narrowest type that holds its numbers. Up to 4 bits, two numbers share a
byte, the first in the low half; an odd last byte has zero in its high half. The order is that of
the flat C array.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

NIBBLES = {"int4": (-8, 7), "uint4": (0, 15)}
"""Ranges of the types of which two share a byte."""

NARROWEST_FIRST = (*NIBBLES, "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")


def stored_type(values: Array) -> str:
    """Name of the narrowest type that holds the integers; uint64 for what int64 does not."""
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for name in NARROWEST_FIRST:
        smallest, largest = limits_of_type(name)
        if smallest <= low and high <= largest:
            return name
    return "uint64"


def pack(values: Array, stored: str) -> Array:
    """The array as it is stored: flat bytes for two numbers per byte, else its own shape."""
    if stored not in NIBBLES:
        return values.astype(np.dtype(stored).newbyteorder("<"))
    flat = values.reshape(-1).astype(np.int16)
    halves = np.zeros(flat.size + flat.size % 2, np.uint8)
    halves[: flat.size] = flat & 15
    return halves[::2] | (halves[1::2] << 4)


def unpack(data: Array, stored: str, shape: tuple[int, ...], dtype: str) -> Array:
    """Inverse of `pack`, in the given type; ValueError if data does not hold such an array."""
    if stored in NIBBLES:
        count = int(np.prod(shape))
        if data.dtype != np.uint8 or data.shape != ((count + 1) // 2,):
            raise ValueError(f"{data.size} bytes for {count} numbers of 4 bits")
        halves = np.stack([data & 15, data >> 4], axis=-1).reshape(-1)[:count].astype(np.int8)
        if stored == "int4":
            halves = (halves ^ 8) - 8
        data = halves.reshape(shape)
    elif data.dtype != np.dtype(stored) or data.shape != shape:
        raise ValueError(f"an array of {data.dtype} {data.shape} in place of {stored} {shape}")
    return data.astype(np.dtype(dtype))


def limits_of_type(name: str) -> tuple[int, int]:
    """Smallest and largest integer of a storage type."""
    if name in NIBBLES:
        return NIBBLES[name]
    info = np.iinfo(name)
    return int(info.min), int(info.max)
