"""Model files of strangers: no other file is read, no bomb goes off, faults are sentences."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from quantkeras import load_model, quantize, save_model
from quantkeras.errors import ModelFileError

L = keras.layers


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with float.keras, float.h5 and quantized.keras of one small network."""
    folder = tmp_path_factory.mktemp("saved")
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 2))
    hidden = L.Conv2D(3, 3, activation="relu", name="conv")(inputs)
    hidden = L.MaxPooling2D(2, name="pool")(hidden)
    model = keras.Model(inputs, L.Dense(2, name="dense")(L.Flatten()(hidden)))
    save_model(model, folder / "float.keras")
    save_model(model, folder / "float.h5")
    x = np.random.default_rng(0).normal(size=(8, 6, 6, 2)).astype("float32")
    save_model(quantize(model, samples=x), folder / "quantized.keras")
    return folder


def keras2_file(path: Path, units: int = 3) -> h5py.Group:
    """The group of the layer `d` of an open Keras 2 file without its kernel."""
    layers = [
        {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "i"}},
        {"class_name": "Dense", "config": {"name": "d", "units": units, "use_bias": False}},
    ]
    network = {"class_name": "Sequential", "config": {"name": "s", "layers": layers}}
    file = h5py.File(path, "w")
    file.attrs["keras_version"] = "2.15.0"
    file.attrs["model_config"] = json.dumps(network)
    weights = file.create_group("model_weights")
    weights.attrs["layer_names"] = [b"d"]
    layer = weights.create_group("d")
    layer.attrs["weight_names"] = [b"d/kernel:0"]
    return layer


def test_weights_out_of_other_files(tmp_path: Path) -> None:
    secret, other, path = tmp_path / "secret", tmp_path / "other.h5", tmp_path / "net.h5"
    secret.write_bytes(b"s" * 48)
    with h5py.File(other, "w") as file:
        file["k"] = np.ones((4, 3), "float32")

    def external(layer: h5py.Group) -> None:
        layer.create_dataset("d/kernel:0", (4, 3), "f4", external=[(str(secret), 0, 48)])

    def virtual(layer: h5py.Group) -> None:
        layout = h5py.VirtualLayout((4, 3), "f4")
        layout[...] = h5py.VirtualSource(str(other), "k", (4, 3))
        layer.create_virtual_dataset("d/kernel:0", layout)

    def link(layer: h5py.Group) -> None:
        layer["d/kernel:0"] = h5py.ExternalLink(str(other), "k")

    def soft(layer: h5py.Group) -> None:
        layer["d/kernel:0"] = h5py.SoftLink("/elsewhere")

    for spoil, message in (
        (external, "lie in another file"),
        (virtual, "lie in another file"),
        (link, "is a link"),
        (soft, "is a link"),
    ):
        layer = keras2_file(path)
        spoil(layer)
        layer.file.close()
        with pytest.raises(ModelFileError, match=message):
            load_model(path)


def test_a_group_that_holds_itself(tmp_path: Path) -> None:
    layer = keras2_file(tmp_path / "net.h5")
    layer["d/kernel:0"] = np.ones((4, 3), "float32")
    layer["d/again"] = layer
    layer.file.close()
    assert load_model(tmp_path / "net.h5").output_shape == (None, 3)


def test_weights_that_are_claimed_only(tmp_path: Path) -> None:
    layer = keras2_file(tmp_path / "net.h5", 2**36)
    layer.create_dataset("d/kernel:0", (4, 2**36), "f4", chunks=(4, 1024))
    layer.file.close()
    with pytest.raises(ModelFileError, match="claims .* bytes of weights"):
        load_model(tmp_path / "net.h5")


def test_layers_that_ask_for_too_many_weights(tmp_path: Path, saved: Path) -> None:
    layer = keras2_file(tmp_path / "net.h5", 2**36)
    layer["d/kernel:0"] = np.ones((4, 3), "float32")
    layer.file.close()
    before = L.Layer.add_weight
    with pytest.raises(ModelFileError, match="layer 'd' asks for weights of shape"):
        load_model(tmp_path / "net.h5")
    assert L.Layer.add_weight is before

    def huge(config: dict[str, Any]) -> None:
        layer_config(config, "dense")["units"] = 2**36

    with pytest.raises(ModelFileError, match="layer 'dense' asks for weights of shape"):
        load_model(reconfigured(saved / "float.keras", tmp_path, huge))


def layer_config(config: dict[str, Any], name: str) -> dict[str, Any]:
    return next(e["config"] for e in config["config"]["layers"] if e["config"]["name"] == name)


