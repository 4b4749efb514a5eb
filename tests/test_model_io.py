"""Loading and saving: what goes in comes out; interrupted saves cost nothing; errors are short."""

import json
import logging
import zipfile

import h5py
import keras
import numpy as np
import pytest
from parameters import slow

from quantkeras.files.model_files import ModelFileError, load_model, save_model

BOTH = pytest.mark.parametrize("suffix", [".keras", ".h5"])


@pytest.fixture
def model():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((5, 5, 2))
    x = keras.layers.Conv2D(3, 2, activation="relu")(inputs)
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))


def predict(model):
    x = np.linspace(-1, 1, 3 * 50, dtype=np.float32).reshape(3, 5, 5, 2)
    return np.asarray(model(x))


@pytest.mark.parametrize("suffix", [".keras", *slow(".h5")])
def test_round_trip(model, suffix, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        path = save_model(model, tmp_path / f"net{suffix}")
    assert not caplog.records
    np.testing.assert_array_equal(predict(load_model(path)), predict(model))
    np.testing.assert_array_equal(predict(load_model(str(path))), predict(model))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_optimizer_survives_in_keras_even_after_saving_as_h5(model, tmp_path):
    model.compile(keras.optimizers.SGD(0.125), "mse")
    save_model(model, tmp_path / "net.h5")
    save_model(model, tmp_path / "net.keras")
    assert not load_model(tmp_path / "net.keras").compiled
    again = load_model(tmp_path / "net.keras", compile=True)
    assert isinstance(again.optimizer, keras.optimizers.SGD)
    assert float(again.optimizer.learning_rate) == 0.125


@BOTH
@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError, OSError])
def test_an_interrupted_save_leaves_the_old_file(model, suffix, fault, tmp_path, monkeypatch):
    path = save_model(model, tmp_path / f"net{suffix}")
    before = path.read_bytes()
    other = keras.models.clone_model(model)

    def half_way(target, **kwargs):
        target.write_bytes(before[: len(before) // 2])
        raise fault("interrupted")

    monkeypatch.setattr(other, "save", half_way)
    with pytest.raises(ModelFileError if fault is OSError else fault, match="interrupted"):
        save_model(other, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_link_stays_a_link(model, tmp_path):
    (tmp_path / "real").mkdir()
    real = save_model(model, tmp_path / "real" / "net.h5")
    link = tmp_path / "link.h5"
    link.symlink_to(real)
    model.layers[-1].set_weights([w + 1 for w in model.layers[-1].get_weights()])
    save_model(model, link)
    assert link.is_symlink()
    np.testing.assert_array_equal(predict(load_model(real)), predict(model))


def test_unusable_targets(model, tmp_path):
    with pytest.raises(ModelFileError, match=r"net.onnx: a model file is named \*.keras or \*.h5"):
        save_model(model, tmp_path / "net.onnx")
    with pytest.raises(ModelFileError, match="cannot be written: No such file or directory"):
        save_model(model, tmp_path / "absent" / "net.h5")
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(ModelFileError, match="is a folder"):
        save_model(model, tmp_path / "folder.h5")
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelFileError, match="cannot be written: Not a directory"):
        save_model(model, tmp_path / "file" / "net.h5")


def test_h5_refuses_what_could_not_be_loaded_again(model, tmp_path):
    inputs = keras.Input((4,))
    bare = keras.Model(inputs, keras.ops.relu(inputs))
    nested = keras.Sequential([keras.Input((4,)), bare])
    for network in (bare, nested):
        with pytest.raises(ModelFileError, match=r"without a layer \(.*relu.*\).*\.keras"):
            save_model(network, tmp_path / "net.h5")
        save_model(network, tmp_path / "net.keras")

    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ModelFileError, match=r"subclassed .* \.keras only"):
        save_model(Own(), tmp_path / "net.h5")
    assert not (tmp_path / "net.h5").exists()


def foreign_files():
    return {
        "empty.h5": (b"", "is empty"),
        "image.h5": (b"\x89PNG\r\n\x1a\n" + bytes(40), "seems to be a PNG image"),
        "text.keras": (b"hello, world", "begins like neither HDF5"),
        "net.onnx": (b"\x08\x08\x12\x07pytorch", "it has no graph"),
        "broken.keras": (b"PK\x03\x04" + bytes(40), "damaged or incomplete"),
        "broken.h5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "damaged or incomplete"),
    }


@pytest.mark.parametrize("name", foreign_files())
def test_foreign_files(name, tmp_path):
    content, message = foreign_files()[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFileError, match=message) as caught:
        load_model(tmp_path / name)
    assert name in str(caught.value) and len(str(caught.value)) < 400 + len(str(tmp_path))


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(ModelFileError, match=r"absent.h5 does not exist"):
        load_model(tmp_path / "absent.h5")
    with pytest.raises(ModelFileError, match="is a folder"):
        load_model(tmp_path)


@BOTH
@pytest.mark.parametrize("part", [0.2, 0.5, 0.98])
def test_truncated_files(model, suffix, part, tmp_path):
    path = save_model(model, tmp_path / f"net{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ModelFileError, match="damaged or incomplete"):
        load_model(path)


def test_archives_that_are_no_models(model, tmp_path):
    path = tmp_path / "net.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ModelFileError, match=r"no Keras model: config.json, .* missing"):
        load_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", "")
        archive.writestr("metadata.json", json.dumps({"keras_version": "2.15.0"}))
    with pytest.raises(ModelFileError, match=r"Keras 2.15.0, which Keras 3 cannot read; .* \.h5"):
        load_model(path)


def test_hdf5_files_that_are_no_models(model, tmp_path):
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.ones(3)
    with pytest.raises(ModelFileError, match="holds no Keras model"):
        load_model(path)
    model.save_weights(tmp_path / "net.weights.h5")
    with pytest.raises(ModelFileError, match="weights without their network"):
        load_model(tmp_path / "net.weights.h5")


def test_weights_that_do_not_fit_the_network(model, tmp_path):
    path = save_model(model, tmp_path / "net.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace('"units": 2', '"units": 3')
    with pytest.raises(ModelFileError, match=r"cannot be loaded: Shape mismatch"):
        load_model(path)


def test_a_file_under_the_wrong_name(model, tmp_path):
    path = save_model(model, tmp_path / "net.h5").rename(tmp_path / "net.keras")
    with pytest.raises(ModelFileError, match=r"holds a .h5 model; rename it to \*.h5"):
        load_model(path)


@BOTH
def test_lambda_layers_need_trust(suffix, tmp_path):
    inputs = keras.Input((3,))
    doubled = keras.layers.Lambda(lambda x: 2 * x, output_shape=(3,))(inputs)
    path = save_model(keras.Model(inputs, doubled), tmp_path / f"net{suffix}")
    with pytest.raises(ModelFileError, match="Lambda layer.*if you trust.*safe_mode=False"):
        load_model(path)
    x = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(np.asarray(load_model(path, safe_mode=False)(x)), 2 * x)


@BOTH
def test_custom_layers(suffix, tmp_path):
    class Twice(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    inputs = keras.Input((3,))
    path = save_model(keras.Model(inputs, Twice()(inputs)), tmp_path / f"net{suffix}")
    with pytest.raises(ModelFileError, match=r"Twice.*register_keras_serializable.*custom_objects"):
        load_model(path)
    x = np.ones((1, 3), np.float32)
    found = np.asarray(load_model(path, custom_objects={"Twice": Twice})(x))
    np.testing.assert_array_equal(found, 2 * x)
