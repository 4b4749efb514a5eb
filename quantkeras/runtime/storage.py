"""Programs in files: one zip archive with a JSON header and one ``.npy`` entry per array.

The header (``program.json``) holds the structure; wherever an array belongs it names an entry.
Arrays are packed by ``packing.py`` and nothing is pickled. Equal arrays are written once.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .._version import __version__
from ..errors import ModelFileError
from ..files.writing import replacing
from ..numerics import Format
from ..numerics.layer import LayerParams, LayerSpec
from .array_entries import ArrayReader, read_entry
from .packing import pack, stored_type
from .parts import ProgramInput, ProgramLayer
from .program_data import ProgramData

Array = npt.NDArray[Any]
Config = dict[str, Any]

Made = TypeVar("Made", bound=ProgramData)

MAGIC = "quantkeras program"
VERSION = 2
"""Goes up when a program of this release cannot be read by the previous one."""

HEADER = "program.json"
LARGEST_HEADER = 2**25
"""Bytes of the header: some thousand layers with formats for each element."""

ARRAY_FIELDS = (
    "weights",
    "bias",
    "bias_shift",
    "pad_value",
    "max_value",
    "scale",
    "shift",
    "table",
)
"""Fields of LayerParams that hold one array or None."""

DAMAGE = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    EOFError,
    OSError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What zipfile, json, NumPy and the parts of a program raise for bytes that make no sense."""

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time stamp of the entries: the same program gives the same bytes."""


def save(program: ProgramData, path: str | os.PathLike[str]) -> None:
    """Write a program to `path`, replacing what is there in one step, or raise ModelFileError."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        _write(program, file)


def load(path: str | os.PathLike[str], make: Callable[..., Made]) -> Made:
    """Read a program; make: its class, called with the parts.

    Raises ModelFileError for a file that is missing, foreign, damaged, or of a newer version.
    """
    place = Path(path)
    try:
        if not place.is_file():
            raise ModelFileError(f"there is no file {str(place)!r}")
        opened = place.open("rb")
    except OSError as error:
        raise ModelFileError(f"{str(place)!r} cannot be read: {error.strerror}") from error
    size = place.stat().st_size
    with opened as file:
        if file.read(4) != b"PK\x03\x04":
            raise ModelFileError(f"{str(place)!r} is no quantkeras program")
        try:
            with zipfile.ZipFile(file) as archive:
                header = _read_header(archive, place)
                return make(**_program_parts(header, ArrayReader(archive, header["arrays"], size)))
        except ModelFileError:
            raise
        except zipfile.BadZipFile as error:
            raise ModelFileError(
                f"{str(place)!r} is truncated or damaged ({error}); save it again"
            ) from error
        except DAMAGE as error:
            raise ModelFileError(
                f"{str(place)!r} is damaged: {type(error).__name__}: {error}; save it again"
            ) from error


# -- writing ----------------------------------------------------------------------------------


class _Writer:
    """Collects the arrays of a program; equal ones get one entry."""

    def __init__(self) -> None:
        self.described: dict[str, Config] = {}
        self.packed: dict[str, Array] = {}
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def add(self, values: Any) -> str | None:
        """Name of the entry that holds the array; None for None."""
        if values is None:
            return None
        array = np.asarray(values)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._names:
            name = f"array_{len(self._names)}"
            stored = array.dtype.name if array.dtype.kind == "f" else stored_type(array)
            self.described[name] = {
                "dtype": array.dtype.name,
                "shape": list(array.shape),
                "stored": stored,
            }
            self.packed[name] = pack(array, stored)
            self._names[key] = name
        return self._names[key]


