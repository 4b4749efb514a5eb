"""Random BatchNormalization statistics: reproducible, plausible, nothing else touched."""

import keras
import numpy as np
import pytest
from keras import layers

from model_zoo import ds_cnn
from model_zoo.batchnorm_statistics import randomize_batchnorm


def nested_model() -> keras.Model:
    inner = keras.Sequential(
        [layers.Input((6,)), layers.BatchNormalization(center=False, scale=False)]
    )
    return keras.Sequential([layers.Input((5,)), layers.Dense(6), inner])


@pytest.mark.slow
def test_same_seed_same_statistics():
    first, second, third = (ds_cnn.build() for _ in range(3))
    for model, seed in ((first, 3), (second, 3), (third, 4)):
        randomize_batchnorm(model, seed)
    name = "block2_pointwise_bn"
    weights = (m.get_layer(name).get_weights() for m in (first, second, third))
    for a, b, c in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def test_nested_layers_and_layers_without_gamma_and_beta():
    model = nested_model()
    randomize_batchnorm(model, seed=0)
    mean, variance = model.layers[-1].layers[-1].get_weights()
    assert np.all(mean != 0) and np.all(variance >= 0.5) and np.all(variance <= 2.0)


def test_given_inputs_the_statistics_fit_them_and_settings_come_back():
    model = ds_cnn.build()
    x = np.random.default_rng(0).normal(3.0, 2.0, (16, 49, 10, 1)).astype(np.float32)
    randomize_batchnorm(model, seed=0, inputs=x)
    assert model.get_layer("dropout").rate == 0.4
    norm = model.get_layer("block4_pointwise_bn")
    assert norm.momentum == 0.99
    before = keras.Model(model.input, norm.input)(x, training=False)
    variance = np.var(np.asarray(before), axis=(0, 1, 2))
    ratio = variance / np.asarray(norm.moving_variance)
    assert np.all(ratio > 0.5) and np.all(ratio < 2.0)
