"""Programs in files: what is saved comes back, and every other file is refused clearly."""

import json
import os
import pickle
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from layer_cases import LayerCase, layer_cases
from small_programs import conv_dense, gated, one_layer, two_by_two

from quantkeras.errors import ModelFileError
from quantkeras.runtime import Program
from quantkeras.runtime.packing import pack, stored_type, unpack


def same(a: object, b: object) -> bool:
    """Whether two values, arrays included, agree in content, type and shape."""
    if isinstance(a, np.ndarray | np.generic):
        b = np.asarray(b)
        return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_same_program(a: Program, b: Program) -> None:
    assert (a.name, a.outputs, a.float_tail) == (b.name, b.outputs, b.float_tail)
    for one, other in [
        *zip(a.inputs, b.inputs, strict=True),
        *zip(a.layers, b.layers, strict=True),
    ]:
        for field in fields(one):
            if field.name != "params":
                assert same(getattr(one, field.name), getattr(other, field.name)), field.name
    for one, other in zip(a.layers, b.layers, strict=True):
        for field in fields(one.params):
            mine, loaded = getattr(one.params, field.name), getattr(other.params, field.name)
            assert same(mine, loaded), (one.name, field.name)


@pytest.mark.parametrize("make", [conv_dense, two_by_two, gated])
def test_load_gives_what_was_saved(make, tmp_path: Path) -> None:
    program = make()
    path = tmp_path / "net.qkp"
    program.save(path)
    assert_same_program(program, Program.load(path))
    assert os.listdir(tmp_path) == ["net.qkp"]


@given(layer_cases())
def test_any_layer_survives(tmp_path_factory: pytest.TempPathFactory, case: LayerCase) -> None:
    program = one_layer(case)
    path = tmp_path_factory.mktemp("any") / "net.qkp"
    program.save(str(path))
    loaded = Program.load(str(path))
    assert_same_program(program, loaded)
    expected = program.run_integers(case.inputs, quantized=True)
    assert np.array_equal(loaded.run_integers(case.inputs, quantized=True), expected)


def test_input_scales_survive(tmp_path: Path) -> None:
    program = conv_dense()
    entry = replace(program.inputs[0], scale=np.array([1 / 255], np.float32))
    scaled = Program((entry,), program.layers, program.outputs)
    scaled.save(tmp_path / "net.qkp")
    assert_same_program(scaled, Program.load(tmp_path / "net.qkp"))


def test_the_same_program_gives_the_same_bytes(tmp_path: Path) -> None:
    conv_dense().save(tmp_path / "a.qkp")
    conv_dense().save(tmp_path / "b.qkp")
    assert (tmp_path / "a.qkp").read_bytes() == (tmp_path / "b.qkp").read_bytes()


def test_weights_are_packed_and_equal_arrays_are_written_once(tmp_path: Path) -> None:
    program = conv_dense()
    conv = program["conv"]
    twin = replace(conv, name="twin")
    path = tmp_path / "net.qkp"
    Program(program.inputs, (*program.layers, twin), ("scores", "twin")).save(path)
    with zipfile.ZipFile(path) as archive:
        header = json.loads(archive.read("program.json"))
        first, second = (
            next(layer for layer in header["layers"] if layer["name"] == name)
            for name in ("conv", "twin")
        )
        assert first["params"] == second["params"]
        entry = first["params"]["weights"]
        assert header["arrays"][entry]["stored"] == "int4"
        with archive.open(f"{entry}.npy") as file:
            assert np.load(file).tolist() == [0x01 | 0x0E << 4, 0x03 | 0x04 << 4]
    loaded = Program.load(path)
    assert loaded["conv"].params.weights is loaded["twin"].params.weights


def test_tables_and_windows_are_stored_as_they_are(tmp_path: Path) -> None:
    program = gated()
    program.save(tmp_path / "net.qkp")
    loaded = Program.load(tmp_path / "net.qkp")
    assert loaded["up"].spec.window.input_dilation == (2, 2)
    assert loaded["up"].params.table.shape == (256, 2)
    assert loaded["turned"].spec.slices == ((5, None, -1), (3, None, -1), (0, None, 1))
    rng = np.random.default_rng(0)
    x = [rng.integers(-128, 128, (2, 3, 2, 2)), rng.integers(0, 256, (2, 1, 1, 2))]
    expected = program.run_integers(x, "all", engine="reference", quantized=True)
    for name, integers in loaded.run_integers(x, "all", quantized=True).items():
        assert np.array_equal(integers, expected[name])


