"""NaN and numbers near the end of float32: training goes on, or the fault is named."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from exactness import as_numpy

import quantkeras as qk
from quantkeras.errors import NonFiniteError

layers = keras.layers

pytestmark = pytest.mark.filterwarnings("ignore:On .* of the calibration samples")


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    """Of positive numbers."""
    return np.abs(np.random.default_rng(0).normal(size=(16, 4))).astype(np.float32)


def network(size: float = 1.0) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,), name="x")
    tiny = keras.initializers.Constant(size)
    x = layers.Dense(3, activation="relu", name="a", kernel_initializer=tiny)(inputs)
    x = layers.Dense(3, activation="swish", name="table")(x)
    return keras.Model(inputs, layers.Dense(2, name="b")(x))


@pytest.mark.slow
def test_learning_ranges_of_tiny_weights(samples) -> None:
    params = qk.QuantizationParams(ranges="learned")
    quantized = qk.quantize(network(1e-28), params, samples=samples)
    quantized.compile(keras.optimizers.Adam(1e-3), "mse")
    quantized.train_on_batch(samples, np.full((16, 2), 0.1))
    assert all(np.isfinite(as_numpy(weight)).all() for weight in quantized.weights)


def test_a_table_passes_nan_on_and_convert_names_its_layer(samples) -> None:
    quantized = qk.quantize(network(), samples=samples)
    broken = samples.copy()
    broken[0, 0] = np.nan
    found = as_numpy(quantized(broken))
    assert np.isnan(found[0]).all()
    np.testing.assert_array_equal(found[1:], as_numpy(quantized(samples))[1:])
    training = as_numpy(quantized(broken, training=True))
    assert np.isnan(training[0]).all() and np.isfinite(training[1:]).all()
    layer = quantized.get_layer("table")
    layer.kernel.assign(as_numpy(layer.kernel) * np.nan)
    with pytest.raises(NonFiniteError, match="layer 'table': its kernel holds NaN"):
        qk.convert(quantized)
