"""What a model file may not do: read other files, or ask for memory without a use for it.

Keras trusts the description of a network: a layer of 2**40 units is made before it turns out that
the file has no weights for it.
"""

from __future__ import annotations

import math
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras

from quantkeras.errors import ModelFileError

ROOM = 2**28
"""Bytes that the weights of any file may take, and what a larger file may: so many of its own."""
ROOM_PER_BYTE = 200
LARGEST_TEXT = 2**27
"""Bytes of the description of a network."""

_patched = threading.RLock()


def room_of(path: Path) -> int:
    """Bytes that the weights of a file may take in memory."""
    return max(ROOM, ROOM_PER_BYTE * path.stat().st_size)


def check_hdf5(file: h5py.File, path: Path) -> None:
    """Raises ModelFileError where an HDF5 file leads to other files, or unpacks to too much."""
    claimed = 0
    waiting, seen = [file["/"]], set()
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        for name in group:
            if group.get(name, getclass=True, getlink=True) is not h5py.HardLink:
                raise ModelFileError(f"{path}: '{name}' is a link, not a part of the file itself")
            found = group[name]
            if isinstance(found, h5py.Group):
                waiting.append(found)
            elif isinstance(found, h5py.Dataset):
                if found.external or found.is_virtual:
                    raise ModelFileError(f"{path}: the numbers of '{name}' lie in another file")
                claimed += math.prod(found.shape or ()) * found.dtype.itemsize
    if claimed > room_of(path):
        raise ModelFileError(
            f"{path} claims {claimed} bytes of weights, far more than its size allows"
        )


def check_zip(archive: zipfile.ZipFile, path: Path) -> None:
    """Raises ModelFileError where an archive unpacks to far more than its size."""
    entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > room_of(path):
        raise ModelFileError(f"{path} unpacks to far more than its size allows")
    for entry in entries:
        if entry.filename.endswith(".json") and entry.file_size > LARGEST_TEXT:
            raise ModelFileError(f"{path}: its {entry.filename} is far too long")


@contextmanager
def bounded_weights(path: Path) -> Iterator[None]:
    """While layers are made: raises ModelFileError before their weights take more memory than a
    file of that size may.
    """
    left = room_of(path)
    loading = threading.get_ident()

    def add_weight(self: Any, shape: Any = None, *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        if threading.get_ident() == loading:
            sizes = [shape] if isinstance(shape, int) else list(shape or ())
            left -= 4 * math.prod(abs(size or 0) for size in sizes)
            if left < 0:
                raise ModelFileError(
                    f"layer '{self.name}' asks for weights of shape {tuple(sizes)}, far more than "
                    "the size of the file allows"
                )
        return original(self, shape, *args, **kwargs)

    # Every layer, whoever wrote it, gets its weights here; there is no other place to ask.
    with _patched:
        original = keras.layers.Layer.add_weight
        keras.layers.Layer.add_weight = add_weight
        try:
            yield
        finally:
            keras.layers.Layer.add_weight = original
