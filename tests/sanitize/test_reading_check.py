"""What is read from a Keras model is the model: limits far out, and layers that deceive."""

import keras
import numpy as np
import pytest
from float_networks import sequential
from keras import layers, ops

from sanitize import evaluate, read_keras, sanitize
from sanitize.keras_io.keras_reading import read_model
from sanitize.keras_io.reading_check import ReadingError

tf = pytest.importorskip("tensorflow") if keras.backend.backend() == "tensorflow" else None
needs_tensorflow = pytest.mark.skipif(tf is None, reason="written with TensorFlow functions")
Lambda = layers.Lambda

TRACED = {
    "clip": (lambda x: ops.clip(x, -20.0, 20.0), {"low": -20.0, "high": 20.0}),
    "far clip": (lambda x: ops.clip(x, -1e5, 1e5), {"low": -1e5, "high": 1e5}),
    "limited relu": (lambda x: ops.minimum(ops.relu(x), 30.0), {"max_value": 30.0}),
}
TRIED = {
    "clip": (lambda x: tf.clip_by_value(x, -20.0, 20.0), {"low": -20.0, "high": 20.0}),
    "limited relu": (lambda x: tf.minimum(tf.nn.relu(x), 30.0), {"max_value": 30.0}),
    "slope that ends": (lambda x: tf.maximum(x, tf.maximum(0.1 * x, -50.0)), {}),
}


def assert_agrees_far_out(function):
    model = sequential(Lambda(function, name="f"), shape=(4,))
    graph = read_model(model, verify=True).graph
    tails = np.geomspace(1e-3, 1e6, 60)
    x = np.concatenate([tails, -tails]).reshape(-1, 4).astype(np.float32)
    wanted = np.asarray(model(x))
    np.testing.assert_allclose(evaluate(graph, x), wanted, rtol=1e-5, atol=1e-6)
    return graph.nodes[-1]


@pytest.mark.parametrize("name", TRACED)
def test_limits_far_out_are_seen(name):
    function, attrs = TRACED[name]
    assert attrs.items() <= assert_agrees_far_out(function).attrs.items()


@needs_tensorflow
@pytest.mark.parametrize("name", TRIED)
def test_limits_far_out_are_seen_in_functions_of_the_backend(name):
    function, attrs = TRIED[name]
    assert attrs.items() <= assert_agrees_far_out(function).attrs.items()


@needs_tensorflow
@pytest.mark.parametrize("function", [
    lambda x: tf.clip_by_value(tf.transpose(x, [0, 2, 1, 3]), -2e4, 2e4),
    lambda x: tf.clip_by_value(tf.reduce_mean(x, [1, 2]), -900.0, 900.0),
])  # fmt: skip
def test_a_movement_or_mean_with_a_limit_is_neither(function):
    graph = read_keras(sequential(Lambda(function), shape=(4, 5, 3)))
    assert graph.nodes[-1].kind == "opaque"


@needs_tensorflow
def test_a_sum_with_a_limit_is_no_sum():
    x = keras.Input((4,))
    y = Lambda(lambda t: tf.minimum(t[0] + t[1], 1e4))([x, layers.Dense(4)(x)])
    assert read_keras(keras.Model(x, y)).nodes[-1].kind == "opaque"


class Whitened(layers.Layer):
    """Reads one way and computes another: by the size of the batch."""

    def call(self, x):
        return x * 2.0 if x.shape[0] in (None, 1) else x * 3.0


class Trained(layers.Layer):
    """Something else in training, which is no business of inference."""

    def call(self, x, training=None):
        return x * 5.0 if training else ops.relu(x)


def test_a_layer_that_depends_on_the_batch_is_named():
    model = sequential(layers.Dense(4), Whitened(name="odd"), layers.ReLU(), shape=(6,))
    with pytest.raises(ReadingError, match=r"'odd' \(Whitened\) is read as .*verify=False"):
        read_model(model, verify=True)
    with pytest.raises(ReadingError, match="'odd'"):
        sanitize(model)
    assert len(sanitize(model, verify=False).layers) > 1


def test_training_is_no_business_of_inference():
    model = sequential(Trained(name="t"), shape=(6,))
    assert read_model(model, verify=True).graph["t"].kind == "relu"


def test_noise_of_a_network_that_magnifies_it_is_no_difference():
    parts = [layers.Dense(24, activation="tanh") for _ in range(12)]
    model = sequential(*parts, layers.Dense(3, activation="softmax"), shape=(24,))
    for weight in model.weights:
        weight.assign(weight.numpy() * 30.0 if hasattr(weight, "numpy") else weight * 30.0)
    read_model(model, verify=True)


def test_a_model_of_a_fixed_batch_and_one_that_draws_random_numbers():
    x = keras.Input((4,), batch_size=2)
    y = Lambda(lambda t: t + keras.random.normal((2, 4)), name="noise")(layers.Dense(4)(x))
    read_model(keras.Model(x, layers.Dense(2)(y)), verify=True)


def test_conversions_stand_in_the_log(capsys):
    model = sequential(layers.Dense(4), Lambda(lambda x: ops.relu(x), name="f"), shape=(6,))
    sanitize(model, verbose=True)
    printed = capsys.readouterr().out
    assert "'f' (Lambda) is read as relu" in printed
    assert "nothing to rewrite" not in printed
