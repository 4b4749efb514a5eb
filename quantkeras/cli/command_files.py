"""Files that commands read and write: what they are, and how nothing is lost in writing."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..calibration.batches import SampleError
from ..errors import ModelFileError
from ..files.writing import replacing

MODEL_SUFFIXES = (".keras", ".h5", ".hdf5")
ONNX_SUFFIX = ".onnx"
PROGRAM_SUFFIX = ".qkp"
REPORT_SUFFIXES = {
    "json": (".json",),
    "html": (".html", ".htm"),
    "plot": (".svg", ".png", ".pdf", ".dot", ".gv"),
}
"""Option of a command that reports -> how the names of its files end."""


def is_program(path: Path) -> bool:
    """Whether a file is an integer program; by its contents, as far as they can be read."""
    if not zipfile.is_zipfile(path):
        return path.suffix == PROGRAM_SUFFIX  # damaged or missing: reading it says so
    with zipfile.ZipFile(path) as archive:
        return "program.json" in archive.namelist()


def keras_suffix(model: Path) -> str:
    """How a Keras model made of a file is named: like it, .keras for an ONNX model and others."""
    return model.suffix if model.suffix.lower() in MODEL_SUFFIXES else ".keras"


def check_output(path: Path, suffixes: Sequence[str], sources: Sequence[Path | None] = ()) -> None:
    """Raise ModelFileError, before any work is done, where an output cannot be written.

    sources: files that the command reads; the output must be none of them.
    """
    allowed = " or ".join(f"*{suffix}" for suffix in suffixes)
    if path.suffix.lower() not in suffixes:
        hint = ""
        if path.name.isdigit():
            hint = f"; for {path.name} bits of output use --output_bits {path.name}"
        raise ModelFileError(f"output {path}: its name has to be {allowed}{hint}")
    if path.is_dir():
        raise ModelFileError(f"output {path} is a folder: choose the name of a file")
    folder = path.parent
    if not folder.exists():
        raise ModelFileError(f"output {path}: there is no folder {folder}; make it first")
    if not folder.is_dir():
        raise ModelFileError(f"output {path}: {folder} is a file; choose another folder")
    if not os.access(folder, os.W_OK):
        raise ModelFileError(f"output {path}: nothing may be written in {folder}")
    for source in sources:
        if source is not None and path.exists() and source.exists() and path.samefile(source):
            raise ModelFileError(
                f"output {path} is the file that is read: choose another name, so that it stays"
            )


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """An .npz archive; unlike numpy.savez it takes any names."""
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


@contextmanager
def naming(path: Path | None) -> Iterator[None]:
    """Says in messages about samples which file they come from."""
    try:
        yield
    except SampleError as error:
        if path is None or str(path) in str(error):
            raise
        raise SampleError(f"{path}: {error}") from error
