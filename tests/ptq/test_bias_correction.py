"""Bias correction: no channel's mean is shifted, measured or known from batch normalizations."""

import math

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact
from keras import layers

from quantkeras import QuantizationParams
from quantkeras.api import quantize
from quantkeras.errors import QuantizationError
from quantkeras.ptq import bias_correction, correct_bias
from quantkeras.ptq.absorb import Moments
from quantkeras.ptq.expectations import rectified

X = np.random.default_rng(6).normal(size=(64, 8, 8, 3)).astype(np.float32)
FOUR_BITS = QuantizationParams(weight_bits=3, input_weight_bits=3, weight_range="mse")


def network(pool="max"):
    keras.utils.set_random_seed(4)
    image = keras.Input((8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(image)))
    y = layers.ReLU(4.0)(layers.BatchNormalization()(layers.DepthwiseConv2D(3)(x)))
    y = layers.BatchNormalization()(layers.Conv2D(8, 1)(y))
    x = layers.BatchNormalization()(layers.Conv2D(8, 3)(x))
    x = layers.ReLU()(layers.Add()([x, y]))
    if pool == "max":
        x = layers.MaxPooling2D(2)(layers.Conv2D(8, 3)(x))
    x = layers.BatchNormalization()(layers.Conv2D(6, 2)(x))
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(5)(x))
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            beta, gamma = 0.5 * rng.normal(size=beta.shape), rng.uniform(0.5, 1.5, gamma.shape)
            layer.set_weights([gamma, beta, mean, variance])
    settle(model)
    return model


def settle(model):
    """The running statistics become those of X."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            before = as_numpy(keras.Model(model.input, layer.input)(X))
            rows = before.reshape(-1, before.shape[-1])
            weights = layer.get_weights()
            layer.set_weights([*weights[:2], rows.mean(axis=0), rows.var(axis=0)])


def errors(model, quantized):
    wanted, found = (as_numpy(m(X)) for m in (model, quantized))
    gap = found - wanted
    return float(np.abs(gap.mean(axis=0)).max()), float((gap**2).mean())


@pytest.mark.slow
def test_measured_means_are_those_of_the_float_model():
    model = network()
    quantized = quantize(model, FOUR_BITS, X)
    shift, error = errors(model, quantized)
    assert correct_bias(quantized, X) is quantized
    corrected, less = errors(model, quantized)
    assert corrected < 0.05 * shift and less < 0.8 * error
    assert_exact(quantized, X, graph=False)


@pytest.mark.slow
def test_known_means_do_nearly_as_well_without_data():
    model = network("average")
    quantized = quantize(model, FOUR_BITS, X)
    shift, error = errors(model, quantized)
    report = bias_correction.correct_analytically(quantized, model)
    corrected, less = errors(model, quantized)
    assert corrected < 0.5 * shift and less < error
    left = [entry for entry in report.layers if entry.reason]
    assert [entry.reason for entry in left] == ["nothing is known of the input of the model"]
    assert_exact(quantized, X, graph=False)


@pytest.mark.slow
def test_what_normalizations_cannot_tell_is_said():
    model = network()
    quantized = quantize(model, FOUR_BITS, X)
    report = bias_correction.correct_analytically(quantized, model)
    reasons = [entry.reason for entry in report.layers]
    assert sum("max pool" in r or "no batch normalization" in r for r in reasons) == 1
    assert "mean error" in str(report)


@pytest.mark.parametrize("ceiling", [math.inf, 1.5])
def test_moments_behind_a_relu(ceiling):
    moments = Moments(np.array([-2.0, -0.3, 0.0, 1.0, 4.0]), np.array([1.0, 0.5, 2.0, 1.0, 0.1]))
    drawn = moments.mean + moments.deviation * np.random.default_rng(0).normal(size=(400_000, 5))
    clipped = np.minimum(np.maximum(drawn, 0), ceiling)
    found = rectified(moments, ceiling)
    np.testing.assert_allclose(found.mean, clipped.mean(axis=0), atol=8e-3)
    np.testing.assert_allclose(found.deviation, clipped.std(axis=0), atol=8e-3)


def test_shared_layers_and_layers_without_bias_are_left_alone():
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3))
    twice = layers.Conv2D(3, 3, padding="same", name="twice")
    x = twice(layers.ReLU()(twice(image)))
    model = keras.Model(image, layers.Conv2D(2, 1, use_bias=False, name="bare")(x))
    quantized = quantize(model, FOUR_BITS, X[:, :6, :6])
    before = [as_numpy(w) for w in quantized.weights]
    report = bias_correction.correct_empirically(quantized, X[:, :6, :6])
    assert [("shared" in e.reason, "no bias" in e.reason) for e in report.layers] == [
        (True, False), (True, False), (False, True),
    ]  # fmt: skip
    for old, new in zip(before, quantized.weights, strict=True):
        np.testing.assert_array_equal(old, as_numpy(new))


def test_neither_samples_nor_a_float_model_is_an_error():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3)])
    with pytest.raises(QuantizationError, match="needs samples, or float_model"):
        correct_bias(quantize(model, FOUR_BITS, X))
    with pytest.raises(QuantizationError, match="no quantized layers"):
        correct_bias(model, X)