def _write(program: ProgramData, file: io.BufferedWriter) -> None:
    writer = _Writer()
    header = {
        "format": MAGIC,
        "version": VERSION,
        "written_by": f"quantkeras {__version__}",
        "name": program.name,
        "inputs": [
            {
                "name": entry.name,
                "shape": list(entry.shape),
                "format": entry.format.to_config(),
                "scale": writer.add(entry.scale),
                **({} if entry.offset is None else {"offset": writer.add(entry.offset)}),
            }
            for entry in program.inputs
        ],
        "layers": [_layer_config(layer, writer) for layer in program.layers],
        "outputs": list(program.outputs),
        "float_tail": [list(tail) for tail in program.float_tail],
        "arrays": writer.described,
    }
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        text = json.dumps(header, indent=1).encode()
        if len(text) > LARGEST_HEADER:
            raise ModelFileError(
                f"program {program.name!r} takes {len(text)} bytes without its arrays, and "
                f"{LARGEST_HEADER} are read; use formats per channel or per tensor"
            )
        _write_entry(archive, HEADER, text)
        for name, array in writer.packed.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            _write_entry(archive, f"{name}.npy", buffer.getvalue())


def _write_entry(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, data)


def _layer_config(layer: ProgramLayer, writer: _Writer) -> Config:
    params, fmt = layer.params, layer.output_format
    arrays = {name: writer.add(getattr(params, name)) for name in ARRAY_FIELDS}
    return {
        "name": layer.name,
        "spec": layer.spec.to_config(),
        "inputs": list(layer.inputs),
        "output_format": None if fmt is None else fmt.to_config(),
        "output_shape": list(layer.output_shape),
        "output_scale": writer.add(layer.output_scale),
        "source": list(layer.source),
        "weight_bits": layer.weight_bits,
        "params": {
            **{name: entry for name, entry in arrays.items() if entry is not None},
            "input_shifts": [writer.add(shift) for shift in params.input_shifts],
            "qmin": int(params.qmin),
            "qmax": int(params.qmax),
        },
    }


# -- reading ----------------------------------------------------------------------------------


def _read_header(archive: zipfile.ZipFile, place: Path) -> Config:
    if HEADER not in archive.namelist():
        raise ModelFileError(f"{str(place)!r} is a zip archive, but no quantkeras program")
    header = json.loads(read_entry(archive, HEADER, LARGEST_HEADER))
    if not isinstance(header, dict) or header.get("format") != MAGIC:
        raise ModelFileError(f"{str(place)!r} is no quantkeras program")
    version = header["version"]
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(f"its version is {version!r}")
    if version > VERSION:
        raise ModelFileError(
            f"{str(place)!r} is of version {version}, written by "
            f"{header.get('written_by', 'a newer release')}; this is quantkeras {__version__}, "
            f"which reads up to version {VERSION}: upgrade quantkeras"
        )
    return header


def _program_parts(header: Config, arrays: ArrayReader) -> Config:
    return {
        "name": header["name"],
        "inputs": tuple(
            ProgramInput(
                entry["name"],
                tuple(entry["shape"]),
                Format.from_config(entry["format"]),
                arrays.get(entry["scale"]),
                arrays.get(entry.get("offset")),
            )
            for entry in header["inputs"]
        ),
        "layers": tuple(_layer(config, arrays) for config in header["layers"]),
        "outputs": tuple(header["outputs"]),
        "float_tail": tuple(tuple(tail) for tail in header["float_tail"]),
    }


def _layer(config: Config, arrays: ArrayReader) -> ProgramLayer:
    numbers, fmt = config["params"], config["output_format"]
    params = LayerParams(
        **{name: arrays.get(numbers.get(name)) for name in ARRAY_FIELDS},
        input_shifts=tuple(arrays.get(name) for name in numbers["input_shifts"]),
        qmin=numbers["qmin"],
        qmax=numbers["qmax"],
    )
    return ProgramLayer(
        name=config["name"],
        spec=LayerSpec.from_config(config["spec"]),
        params=params,
        inputs=tuple(config["inputs"]),
        output_format=None if fmt is None else Format.from_config(fmt),
        output_shape=tuple(config["output_shape"]),
        output_scale=arrays.get(config["output_scale"]),
        source=tuple(config["source"]),
        weight_bits=config["weight_bits"],
    )
