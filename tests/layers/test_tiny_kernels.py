"""Kernels near the end of float32: their steps are exact, and what is lost is told."""

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact
from keras import layers
from parameters import slow

from quantkeras.api import quantize
from quantkeras.errors import QuantizationLossWarning
from quantkeras.layers.weight_quantizer import grid_above


def network(factor, bias=False):
    """Two layers, the first ``factor`` times smaller and the second as much larger."""
    keras.utils.set_random_seed(3)
    stack = [layers.Dense(6, activation="relu", use_bias=bias), layers.Dense(3)]
    model = keras.Sequential([keras.Input((8,)), *stack])
    first, second = stack
    first.set_weights([w * np.float32(factor) for w in first.get_weights()])
    second.set_weights([second.get_weights()[0] / np.float32(factor), np.zeros(3)])
    return model


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(5).normal(size=(32, 8)).astype(np.float32)


@pytest.mark.parametrize("exponent", [*slow(-90), -105])
def test_tiny_kernels_are_quantized_like_others(exponent, rows):
    wanted = as_numpy(network(1.0)(rows))
    quantized = quantize(network(2.0**exponent), samples=rows)
    np.testing.assert_array_equal(quantized(rows), quantize(network(1.0), samples=rows)(rows))
    np.testing.assert_allclose(quantized(rows), wanted, atol=0.05 * np.abs(wanted).max())
    assert_exact(quantized, rows, graph=False)


def test_an_output_may_be_tiny(rows):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4)])
    kernel, bias = model.layers[0].get_weights()
    model.layers[0].set_weights([np.ldexp(kernel, -107), bias])
    wanted, quantized = as_numpy(model(rows)), quantize(model, samples=rows)
    np.testing.assert_allclose(quantized(rows), wanted, rtol=0, atol=0.02 * np.abs(wanted).max())
    assert_exact(quantized, rows, graph=False)


@pytest.mark.parametrize("exponent", [*slow(-128), -140])
def test_those_that_no_step_shows_are_named(exponent, rows):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, name="lost"), layers.Dense(2)])
    kernel, bias = model.layers[0].get_weights()
    model.layers[0].set_weights([np.ldexp(kernel, exponent), bias])
    with pytest.warns(QuantizationLossWarning, match="'lost' .* became 0"):
        quantized = quantize(model, samples=rows)
    assert_exact(quantized, rows, graph=False)


def test_single_channels_and_zeros_are_not_worth_a_warning(rows):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4), layers.Dense(2)])
    first, second = model.layers
    kernel, bias = first.get_weights()
    kernel[:, 1] = 1e-40
    first.set_weights([kernel, bias])
    second.set_weights([np.zeros((4, 2)), np.ones(2)])
    assert_exact(quantize(model, samples=rows), rows, graph=False)


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_the_grid_reaches_to_the_smallest_step(bits):
    x = (2.0 ** np.array([-124, -120, -60, 3]) * [1.0, 1.2, 1.7, 1.999]).astype(np.float32)
    found = as_numpy(grid_above(keras.ops.convert_to_tensor(x), bits)).astype(np.float64)
    step = np.exp2(np.floor(np.log2(x.astype(np.float64))) + 1 - bits)
    np.testing.assert_array_equal(found, np.ceil(x.astype(np.float64) / step) * step)
    unit = keras.ops.convert_to_tensor(np.float32(2.0**-119))
    found = as_numpy(grid_above(keras.ops.convert_to_tensor(x), bits, unit)).astype(np.float64)
    step = np.maximum(step, 2.0**-119)
    np.testing.assert_array_equal(found, np.ceil(x.astype(np.float64) / step) * step)