def rezipped(source: Path, folder: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A copy of an archive with its members changed."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(folder / "net.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return folder / "net.keras"


def reconfigured(source: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    def apply(members: dict[str, bytes]) -> None:
        config = json.loads(members["config.json"])
        change(config)
        members["config.json"] = json.dumps(config).encode()

    return rezipped(source, folder, apply)


@pytest.mark.parametrize(
    "metadata", [b"[]", b"null", b'{"keras_version": 3}', b"[" * 100_000, b"\xff"]
)
def test_metadata(saved: Path, tmp_path: Path, metadata: bytes) -> None:
    path = rezipped(
        saved / "float.keras", tmp_path, lambda members: members.update({"metadata.json": metadata})
    )
    with pytest.raises(ModelFileError, match="is damaged"):
        load_model(path)


def test_archives_that_unpack_to_gigabytes(saved: Path, tmp_path: Path) -> None:
    path = rezipped(saved / "float.keras", tmp_path, lambda members: None)
    raw = bytearray(path.read_bytes())
    entry = raw.index(b"PK\x01\x02")
    raw[entry + 24 : entry + 28] = (2**31).to_bytes(4, "little")  # the claimed size
    path.write_bytes(raw)
    with pytest.raises(ModelFileError, match="unpacks to far more than its size allows"):
        load_model(path)


def test_a_compression_that_nobody_knows(saved: Path, tmp_path: Path) -> None:
    raw = bytearray((saved / "float.keras").read_bytes())
    raw[raw.index(b"PK\x01\x02") + 10] = 77
    raw[raw.index(b"PK\x03\x04") + 8] = 77
    (tmp_path / "net.keras").write_bytes(raw)
    with pytest.raises(ModelFileError, match="compression"):
        load_model(tmp_path / "net.keras")


@pytest.mark.parametrize("size", [[2**31, 1], [2**31, 2**31], [0, 0], ["x", 1]])
def test_pools_of_a_quantized_layer(saved: Path, tmp_path: Path, size: list[Any]) -> None:
    found: list[dict[str, Any]] = []

    def widen(config: dict[str, Any]) -> None:
        for entry in config["config"]["layers"]:
            if entry["config"].get("pool"):
                entry["config"]["pool"]["window"]["size"] = size
                found.append(entry)

    path = reconfigured(saved / "quantized.keras", tmp_path, widen)
    assert found
    with pytest.raises(ModelFileError, match="cannot be loaded"):
        load_model(path)


def test_a_torch_module(saved: Path, tmp_path: Path) -> None:
    def wrap(config: dict[str, Any]) -> None:
        entry = next(e for e in config["config"]["layers"] if e["config"]["name"] == "pool")
        entry.update(class_name="TorchModuleWrapper", module="keras.layers", registered_name=None)
        entry["config"] = {"name": "pool", "module": "eA=="}

    with pytest.raises(ModelFileError, match="cannot be loaded"):
        load_model(reconfigured(saved / "float.keras", tmp_path, wrap))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 20_000 + "1" + "}" * 20_000, "[]", "3"])
def test_descriptions_in_hdf5(saved: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "net.h5"
    shutil.copy(saved / "float.h5", path)
    with h5py.File(path, "r+") as file:
        del file.attrs["model_config"]
        file.attrs["model_config"] = text
    with pytest.raises(ModelFileError, match="is damaged"):
        load_model(path)


@pytest.mark.parametrize("config", [[], {"class_name": "Functional"}, {"config": 3}, {"a": 1}])
def test_descriptions_of_keras_3(saved: Path, tmp_path: Path, config: Any) -> None:
    path = rezipped(
        saved / "float.keras",
        tmp_path,
        lambda members: members.update({"config.json": json.dumps(config).encode()}),
    )
    with pytest.raises(ModelFileError, match="cannot be loaded"):
        load_model(path)


def test_lambdas_are_code_and_refused(saved: Path, tmp_path: Path) -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, L.Lambda(lambda x: x + 1)(inputs))
    save_model(model, tmp_path / "net.keras")
    with pytest.raises(ModelFileError, match="safe_mode=False"):
        load_model(tmp_path / "net.keras")
    assert load_model(tmp_path / "net.keras", safe_mode=False).output_shape == (None, 4)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "net.tflite").write_bytes(b"\x1c\0\0\0TFL3" + b"\0" * 20)
    with pytest.raises(ModelFileError, match="is a TFLite model, which is not read"):
        load_model(tmp_path / "net.tflite")
    with pytest.raises(ModelFileError, match="File name too long"):
        load_model(tmp_path / ("x" * 300))
