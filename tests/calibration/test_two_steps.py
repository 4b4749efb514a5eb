"""Quantizing without samples and calibrating afterwards, and calibrating again as before."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from parameters import slow

import quantkeras as qk
from quantkeras.layers import Dequantizer
from quantkeras.quantization.params import LayerOverride

layers = keras.layers

NO_SAMPLES = "ignore:No samples were given"


def pixels_network() -> keras.Model:
    """Takes pixels of 0..255."""
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1.0)(image)
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(x)
    x = layers.Conv2D(4, 3, activation="relu", name="other")(x)
    return keras.Model(image, layers.Dense(3, name="head")(layers.Flatten(name="flat")(x)))


def table_network() -> keras.Model:
    """Takes six features."""
    keras.utils.set_random_seed(0)
    features = keras.Input((6,), name="features")
    x = layers.Dense(8, activation="swish", name="hidden")(features)
    return keras.Model(features, layers.Dense(3, name="head")(x))


def normalized(samples: np.ndarray, head: keras.layers.Layer) -> keras.Model:
    """Takes such samples, and standardizes them first."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(samples.shape[1:], name="features")
    normalization = layers.Normalization()
    normalization.adapt(samples)
    return keras.Model(inputs, head(normalization(inputs)))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Raw images, uint8."""
    return np.random.default_rng(0).integers(0, 256, (12, 6, 6, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    """Features of both signs."""
    return np.random.default_rng(1).normal(size=(40, 6)).astype(np.float32)


def assert_same_program(one: qk.Program, other: qk.Program, samples: np.ndarray) -> None:
    """All tensors of both hold the same integers, and so do their weights."""
    kept, found = one.run_integers(samples, keep="all"), other.run_integers(samples, keep="all")
    assert kept.keys() == found.keys()
    for name in kept:
        np.testing.assert_array_equal(kept[name], found[name], err_msg=name)
    for wanted, got in zip(one.layers, other.layers, strict=True):
        np.testing.assert_array_equal(wanted.params.weights, got.params.weights)
        np.testing.assert_array_equal(wanted.params.bias, got.params.bias)
        np.testing.assert_array_equal(wanted.params.scale, got.params.scale)


@pytest.mark.filterwarnings(NO_SAMPLES)
@pytest.mark.parametrize("kind", ["unlike", *slow("uint8", "float32", "features", "maps")])
def test_two_steps_give_what_one_gives(kind, pixels, features, tmp_path) -> None:
    model = pixels_network() if kind in ("uint8", "float32") else table_network()
    samples = pixels.astype(kind) if kind in ("uint8", "float32") else features
    if kind == "unlike":  # a scale for each channel, and a normalization that undoes it
        samples = features * np.float32([1, 64, 1024, 1, 0.01, 3])
        model = normalized(samples, layers.Dense(3, name="head"))
    elif kind == "maps":
        samples = features.reshape(10, 2, 2, 6)[..., :3] * np.float32([1, 64, 500])
        model = normalized(samples, layers.Conv2D(3, 2, padding="same", name="head"))
    program = qk.convert(qk.quantize(model, samples=samples))
    # through a file: what is yet to be decided is known there, too
    later = qk.load_model(qk.save_model(qk.quantize(model, num_samples=8), tmp_path / "q.keras"))
    qk.calibrate(later, samples)
    found = qk.convert(later)
    assert found.inputs[0].takes_integers == (kind == "uint8")
    assert_same_program(program, found, samples)
    assert qk.verify(later, found, samples).exact
    again = qk.load_model(qk.save_model(later, tmp_path / "q.h5"))
    assert_same_program(program, qk.convert(again), samples)


@pytest.mark.filterwarnings(NO_SAMPLES)
def test_without_samples_inputs_stay_floats(pixels) -> None:
    quantized = qk.quantize(pixels_network(), num_samples=8)
    assert not quantized.get_layer("image_quantizer").integer_input
    wanted = np.asarray(pixels_network()(pixels.astype(np.float32)))
    error = np.asarray(quantized(pixels.astype(np.float32))) - wanted
    assert np.abs(error).max() < 0.2 * np.abs(wanted).max()


@pytest.mark.slow
@pytest.mark.filterwarnings(NO_SAMPLES)
def test_integers_that_were_asked_for_stay(pixels) -> None:
    params = qk.QuantizationParams(input_dtype="uint8")
    quantized = qk.quantize(pixels_network(), params, num_samples=8)
    assert qk.convert(quantized).inputs[0].takes_integers
    program = qk.convert(qk.calibrate(quantized, pixels.astype(np.float32)))
    wanted = qk.convert(qk.quantize(pixels_network(), params, samples=pixels))
    assert_same_program(wanted, program, pixels)


def ranges(model: keras.Model) -> dict[str, np.ndarray]:
    """log2 of each range in the float model's units, by layer."""
    found = {}
    for layer in model.layers:
        quantizer = getattr(layer, "output_quantizer", None) or layer
        if hasattr(quantizer, "log2_range"):
            found[layer.name] = np.asarray(quantizer.log2_range) - np.log2(quantizer.ratio)
    return found


