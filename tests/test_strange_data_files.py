"""Settings, encodings and samples out of damaged files: each fault is one sentence."""

import io
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantkeras.calibration.batches import InputSpec
from quantkeras.calibration.samples import iterate_samples
from quantkeras.cli.onnx_quantize_command import read_params
from quantkeras.cli.run_data import find_labels, open_inputs
from quantkeras.errors import ModelFileError, QuantizationError
from quantkeras.files.json_files import LARGEST
from quantkeras.onnx.encodings import read_encodings
from quantkeras.quantization.params import ParamsError, QuantizationParams

SPECS = [InputSpec("x", (2, 2))]

# -- JSON ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 200_000, "nested too deep|recursion"),
        (b" " * (LARGEST + 1), "larger than"),
        (b"\xff\xfe", "utf-8"),
        (b"1e999999", "must be|must be a mapping|holds no scales|no encodings"),
    ],
)
def test_json_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    for read, error in (
        (QuantizationParams.load, ParamsError),
        (read_encodings, ModelFileError),
        (read_params, QuantizationError),
    ):
        with pytest.raises(error, match=message):
            read(path)
    with pytest.raises(ParamsError, match="File name too long"):
        QuantizationParams.load(tmp_path / ("x" * 300))


def entry_1(**changes: Any) -> dict[str, Any]:
    """An encodings document of schema 1.0.0 with one activation."""
    entry = {"name": "a", "enc_type": "PER_TENSOR", "dtype": "INT", "bw": 8, "is_sym": False}
    entry |= {"scale": [0.5], "offset": [-3.0]} | changes
    return {"version": "1.0.0", "activation_encodings": [entry], "param_encodings": []}


def entry_2(**changes: Any) -> dict[str, Any]:
    """The same of schema 2.0.0."""
    entry = {"name": "a", "output_dtype": "uint8", "y_scale": 0.5, "y_zero_point": 3} | changes
    return {"version": "2.0.0", "encodings": [entry]}


@pytest.mark.parametrize("scale", [np.nan, np.inf, 0.0, -1.0, 1e-300, 1e38, "x", None])
def test_scales_that_are_none(scale: Any) -> None:
    for document in (entry_1(scale=[scale]), entry_2(y_scale=scale)):
        with pytest.raises(ModelFileError, match="no encodings file"):
            read_encodings(document)


@pytest.mark.parametrize(
    "changes",
    [
        {"bw": 10**12},
        {"bw": 0},
        {"bw": 8.5},
        {"offset": [10**30]},
        {"offset": [0.5]},
        {"offset": 0.5},
        {"offset": [np.nan]},
        {"offset": [1, 2]},
        {"scale": []},
        {"scale": [[0.5]]},
        {"name": ["a"]},
    ],
)
def test_entries_that_say_nothing(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelFileError, match="no encodings file"):
        read_encodings(entry_1(**changes))


def test_entries_of_the_last_schema() -> None:
    for changes in (
        {"output_dtype": "int999999999999"},
        {"y_zero_point": 0.5},
        {"y_scale": [0.5], "axis": "x"},
        {"y_scale": [[0.5]]},
        {"y_zero_point": [1, 2]},
    ):
        with pytest.raises(ModelFileError, match="no encodings file"):
            read_encodings(entry_2(**changes))
    assert read_encodings(entry_2())["a"].low == -1.5
    assert read_encodings(entry_1())["a"].low == -1.5


# -- samples ------------------------------------------------------------------------------------


def npy(shape: object, data: bytes = b"") -> bytes:
    text = str({"descr": "<f4", "fortran_order": False, "shape": shape}).encode()
    text += b" " * ((64 - (len(text) + 11) % 64) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def npz(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(f"{name}.npy", data)
    return path


def read(path: Path, specs: Sequence[InputSpec] = SPECS) -> int:
    return sum(len(batch["x"]) for batch in iterate_samples(path, specs, 64))


DATA = np.arange(12, dtype="f4").tobytes()


@pytest.mark.parametrize(
    "content",
    [
        npy((3, 2, 2), DATA).replace(b"}", b"(", 1),
        npy((3, 2, 2), DATA).replace(b"'shape'", b"'shape(", 1),
        npy((2**40, 2, 2), DATA),
        npy((2**63, 2, 2), DATA),
        npy((-1, 2, 2), DATA),
        npy((), b"1234"),
        npy((3, 2, 2), DATA).replace(b"\x01\x00", b"\x02\x00", 1),
        npy((3, 2, 2), DATA)[:-1],
        b"",
    ],
)
def test_arrays(tmp_path: Path, content: bytes) -> None:
    archive = npz(tmp_path / "x.npz", x=content)
    (tmp_path / "x.npy").write_bytes(content)
    for path in (archive, tmp_path / "x.npy"):
        with pytest.raises(QuantizationError):
            read(path)
        with pytest.raises(QuantizationError):
            list(open_inputs(path, SPECS, None, 4).stream)


def test_archives(tmp_path: Path) -> None:
    path = npz(tmp_path / "x.npz", x=npy((3, 2, 2), DATA))
    assert read(path) == 3
    whole = path.read_bytes()
    entry = whole.index(b"PK\x01\x02")
    spoiled = ((10, 77, "compression"), (6, 200, "version 20"), (8, 1, "encrypted|password"))
    for offset, value, message in spoiled:
        raw = bytearray(whole)
        raw[entry + offset] = value
        path.write_bytes(raw)
        with pytest.raises(QuantizationError, match=message):
            read(path)
    with pytest.raises(QuantizationError, match="File name too long"):
        read(tmp_path / ("x" * 300 + ".npz"))


def test_labels(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([1, 0, 1]))
    path = npz(tmp_path / "y.npz", y=buffer.getvalue())
    found = find_labels(path, tmp_path / "x.npz", None, 3)
    assert found is not None and found.tolist() == [1, 0, 1]
    npz(path, y=buffer.getvalue()[:-1])
    with pytest.raises(QuantizationError, match="damaged"):
        find_labels(path, tmp_path / "x.npz", None, 3)
    npz(path, y=npy((), b"1234"))
    with pytest.raises(QuantizationError, match="is one number; give one per sample"):
        find_labels(path, tmp_path / "x.npz", None, 3)
