"""Networks saved by Keras 2: each loads, computes what Keras 2 computed, and saves in Keras 3.

The files are small and made by fixtures/keras2/make_fixtures.py; the expected outputs come from
Keras 2 itself.
"""

import json
from functools import cache
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from parameters import slow

from quantkeras.files.model_files import ModelFileError, load_model, save_model

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "keras2"
NETWORKS = sorted(path.stem for path in FOLDER.glob("*.h5") if path.stem != "unsupported")
#: Of layers that others have, too.
ALIKE = ("hard_swish", "mobilenet", "residual_functions", "sequence", "transfer_learning")


def outputs(model, x):
    """All outputs of the model at inference, in order."""
    named = [tensor.name for tensor in model.inputs] == ["image"]
    found = model({"image": x} if named else x, training=False)
    return [np.asarray(y) for y in keras.tree.flatten(found)]


def expected(name):
    arrays = np.load(FOLDER / f"{name}.npz")
    return arrays["x"], [arrays[f"y{i}"] for i in range(len(arrays.files) - 1)]


def flat_layers(model):
    """The layers of a model and of all models inside it."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from flat_layers(layer)


@cache
def loaded(name):
    """The network; leave it as it is."""
    return load_model(FOLDER / f"{name}.h5")


def test_all_networks_are_here():
    assert len(NETWORKS) == 15


@pytest.mark.parametrize(
    "name",
    [*(name for name in NETWORKS if name not in ALIKE), *slow(*ALIKE)],
)
def test_computes_what_keras2_computed(name):
    before = (FOLDER / f"{name}.h5").read_bytes()
    model = loaded(name)
    x, wanted = expected(name)
    found = outputs(model, x)
    assert len(found) == len(wanted)
    for y, reference in zip(found, wanted, strict=True):
        assert y.std() > 0.01, "a constant output would prove nothing"
        np.testing.assert_allclose(y, reference, rtol=1e-5, atol=2e-6)
    assert (FOLDER / f"{name}.h5").read_bytes() == before


@pytest.mark.parametrize("name", NETWORKS)
def test_consists_of_layers_of_keras_3(name):
    ours = ("Slice", "OperationLayer", "CustomScaleLayer")
    model = loaded(name)
    for layer in flat_layers(model):
        known = getattr(keras.layers, type(layer).__name__, getattr(keras, type(layer).__name__, 0))
        is_model = isinstance(layer, keras.Model)
        assert type(layer) is known or is_model or type(layer).__name__ in ours, layer


@pytest.mark.parametrize("suffix", [".keras", *slow(".h5")])
@pytest.mark.parametrize(
    "name",
    [
        "movement_functions",
        "sync_batchnorm",
        *slow("arithmetic", "branches", "old_layers", "pieces", "transfer_learning"),
    ],
)
def test_saves_again(name, suffix, tmp_path):
    model = load_model(FOLDER / f"{name}.h5")
    x, _ = expected(name)
    again = load_model(save_model(model, tmp_path / f"again{suffix}"))
    for y, reference in zip(outputs(again, x), outputs(model, x), strict=True):
        np.testing.assert_array_equal(y, reference)


def test_predict_takes_a_bare_array_without_a_warning():
    x, (wanted,) = expected("mobilenet")
    found = load_model(FOLDER / "mobilenet.h5").predict(x, verbose=0)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-6)


def test_what_has_no_equivalent_is_named_all_at_once():
    with pytest.raises(ModelFileError, match=r"2 layer\(s\).*linalg.inv.*silu.*ONNX") as caught:
        load_model(FOLDER / "unsupported.h5")
    assert str(FOLDER / "unsupported.h5") in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "weights"), [("resnet8", 78_666), ("kws_ref_model", 24_908), ("ad01", 269_992)]
)
def test_reference_networks_load(shared_dir, name, weights):
    model = load_model(shared_dir / "models" / f"{name}.h5")
    assert model.count_params() == weights
    y = model.predict(np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])), verbose=0)
    assert np.isfinite(y).all() and y.std() > 0


def test_python_code_in_the_file_needs_trust(tmp_path):
    """A Lambda layer as Keras 2 wrote it: marshalled byte code in base 64."""
    layers = [
        {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 3], "name": "in"}},
        {"class_name": "Lambda", "config": {"name": "f", "function": ["4wEAAAA=\n", None, None]}},
    ]
    config = {"class_name": "Sequential", "config": {"name": "net", "layers": layers}}
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.attrs.update(model_config=json.dumps(config), keras_version="2.15.0")
        file.create_group("model_weights").attrs["layer_names"] = [b"in", b"f"]
    with pytest.raises(ModelFileError, match="Lambda layer.*if you trust.*safe_mode=False"):
        load_model(tmp_path / "net.h5")
