"""Networks that put samples and steps together, reshaped by the user's own operations: calibrated,
corrected, rounded, verified and exported as others.
"""

import keras
import numpy as np
import onnxruntime
import pytest
from keras import layers, ops

import quantkeras as qk

pytestmark = pytest.mark.filterwarnings("ignore:.*stay float", "ignore:.*float in front")


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(70, 3, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3, 6))
    rows = layers.Dense(4, activation="relu")(ops.reshape(inputs, (-1, 6)))
    rows = layers.Dense(4)(rows)
    return keras.Model(inputs, ops.reshape(rows, (-1, 3, 4)))


@pytest.fixture(scope="module")
def quantized(network, x):
    return qk.quantize(network, samples=x)


@pytest.mark.slow
def test_corrected_rounded_and_verified(network, quantized, x):
    better = keras.models.clone_model(quantized)
    better.set_weights(quantized.get_weights())
    qk.correct_bias(better, x)
    qk.adaround(better, x[:16], iterations=20)
    report = qk.verify(better, qk.convert(better), x)
    assert report.exact and report.samples == 70
    wanted = np.asarray(network(x))
    assert np.abs(np.asarray(better(x)) - wanted).max() < 0.05 * np.abs(wanted).max()


def test_exported_with_the_movements(quantized, x):
    session = onnxruntime.InferenceSession(qk.export_onnx(quantized).SerializeToString())
    found = session.run(None, {session.get_inputs()[0].name: x})[0]
    assert np.allclose(found, np.asarray(quantized(x)), rtol=1e-6, atol=1e-6)
