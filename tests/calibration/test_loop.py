"""The calibration loop: ranges from one pass over the samples, whatever brings them."""

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact
from keras import layers
from parameters import slow

from quantkeras.api import quantize
from quantkeras.calibration import calibrate
from quantkeras.errors import QuantizationError
from quantkeras.qmodel.views import float_view

X = np.random.default_rng(11).normal(size=(40, 6, 6, 3)).astype(np.float32)


def network():
    keras.utils.set_random_seed(5)
    image = keras.Input((6, 6, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="a")(image)
    y = layers.Conv2D(4, 1, name="b")(x)
    x = layers.Add(name="sum")([x, y])
    x = layers.AveragePooling2D(3, name="pool")(x)
    return keras.Model(image, layers.Dense(3, name="head")(layers.Flatten()(x)))


def test_the_float_meaning_is_the_float_model():
    """Filling ranges moves factors between layers and changes no function."""
    model = network()
    quantized = quantize(model, samples=X)
    wanted, found = as_numpy(model(X)), as_numpy(float_view(quantized)(X))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def test_ranges_hold_what_was_seen():
    quantized = quantize(network(), samples=X)
    for name in ("a", "b", "sum"):
        layer = quantized.get_layer(name)
        values = as_numpy(float_view(quantized, [name])(X))
        values = values[0] if isinstance(values, list) else values
        quantizer = layer.output_quantizer
        limit = as_numpy(quantizer.lsb()) * (quantizer.qmax + 1)
        assert (np.abs(values).max(axis=(0, 1, 2)) <= limit * 1.0001).all()


@pytest.mark.parametrize("kind", slow("array", "dict", "list", "generator", "function", "dataset"))
def test_samples_in_any_form_give_the_same_ranges(kind):
    tf = pytest.importorskip("tensorflow")
    batches = [X[i : i + 10] for i in range(0, 40, 10)]
    samples = {
        "array": X,
        "dict": {"image": X},
        "list": [X],
        "generator": (batch for batch in batches),
        "function": lambda: iter(batches),
        "dataset": tf.data.Dataset.from_tensor_slices(X).batch(10),
    }[kind]
    wanted = quantize(network(), samples=X).get_weights()
    found = quantize(network(), samples=samples, num_samples=40).get_weights()
    for a, b in zip(wanted, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize(
    "observer", ["mse", *slow("minmax", "moving_average", "percentile:99", "sqnr")]
)
def test_every_observer_gives_an_exact_model(observer):
    quantized = quantize(network(), samples=X, observer=observer)
    assert_exact(quantized, X, graph=False)


@pytest.mark.slow
def test_an_observer_per_layer():
    narrow = quantize(network(), samples=X, observer={"sum": "percentile:60"})
    wide = quantize(network(), samples=X)
    ranges = [as_numpy(q.get_layer("sum").output_quantizer.log2_range) for q in (narrow, wide)]
    assert (ranges[0] <= ranges[1]).all() and (ranges[0] < ranges[1]).any()


@pytest.mark.slow
def test_calibrating_again_follows_new_data():
    quantized = quantize(network(), samples=X)
    before = quantized.predict(X[:4] * 8, verbose=0)
    calibrate(quantized, X * 8)
    after = quantized.predict(X[:4] * 8, verbose=0)
    wanted = network().predict(X[:4] * 8, verbose=0)
    assert np.abs(after - wanted).max() < 0.2 * np.abs(before - wanted).max()
    assert_exact(quantized, X * 8, graph=False)


@pytest.mark.slow
def test_calibrating_twice_on_the_same_data_changes_next_to_nothing():
    quantized = quantize(network(), samples=X)
    before = as_numpy(quantized(X))
    calibrate(quantized, X)
    after = as_numpy(quantized(X))
    assert np.abs(after - before).max() < 0.05 * np.abs(before).max()


def test_models_without_quantized_layers_are_refused():
    with pytest.raises(QuantizationError, match="no quantized layers to calibrate; call quantize"):
        calibrate(network(), X)


def test_bad_samples_are_refused():
    quantized = quantize(network(), samples=X)
    with pytest.raises(QuantizationError, match="image"):
        calibrate(quantized, X[:, :5])
    with pytest.raises(QuantizationError):
        calibrate(quantized, np.full_like(X, np.nan))
