"""Sensitivities: alone on, alone off, parts of layers; and the same as models made by hand."""

import keras
import numpy as np
import pytest
from exactness import as_numpy
from keras import layers

from quantkeras import QuantizationParams, sensitivity
from quantkeras.api import quantize
from quantkeras.errors import QuantizationError
from quantkeras.layers import WeightedLayer

X = np.random.default_rng(6).normal(size=(40, 8, 8, 3)).astype(np.float32)
BITS = QuantizationParams(weight_bits=4, activation_bits=4)


@pytest.fixture(scope="module")
def models():
    keras.utils.set_random_seed(4)
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="first")(image)
    y = layers.Conv2D(6, 3, padding="same", name="second")(x)
    x = layers.ReLU(name="sum")(layers.Add()([x, y]))
    x = layers.Flatten()(layers.MaxPooling2D(4)(x))
    model = keras.Model(image, layers.Softmax()(layers.Dense(5, name="head")(x)))
    return model, quantize(model, BITS, X)


def noise(model, quantized):
    a, b = (as_numpy(m(X)) for m in (model, quantized))
    return float(np.mean((a - b) ** 2))


@pytest.mark.slow
def test_the_whole_is_the_quantized_model(models):
    report = sensitivity(models[1], X)
    assert report.quantized.noise == pytest.approx(noise(*models), rel=1e-3)
    assert {e.layer for e in report.layers} >= {"first", "second", "head"}
    ordered = [entry.sqnr for entry in report.layers]
    assert ordered == sorted(ordered)
    assert report.quantized.sqnr < ordered[0]
    assert "first" in str(report) and "alone quantized" in str(report)


def test_weights_of_one_layer_alone(models):
    model, quantized = models
    entry = next(e for e in sensitivity(quantized, X, "weights").layers if e.layer == "second")
    layer = next(x for x in quantized.layers if x.name == "second")
    assert isinstance(layer, WeightedLayer)
    coarse = keras.models.clone_model(model)
    coarse.set_weights(model.get_weights())
    step = as_numpy(layer.numbers().step)
    # The channels between the layers may have been scaled: undo it, as the report is of values.
    before = next(x for x in quantized.layers if x.name == "first").output_quantizer
    into, out = as_numpy(before.ratio), as_numpy(layer.output_quantizer.ratio)
    rounded = np.round(as_numpy(layer.kernel) / step) * step * into[:, None] / out
    kernel, bias = coarse.get_layer("second").get_weights()
    coarse.get_layer("second").set_weights([rounded, bias])
    assert entry.noise == pytest.approx(noise(model, coarse), rel=2e-2)
    assert not np.allclose(kernel, rounded, atol=1e-4)


@pytest.mark.slow
def test_one_off_and_parts(models):
    quantized = models[1]
    on, off = (sensitivity(quantized, X, mode=mode) for mode in ("on", "off"))
    assert all(entry.noise <= 1.3 * off.quantized.noise for entry in off.layers)
    assert off.layers[0].sqnr >= off.layers[-1].sqnr
    weights = sensitivity(quantized, X, "weights")
    activations = sensitivity(quantized, X, "activations")
    names = [{e.layer for e in r.layers} for r in (weights, activations)]
    assert names[0] == {"first", "second", "head"}
    assert "head" not in names[1] and len(names[1]) == 4  # input, first, second, sum
    for report in (weights, activations):
        assert 0 < report.quantized.noise < 1.5 * on.quantized.noise


def test_noise_adds_up(models):
    report = sensitivity(models[1], X)
    total = sum(entry.noise for entry in report.layers)
    assert report.quantized.noise == pytest.approx(total, rel=0.5)


def test_a_metric_of_the_user_orders_them(models):
    model, quantized = models
    labels = as_numpy(model(X)).argmax(axis=1)
    report = sensitivity(quantized, X, metric=lambda y: float(np.mean(y.argmax(axis=1) == labels)))
    scores = [entry.score for entry in report.layers]
    assert scores == sorted(scores) and 0 <= report.quantized.score <= 1


@pytest.mark.slow
def test_samples_go_through_in_pieces(models):
    whole, part = (sensitivity(models[1], X, num_samples=n) for n in (None, 8))
    assert whole.signal != part.signal


def test_unknown_choices(models):
    with pytest.raises(QuantizationError, match="parts is 'biases'"):
        sensitivity(models[1], X, "biases")
    with pytest.raises(QuantizationError, match="mode is"):
        sensitivity(models[1], X, mode="half")
    with pytest.raises(QuantizationError, match="no quantized layers"):
        sensitivity(models[0], X)
