"""How a batch goes through a model."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import quantkeras as qk
from quantkeras.qmodel import running
from quantkeras.qmodel.running import compiled_step, run_batch

TWO_REPLICAS = """
import keras, numpy as np, tensorflow as tf
import quantkeras as qk
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
x = np.random.default_rng(0).normal(size=(12, 6, 6, 3)).astype("float32")
with tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]).scope():
    image = keras.Input((6, 6, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 3, activation="relu")(image))
    quantized = qk.quantize(model, samples=x)
program = qk.convert(quantized)
assert np.array_equal(program.predict(x), quantized.predict(x, verbose=0))
report = qk.verify(quantized, program, x)
assert report.exact and report.samples == 12, report
"""


def test_a_batch_that_each_replica_computes_is_taken_once(monkeypatch):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, [inputs * 2, inputs + 1])
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    once = model.predict_on_batch(x)
    monkeypatch.setattr(running, "_replicas", lambda model: 2)
    monkeypatch.setattr(model, "predict_on_batch", lambda x: [np.concatenate([y, y]) for y in once])
    for found, wanted in zip(run_batch(model, [x]), (x * 2, x + 1), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_values_of_several_rows_a_sample_are_taken_whole():
    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, keras.ops.reshape(inputs, (-1, 3)))
    x = np.arange(30, dtype=np.float32).reshape(2, 5, 3)
    for compiled in (True, False):
        assert np.array_equal(run_batch(model, [x], compiled)[0], x.reshape(10, 3))


def test_rows_of_samples_and_steps_are_calibrated_whole():
    """The last steps of the last samples are the largest."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 6))
    rows = keras.layers.Dense(3)(keras.ops.reshape(inputs, (-1, 6)))
    model = keras.Model(inputs, keras.ops.reshape(rows, (-1, 5, 3)))
    x = np.random.default_rng(0).normal(size=(16, 5, 6)).astype(np.float32)
    x *= np.geomspace(0.01, 4, 80).reshape(16, 5, 1)
    quantized = qk.quantize(model, samples=x)
    found, wanted = quantized.predict(x, verbose=0), model.predict(x, verbose=0)
    assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()


@pytest.mark.slow
def test_a_model_of_two_replicas_is_verified():
    """In a process of its own: devices are split before TensorFlow starts."""
    subprocess.run([sys.executable, "-c", TWO_REPLICAS], check=True)


def test_a_compiled_step_gives_what_predict_gives_for_batches_of_any_size(rng):
    image, place = keras.Input((5, 5, 3)), keras.Input((2,), dtype="int32")
    x = keras.layers.Conv2D(4, 3, activation="relu")(image)
    model = keras.Model([image, place], [x, keras.layers.Embedding(4, 3)(place)])
    step = compiled_step(model)
    for count in (4, 3, 1):
        batch = [rng.normal(size=(count, 5, 5, 3)), rng.integers(0, 4, (count, 2))]
        batch = [array.astype(np.float32) for array in batch]
        for found, wanted in zip(step(batch), run_batch(model, batch, compiled=False), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow counts traces")
def test_our_own_runs_take_no_part_in_the_traces_that_tensorflow_counts(rng, monkeypatch):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4), keras.layers.ReLU()])
    x = rng.normal(size=(12, 6)).astype(np.float32)
    once = qk.quantize(model, samples=x, batch_size=12)

    def refused(*_, **__):
        raise AssertionError("predict was compiled")

    monkeypatch.setattr(keras.Model, "make_predict_function", refused)
    several = qk.quantize(model, samples=x, batch_size=5)
    np.testing.assert_array_equal(several(x), once(x))
    assert qk.verify(once, qk.convert(once), x).exact