def test_files_of_version_1_are_read(tmp_path: Path) -> None:
    def older(header: dict) -> None:
        header.update(version=1)
        for layer in header["layers"]:
            (layer["spec"].get("window") or {}).pop("input_dilation", None)

    rewritten(tmp_path / "net.qkp", older)
    assert_same_program(conv_dense(), Program.load(tmp_path / "net.qkp"))


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.qkp"
    conv_dense().save(path)
    before = path.read_bytes()

    def full_disk(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(ModelFileError, match="cannot be written: no space"):
        two_by_two().save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["net.qkp"]


# -- other files ------------------------------------------------------------------------------


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"there is no file .*net\.qkp"):
        Program.load(tmp_path / "net.qkp")


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n", pickle.dumps({"a": 1}), b"PK"])
def test_foreign_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.qkp"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="is no quantkeras program"):
        Program.load(path)


def test_foreign_archives(tmp_path: Path) -> None:
    np.savez(tmp_path / "net.npz", a=np.zeros(3))
    with pytest.raises(ModelFileError, match="zip archive, but no quantkeras program"):
        Program.load(tmp_path / "net.npz")
    with zipfile.ZipFile(tmp_path / "net.qkp", "w") as archive:
        archive.writestr("program.json", "{}")
    with pytest.raises(ModelFileError, match="is no quantkeras program"):
        Program.load(tmp_path / "net.qkp")


def test_files_cut_off_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "net.qkp"
    conv_dense().save(path)
    whole = path.read_bytes()
    for size in range(4, len(whole), 37):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFileError, match="truncated or damaged"):
            Program.load(path)


def test_flipped_bytes_never_give_another_program(tmp_path: Path) -> None:
    path = tmp_path / "net.qkp"
    program = conv_dense()
    program.save(path)
    whole = path.read_bytes()
    for position in range(0, len(whole), 11):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        try:
            loaded = Program.load(path)
        except ModelFileError:
            continue
        assert_same_program(program, loaded)  # a byte that means nothing, as a time stamp


def rewritten(path: Path, change) -> None:
    """Save `conv_dense` with a changed header."""
    conv_dense().save(path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(entries["program.json"])
    change(header)
    entries["program.json"] = json.dumps(header).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def test_newer_versions_say_what_to_do(tmp_path: Path) -> None:
    def newer(header: dict) -> None:
        header.update(version=99, written_by="quantkeras 9.9")

    rewritten(tmp_path / "net.qkp", newer)
    with pytest.raises(ModelFileError, match=r"version 99, written by quantkeras 9\.9.*upgrade"):
        Program.load(tmp_path / "net.qkp")


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.pop("layers"),
        lambda header: header["layers"][0].pop("spec"),
        lambda header: header["layers"][0]["spec"].update(kind="lstm"),
        lambda header: header["layers"][0]["spec"].update(colour="red"),
        lambda header: header["layers"][0].update(params=None),
        lambda header: header["layers"][0]["params"].update(weights="array_99"),
        lambda header: header["arrays"]["array_0"].update(shape=[7]),
        lambda header: header["arrays"]["array_1"].update(stored="float99"),
        lambda header: header["inputs"][0]["format"].update(bits=99),
        lambda header: header["layers"][0].update(inputs=["nobody"]),
        lambda header: header.update(version="one"),
    ],
)
def test_damaged_headers(tmp_path: Path, change) -> None:
    rewritten(tmp_path / "net.qkp", change)
    with pytest.raises(ModelFileError, match="is damaged"):
        Program.load(tmp_path / "net.qkp")


def test_no_pickle_is_read(tmp_path: Path) -> None:
    path = tmp_path / "net.qkp"
    conv_dense().save(path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            if name == "array_0.npy":
                with archive.open(name, "w") as file:
                    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
            else:
                archive.writestr(name, data)
    with pytest.raises(ModelFileError, match="is damaged: ValueError: Object arrays"):
        Program.load(path)


# -- packing ----------------------------------------------------------------------------------


@given(
    st.sampled_from(["int8", "uint8", "int16", "int32", "int64", "uint32", "uint64"]).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
    ),
    st.sampled_from([None, 8, 16]),
)
def test_packing_is_undone(values: np.ndarray, limit: int | None) -> None:
    if limit is not None:
        values = np.mod(values, limit).astype(values.dtype)
    stored = stored_type(values)
    data = pack(values, stored)
    again = unpack(data, stored, values.shape, values.dtype.name)
    assert same(values, again)
    assert data.nbytes <= max(values.nbytes, 1)


@pytest.mark.parametrize(
    ("low", "high", "stored"),
    [
        (0, 0, "int4"),
        (-8, 7, "int4"),
        (0, 15, "uint4"),
        (-9, 7, "int8"),
        (-1, 8, "int8"),
        (-128, 127, "int8"),
        (0, 255, "uint8"),
        (-129, 0, "int16"),
        (0, 65535, "uint16"),
        (-(2**31), 2**31 - 1, "int32"),
        (0, 2**32 - 1, "uint32"),
        (-1, 2**31, "int64"),
    ],
)
def test_the_narrowest_type_is_taken(low: int, high: int, stored: str) -> None:
    values = np.array([low, high])
    assert stored_type(values) == stored
    assert same(values, unpack(pack(values, stored), stored, (2,), "int64"))
