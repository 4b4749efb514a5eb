"""Programs of strangers: whatever a file claims, it runs, or is refused in one sentence."""

import copy
import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_programs import conv_dense, two_by_two

from quantkeras.errors import ModelFileError, QuantizationError
from quantkeras.numerics import Format
from quantkeras.numerics.layer import LayerParams, LayerSpec
from quantkeras.numerics.layer_shapes import fixed_shape, output_shape
from quantkeras.numerics.layer_windows import Pool, Window
from quantkeras.runtime import Program, ProgramInput, ProgramLayer, execution, memory

Header = dict[str, Any]
Arrays = dict[str, bytes]


class Edited:
    """A file of `conv_dense` with something changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        conv_dense().save(path)
        with zipfile.ZipFile(path) as archive:
            self.header = json.loads(archive.read("program.json"))
            self.arrays = {
                name: archive.read(name) for name in archive.namelist() if name.endswith(".npy")
            }

    def put(self, owner: Header, field: str, values: Any) -> None:
        """An array of the file in a field."""
        array, buffer = np.asarray(values), io.BytesIO()
        np.save(buffer, array)
        self.arrays["new.npy"] = buffer.getvalue()
        about = {"dtype": array.dtype.name, "stored": array.dtype.name, "shape": [*array.shape]}
        self.header["arrays"]["new"] = about
        owner[field] = "new"

    def load(self) -> Program:
        with zipfile.ZipFile(self.path, "w") as archive:
            archive.writestr("program.json", json.dumps(self.header))
            for name, data in self.arrays.items():
                archive.writestr(name, data)
        return Program.load(self.path)


@pytest.fixture
def edited(tmp_path: Path) -> Edited:
    return Edited(tmp_path / "net.qkp")


def npy(shape: object) -> bytes:
    text = str({"descr": "|i1", "fortran_order": False, "shape": shape}).encode()
    text += b" " * ((64 - (len(text) + 11) % 64) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + b"\0" * 4


def test_what_is_not_changed_loads(edited: Edited) -> None:
    assert edited.load().outputs == ("scores",)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("inputs", 0, "format", "frac"), 10**30, "must be integers"),
        (("inputs", 0, "format", "frac"), 4.7, "must be integers, not float64"),
        (("inputs", 0, "format", "frac"), [1, 2, 3], r"frac of its format has the shape \(3,\)"),
        (("inputs", 0, "format", "bits"), 8.5, "cannot be interpreted as an integer"),
        (("inputs", 0, "format", "signed"), 1, "signed is 1, neither true nor false"),
        (("inputs", 0, "shape"), [2, 2, 1.0], r"shape is \(2, 2, 1.0\); whole numbers from 1"),
        (("inputs", 0, "shape"), [2**20, 2**20, 1], "a tensor of 1.1e\\+12 elements"),
        (("inputs", 0, "name"), 3, "name holds"),
        (("layers", 0, "spec", "window", "strides"), [0, 0], r"strides \(0, 0\)"),
        (("layers", 0, "spec", "window", "dilation"), [0, 0], r"dilation \(0, 0\)"),
        (("layers", 0, "spec", "window", "size"), [2.0, 2.0], "cannot be interpreted"),
        (("layers", 0, "spec", "window", "input_dilation"), [2**31, 1], "input dilation"),
        (("layers", 0, "spec", "window"), None, r"\(conv2d\) has no window"),
        (("layers", 1, "spec", "window"), {"size": [1, 1]}, r"\(flatten\) cannot have a window"),
        (("layers", 0, "spec", "relu"), "no", "relu is 'no', neither true nor false"),
        (("layers", 0, "spec", "groups"), 0, r"groups is \[0\]"),
        (("layers", 0, "spec", "pool"), {"kind": "zzz"}, "there is no pool 'zzz'"),
        (("layers", 0, "spec", "pool"), {"kind": "max"}, "a pool has a window, unless"),
        (("layers", 0, "params", "qmin"), "x", "qmin, qmax is"),
        (("layers", 0, "params", "qmax"), 10**400, "qmin, qmax is"),
        (("layers", 0, "params", "qmax"), -1, r"saturates to 0 \.\. -1"),
        (("layers", 0, "weight_bits"), -1, "weight_bits"),
        (("layers", 0, "source"), [3], "source holds"),
        (("layers", 0, "name"), [], "name holds"),
        (("outputs",), [3], "outputs holds"),
        (("float_tail",), [[1, 2, 3]], "float_tail holds"),
        (("name",), None, "name holds"),
        (("version",), -1, "its version is -1"),
        (("version",), True, "its version is True"),
        (("arrays", "array_0", "shape"), [2**40], "arrays would take .* from a file of"),
        (("arrays", "array_0", "shape"), [-1], "an array of shape"),
        (("arrays", "array_0", "dtype"), "object", "an array of 'object'"),
        (("arrays", "array_0", "stored"), "complex64", "stored as 'complex64'"),
    ],
)
def test_fields(edited: Edited, place: tuple[Any, ...], value: Any, message: str) -> None:
    owner: Any = edited.header
    for step in place[:-1]:
        owner = owner[step]
    owner[place[-1]] = value
    with pytest.raises(ModelFileError, match=message):
        edited.load()


@pytest.mark.parametrize(
    ("layer", "field", "values", "message"),
    [
        (0, "bias", np.ones(3, int), r"bias has the shape \(3,\), which does not fit \(1,\)"),
        (0, "bias", np.ones(1), "bias is of float64, not whole numbers"),
        (0, "shift", np.full(1, np.nan), "shift is of float64"),
        (0, "shift", np.full(1, 2**31), "shift in .*; -62 to 1023 can be"),
        (0, "scale", np.full(1, -1), "scale in"),
        (0, "max_value", np.full(1, -1), "max_value in"),
        (0, "weights", np.full((2, 2, 1, 1), 0.5, np.float32), "weights is of float32"),
        (0, "weights", np.full((2, 2, 1, 1), 2**40), "weights in"),
        (0, "weights", np.ones(4, int), r"weights of shape \(4,\)"),
        (0, "bias_shift", np.full(1, 63), "bias_shift in .*; 0 to 62"),
        (0, "pad_value", np.ones(2, int), "pad_value has the shape"),
        (2, "scale", np.full(2, 2**63, np.uint64), "both scale and shift"),
    ],
)
def test_numbers_of_a_layer(edited: Edited, layer: int, field: str, values: Any, message) -> None:
    edited.put(edited.header["layers"][layer]["params"], field, values)
    with pytest.raises(ModelFileError, match=message):
        edited.load()


def test_numbers_outside_the_layers(edited: Edited) -> None:
    for owner, field, values, message in (
        ("layers", "output_scale", np.full(2, np.nan, np.float32), "output_scale is NaN"),
        ("inputs", "scale", np.ones((2, 2), np.float32), "scale has the shape"),
        ("inputs", "scale", np.ones(1, int), "scale is of int64, not floats"),
        ("inputs", "offset", np.full(1, np.inf, np.float32), "offset is NaN or infinite"),
    ):
        changed = copy.copy(edited)
        changed.header = copy.deepcopy(edited.header)
        changed.put(changed.header[owner][-1], field, values)
        with pytest.raises(ModelFileError, match=message):
            changed.load()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npy((2**40,)), r"an array of int8 \(1099511627776,\) in place of"),
        (npy((2**70,)), "it claims an array of shape"),
        (npy((-1,)), "it claims an array of shape"),
        (npy((4,)).replace(b"}", b"("), "the header of its array is damaged"),
        (npy((4,)).replace(b"\x01\x00", b"\x02\x00", 1), "an array of format"),
        (b"", "magic string"),
    ],
)
def test_entries_that_claim_too_much(edited: Edited, data: bytes, message: str) -> None:
    edited.arrays["array_0.npy"] = data
    with pytest.raises(ModelFileError, match=message):
        edited.load()


def test_an_entry_of_more_bytes_than_its_array(edited: Edited) -> None:
    edited.arrays["array_0.npy"] += b"\0"
    with pytest.raises(ModelFileError, match="does not hold"):
        edited.load()


def test_a_header_that_unpacks_to_gigabytes(edited: Edited) -> None:
    with zipfile.ZipFile(edited.path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("program.json", b" " * (2**25 + 1))
    with pytest.raises(ModelFileError, match="program.json unpacks to more than"):
        Program.load(edited.path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 77])
def test_other_compressions(edited: Edited, method: int) -> None:
    edited.load()
    with zipfile.ZipFile(edited.path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(edited.path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data, zipfile.ZIP_BZIP2 if method == 77 else method)
    if method == 77:
        raw = bytearray(edited.path.read_bytes())
        raw[raw.index(b"PK\x01\x02") + 10] = 77
        edited.path.write_bytes(raw)
    with pytest.raises(ModelFileError, match=f"compressed by method {method}|compression"):
        Program.load(edited.path)


def test_deeply_nested_headers(edited: Edited) -> None:
    with zipfile.ZipFile(edited.path, "w") as archive:
        archive.writestr("program.json", "[" * 100_000)
    with pytest.raises(ModelFileError, match="damaged: RecursionError"):
        Program.load(edited.path)


def test_names_that_are_no_file(tmp_path: Path) -> None:
    for name, message in (("x" * 300, "cannot be read: File name too long"), ("", "no file")):
        with pytest.raises(ModelFileError, match=message):
            Program.load(tmp_path / name)


# -- what programs may ask for ----------------------------------------------------------------


def one_layer(spec: LayerSpec, shape: tuple[int, ...]) -> Program:
    fmt = Format(8, False, 0)
    out = fixed_shape(output_shape(spec, [shape], None))
    layer = ProgramLayer("y", spec, LayerParams(), ("x",), fmt, out)
    return Program((ProgramInput("x", shape, fmt),), (layer,), ("y",))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (LayerSpec("upsample", size=(2**20, 1)), "a tensor of"),
        (LayerSpec("upsample", size=(2**6, 2**6)), "a tensor of"),
        (LayerSpec("pad", pads=((2**28, 0), (0, 0))), "pads is|output_shape is"),
        (LayerSpec("pad", pads=((-1, 0), (0, 0))), "pads is"),
        (LayerSpec("identity", pool=Pool("max", Window((2**20, 1), padding="same"))), "a tensor"),
    ],
)
def test_layers_that_would_take_all_memory(spec: LayerSpec, message: str) -> None:
    with pytest.raises(QuantizationError, match=message):
        one_layer(spec, (16, 2**14, 4))


def test_averages_that_divide_by_too_much() -> None:
    window = Window((64, 64), padding="same")
    with pytest.raises(QuantizationError, match="divides by more than"):
        one_layer(LayerSpec("identity", pool=Pool("average", window)), (64, 64, 1))


def test_what_pools_see_takes_memory_by_the_map_and_not_by_the_window() -> None:
    pool = Pool("average", Window((2**20, 2**20), padding="same"))
    assert pool.counts((3, 2)).tolist() == [[6, 6]] * 3
    strided = Pool("average", Window((3, 2), (2, 3), ((2, 1), (0, 2)), (2, 1)))
    assert strided.counts((5, 6)).tolist() == [[4, 4, 0], [6, 6, 0]]


def test_samples_that_do_not_fit_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    program = two_by_two()
    x = [np.zeros((1, *entry.shape)) for entry in program.inputs]
    monkeypatch.setattr(execution, "available_memory", lambda: 100)
    with pytest.raises(QuantizationError, match="does not fit into the memory: a sample takes"):
        program.predict(x)
    monkeypatch.setattr(execution, "available_memory", lambda: None)

    def none_left(batch: object, keep: object) -> None:
        raise MemoryError

    monkeypatch.setattr(program.engine(), "run", none_left)
    with pytest.raises(QuantizationError, match="does not fit into the memory"):
        program.predict(x)


def test_the_memory_that_is_left() -> None:
    found = memory.available_memory()
    assert found is None or found > 2**20