@pytest.mark.parametrize("suffix", [".keras", *slow(".h5")])
def test_calibrating_again_keeps_what_was_chosen(suffix, features, tmp_path) -> None:
    params = qk.QuantizationParams(
        observer="percentile:70", overrides=(LayerOverride("hidden", observer="minmax"),)
    )
    quantized = qk.quantize(table_network(), params, samples=features)
    assert qk.params_of(quantized) == params
    loaded = qk.load_model(qk.save_model(quantized, tmp_path / f"q{suffix}"))
    assert qk.params_of(loaded) == params == qk.coverage(loaded).params
    before = ranges(qk.calibrate(loaded, features))
    for name, found in ranges(qk.calibrate(loaded, features)).items():
        np.testing.assert_allclose(found, before[name], atol=0.02, err_msg=name)
    wide = ranges(qk.calibrate(loaded, features, observer="minmax"))
    assert (wide["features_quantizer"] > before["features_quantizer"] + 0.1).any()
    np.testing.assert_allclose(wide["hidden"], before["hidden"], atol=0.02)


@pytest.mark.slow
def test_an_observer_reaches_the_inputs(features) -> None:
    wide = ranges(qk.quantize(table_network(), samples=features))["features_quantizer"]
    named = qk.QuantizationParams(overrides=(LayerOverride("features", observer="percentile:70"),))
    for found in (
        qk.quantize(table_network(), samples=features, observer="percentile:70"),
        qk.quantize(table_network(), named, samples=features),
        qk.quantize(
            table_network(), samples=features, observer={"features_quantizer": "percentile:70"}
        ),
    ):
        assert (ranges(found)["features_quantizer"] < wide - 0.3).all()


def test_models_that_kept_no_settings_calibrate(features) -> None:
    quantized = qk.quantize(table_network(), samples=features)
    for layer in quantized.layers:
        if isinstance(layer, Dequantizer):  # as files of before had it
            kept = dict(layer.provenance)
            for key in ("params", "observers", "provisional"):
                del kept[key]
            layer.set_provenance(kept)
    assert qk.params_of(quantized) is None
    before = ranges(quantized)
    after = ranges(qk.calibrate(quantized, features))
    for name in before:
        np.testing.assert_allclose(after[name], before[name], atol=0.6)


@pytest.mark.filterwarnings(NO_SAMPLES)
@pytest.mark.parametrize("kind", [*slow("table"), "map"])
def test_inputs_far_from_zero_get_offsets_in_the_second_step(kind, features) -> None:
    far = (features * np.float32([1, 9, 1, 1, 0.1, 1]) + 1000).astype(np.float32)
    head = layers.Dense(3, name="head")
    if kind == "map":
        far, head = far.reshape(20, 2, 2, 3), layers.Conv2D(3, 2, name="head")
    model = normalized(far, head)
    later = qk.calibrate(qk.quantize(model, num_samples=8), far)
    assert np.asarray(later.get_layer("features_quantizer").offset).min() > 900
    wanted = np.asarray(model(far))
    assert np.abs(np.asarray(later(far)) - wanted).max() < 0.03 * np.abs(wanted).max()
    program = qk.convert(later)
    assert qk.verify(later, program, far).exact
    direct = qk.convert(qk.quantize(model, samples=far))
    for one, other in zip(direct.layers, program.layers, strict=True):
        np.testing.assert_array_equal(one.params.weights, other.params.weights)
        np.testing.assert_array_equal(one.params.scale, other.params.scale)


@pytest.mark.filterwarnings(NO_SAMPLES)
@pytest.mark.parametrize("value", [1000.0, 1000.1, -7.0])
def test_two_steps_keep_what_a_constant_feature_leaves(value, features) -> None:
    samples = features.copy()
    samples[:, 2] = value  # a normalization multiplies it by 1e7, or by what float32 makes of it
    samples[:, 4] = 1e5 + samples[:, 4]
    model = normalized(samples, layers.Dense(3, name="head"))
    wanted = model.predict_on_batch(samples)
    later = qk.quantize(model, num_samples=8)
    qk.calibrate(later, samples)
    found = later.predict_on_batch(samples)
    assert np.square(found - wanted).mean() < 1e-3 * np.square(wanted).mean()
    assert np.array_equal(qk.convert(later).predict(samples), found)


@pytest.mark.filterwarnings(NO_SAMPLES)
def test_integers_far_from_zero_are_taken_as_they_are() -> None:
    samples = np.random.default_rng(0).integers(190, 210, (32, 6)).astype(np.uint8)
    model = normalized(samples.astype(np.float32), layers.Dense(3, name="head"))
    later = qk.quantize(model, num_samples=8)
    assert np.asarray(later.get_layer("features_quantizer").offset).all()
    qk.calibrate(later, samples)
    program = qk.convert(later)
    assert program.inputs[0].takes_integers
    wanted = qk.convert(qk.quantize(model, samples=samples)).predict(samples)
    np.testing.assert_allclose(program.predict(samples), wanted, atol=0.01)
