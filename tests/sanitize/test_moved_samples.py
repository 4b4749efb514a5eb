"""Keras models that merge samples with another axis, or move them: (n*t, c) and (t, n, c)."""

import keras
import numpy as np
import pytest
from float_networks import assert_reads
from keras import layers, ops

import quantkeras as qk
from sanitize import evaluate, read_keras

STEPS = (5, 6)
PICTURE = (4, 4, 6)


def _rows(x):
    return ops.reshape(x, (-1, x.shape[-1]))


def _back(x, *shape):
    return ops.reshape(x, (-1, *shape))


def _time_major(x):
    return ops.transpose(x, (1, 0, 2))


def _with_residual(x):
    rows = _rows(x)
    return _back(layers.Add()([rows, layers.Dense(6)(rows)]), 5, 6)


def _with_concat(x):
    rows = _rows(x)
    return _back(layers.Concatenate()([rows, layers.Dense(2)(rows)]), 5, 8)


def _nested(x):
    parts = [keras.Input((6,)), layers.Dense(5, activation="tanh"), layers.Dense(2)]
    return _back(keras.Sequential(parts)(_rows(x)), 5, 2)


def _rows_of_time_major(x):
    rows = layers.Dense(8)(_rows(_time_major(x)))
    return _time_major(ops.reshape(rows, (5, -1, 8)))


def _normalized(x):
    rows = layers.Dense(7, activation="relu")(_rows(x))
    return _back(layers.BatchNormalization()(rows), 5, 7)


def _one_step(x):
    return layers.Dense(3)(layers.Dense(4)(_time_major(x))[-1])


def _steps(x):
    first, second, *_ = ops.unstack(_time_major(x), axis=0)
    return layers.Dense(3)(first) + second[:, :3]


READ = {
    "rows": lambda x: _back(layers.Dense(7, activation="relu")(_rows(x)), 5, 7),
    "normalized": _normalized,
    "residual": _with_residual,
    "concatenate": _with_concat,
    "nested": _nested,
    "part of the channels": lambda x: _back(layers.Dense(4)(ops.reshape(x, (-1, 3))), 5, 8),
    "two axes": lambda x: _back(ops.reshape(_rows(x), (-1, 2, 3)), 5, 2, 3),
    "layer Reshape": lambda x: _back(layers.Reshape((3, 2))(_rows(x)), 5, 6),
    "time major": lambda x: _time_major(layers.Dense(4)(_time_major(x)) * np.arange(4.0)),
    "constant of steps": lambda x: _time_major(_time_major(x) + np.arange(5.0).reshape(5, 1, 1)),
    "swapped": lambda x: ops.swapaxes(layers.ReLU()(ops.swapaxes(x, 0, 1)), 0, 1),
    "carried": lambda x: ops.moveaxis(ops.moveaxis(x, 0, 2) * 2.0, 2, 0),
    "rows of time major": _rows_of_time_major,
    "one step": _one_step,
    "steps": _steps,
    "mean of steps": lambda x: ops.mean(layers.Dense(3)(_time_major(x)), axis=0),
    "axis in front": lambda x: ops.squeeze(ops.relu(ops.expand_dims(x, 0)), 0),
    "lambda": lambda x: layers.Lambda(lambda t: _time_major(_time_major(t) * 2.0))(x),
}


@pytest.mark.parametrize("name", READ)
def test_read_as_what_it_computes(name):
    x = keras.Input(STEPS)
    model = keras.Model(x, READ[name](x))
    read_keras(model, verify=True)
    assert_reads(model)


def test_pixels_as_rows():
    x = keras.Input(PICTURE)
    rows = ops.softmax(layers.Dense(3)(_rows(layers.Conv2D(4, 3, padding="same")(x))))
    model = keras.Model(x, _back(rows, 4, 4, 3))
    assert [node.kind for node in read_keras(model)] == ["input", "conv2d", "dense", "softmax"]
    assert_reads(model)


KEPT = {
    "rows returned": lambda x: layers.Dense(3)(_rows(x)),
    "time major returned": lambda x: layers.Dense(3)(_time_major(x)),
    "rows of time major returned": lambda x: layers.Dense(3)(_rows(_time_major(x))),
    "convolution of rows": lambda x: _back(
        layers.Conv1D(2, 2, padding="same")(ops.reshape(x, (-1, 3, 2))), 5, 6
    ),
    "constant of rows": lambda x: _time_major(_time_major(x) + np.ones((5, 3, 1), np.float32)),
    "samples among channels": lambda x: ops.transpose(
        layers.ReLU()(ops.transpose(x, (2, 1, 0))), (2, 1, 0)
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_needs_the_rows_together_is_kept(name):
    x = keras.Input(STEPS, batch_size=3 if name == "constant of rows" else None)
    model = keras.Model(x, KEPT[name](x))
    graph = read_keras(model, verify=True)
    samples = np.random.default_rng(0).normal(size=(3, *STEPS)).astype(np.float32)
    np.testing.assert_allclose(evaluate(graph, samples), model(samples), atol=1e-5)
    assert ("opaque" in {node.kind for node in graph}) == (name != "samples among channels")


class _OfSizes(keras.Model):
    """Written with the size of the batch, as many are."""

    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(7, activation="relu"), layers.Dense(3)

    def call(self, x):
        samples, steps, channels = x.shape
        rows = self.first(ops.reshape(x, (samples * steps, channels)))
        return self.second(ops.reshape(rows, (samples, steps, 7)))


def test_a_model_that_computes_with_the_size_of_the_batch():
    model = _OfSizes()
    model(np.zeros((1, *STEPS)))
    graph = read_keras(model, verify=True, shapes=STEPS)
    assert [node.kind for node in graph] == ["input", "dense", "dense"]


@pytest.mark.slow
def test_quantized_to_integers():
    x = keras.Input(STEPS)
    rows = layers.Dense(7, activation="relu")(_rows(x))
    steps = layers.Dense(4, activation="tanh")(_time_major(_back(rows, 5, 7)))
    model = keras.Model(x, layers.Dense(3)(_time_major(steps)))
    samples = np.random.default_rng(0).normal(size=(16, *STEPS)).astype(np.float32)
    quantized = qk.quantize(model, samples=samples)
    found = quantized.predict(samples, verbose=0)
    np.testing.assert_array_equal(qk.convert(quantized).predict(samples), found)
    np.testing.assert_allclose(found, model(samples), atol=0.1)
