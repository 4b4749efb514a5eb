"""Lambda layers: by the Keras operations in them, or by what they do with numbers."""

import random

import keras
import numpy as np
import pytest
from float_networks import assert_reads, randomized
from keras import layers, ops

from sanitize import read_keras

Lambda = layers.Lambda
#: One tensor (8, 6, 5): function and the kinds of the nodes it becomes.
TRACED = {
    "scaled relu": (lambda x: ops.relu(x * 2.0 + 1.0), "affine affine relu"),
    "permute": (lambda x: ops.transpose(x, (0, 2, 1, 3)), "permute"),
    "mean": (lambda x: ops.mean(x, axis=(1, 2)), "global_avg_pool"),
    "rows": (lambda x: x[:, 1:-1, ::2], "slice"),
    "caffe": (lambda x: x[..., ::-1] - np.float32([1, 2, 3, 4, 5]), "slice affine"),
    "gate": (
        lambda x: x * ops.sigmoid(ops.mean(x, axis=(1, 2), keepdims=True)),
        "global_avg_pool activation multiply",
    ),
    "pool": (lambda x: ops.max_pool(x, 2), "max_pool"),
    "celu": (lambda x: ops.celu(x, 0.3), "activation"),
}


def model_of(function, shape=(8, 6, 5)):
    x = keras.Input(shape)
    return randomized(keras.Model(x, Lambda(function, name="f")(x)))


def pair_model(function):
    x = keras.Input((8, 6, 5))
    return randomized(keras.Model(x, Lambda(function, name="f")([x, layers.Conv2D(5, 1)(x)])))


@pytest.mark.parametrize("name", TRACED)
def test_keras_operations_are_read(name):
    function, kinds = TRACED[name]
    graph = assert_reads(model_of(function))
    assert [node.kind for node in graph][1:] == kinds.split()
    assert graph.nodes[-1].name == "f"
    assert all(node.source == ("f",) for node in graph.nodes[1:])


def test_several_tensors():
    for function, kinds in (
        (lambda t: t[0] + 0.2 * t[1], ["affine", "add"]),
        (lambda t: ops.concatenate(t, axis=1), ["concat"]),
        (lambda t: ops.abs(t[0] - t[1]), ["subtract", "activation"]),
    ):
        graph = assert_reads(pair_model(function))
        assert [node.kind for node in graph][2:] == kinds


def test_a_lambda_called_twice():
    x = keras.Input((6, 5, 4))
    halve = Lambda(lambda t: ops.mean(t[..., :2], axis=(1, 2)), name="halve")
    graph = assert_reads(keras.Model(x, halve(x) - halve(layers.Conv2D(4, 1)(x))))
    assert {"halve", "halve_1"} <= {node.name for node in graph}


tf = pytest.importorskip("tensorflow") if keras.backend.backend() == "tensorflow" else None
needs_tensorflow = pytest.mark.skipif(tf is None, reason="written with TensorFlow functions")
MOVED = {
    "transpose": (lambda x: tf.transpose(x, [0, 3, 1, 2]), "permute"),
    "reshape": (lambda x: tf.reshape(x, [-1, 48, 5]), "reshape"),
    "flatten": (lambda x: tf.reshape(x, [tf.shape(x)[0], -1]), "reshape"),
    "expand": (lambda x: tf.expand_dims(x, 1), "reshape"),
    "squeeze": (lambda x: tf.squeeze(x[:, :1] + tf.zeros(()), 1), "slice reshape"),
    "reverse": (lambda x: tf.reverse(x, [-1]), "slice"),
    "mirror": (lambda x: tf.image.flip_left_right(x), "slice"),
    "gather": (lambda x: tf.gather(x, [3, 0, 1], axis=-1), "slice slice concat"),
    "split": (lambda x: tf.split(x, [2, 3], axis=-1)[1], "slice"),
    "pad": (lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]]), "pad"),
    "shift": (lambda x: tf.pad(x[:, 1:], [[0, 0], [0, 1], [0, 0], [0, 0]]), "slice pad"),
    "resize": (lambda x: tf.image.resize(x, (16, 18), method="nearest"), "upsample"),
    "mean": (lambda x: tf.reduce_mean(x, [1, 2]), "global_avg_pool"),
    "largest": (lambda x: tf.reduce_max(x, [1, 2], keepdims=True), "global_max_pool"),
    "relu6": (lambda x: tf.nn.relu6(x), "relu"),
    "clip": (lambda x: tf.clip_by_value(x, -0.5, 1.5), "activation"),
    "scale": (lambda x: tf.multiply(x, 0.5) - tf.constant([1.0, 2, 3, 4, 5]), "affine"),
    "own": (lambda x: tf.sin(x) * x, "activation"),
    "softmax": (lambda x: tf.nn.softmax(x), "softmax"),
}


@needs_tensorflow
@pytest.mark.parametrize("name", MOVED)
def test_functions_of_the_backend_are_tried(name):
    function, kinds = MOVED[name]
    graph = assert_reads(model_of(function))
    assert [node.kind for node in graph][1:] == kinds.split()


@needs_tensorflow
def test_functions_of_the_backend_of_several_tensors():
    for function, kind, inputs in (
        (lambda t: tf.concat(t, -1), "concat", ["input", "conv"]),
        (lambda t: tf.add(t[0], t[1]), "add", ["input", "conv"]),
        (lambda t: tf.subtract(t[1], t[0]), "subtract", ["conv", "input"]),
        (lambda t: tf.multiply(*t), "multiply", ["input", "conv"]),
        (lambda t: tf.maximum(*t), "maximum", ["input", "conv"]),
    ):
        graph = assert_reads(pair_model(function))
        assert graph.nodes[-1].kind == kind
        assert [value[:4] for value in graph.nodes[-1].inputs] == [name[:4] for name in inputs]


def seed():
    """Another one each time; TensorFlow draws none itself where operations are deterministic."""
    return [random.randrange(2**31) for _ in range(2)]


@needs_tensorflow
@pytest.mark.parametrize("function, reason", [
    (lambda x: tf.cumsum(x, axis=1), "depends on other numbers"),
    (lambda x: tf.reduce_sum(x, -1), "makes shape"),
    (lambda x: tf.image.resize(x, (16, 12)), "makes shape"),
    (lambda x: x[::-1] + tf.zeros(()), "depends on other numbers"),
    (lambda x: tf.random.stateless_normal(tf.shape(x), seed()) + x, "different results"),
    (lambda x: tf.math.log(x), "not finite near 0"),
])  # fmt: skip
def test_the_others_are_opaque_with_a_reason(function, reason):
    node = read_keras(model_of(function)).nodes[-1]
    assert node.kind == "opaque"
    assert reason in node.attrs["reason"]


@needs_tensorflow
def test_of_several_tensors_too():
    node = read_keras(pair_model(lambda t: tf.add(t[0], 0.5 * tf.sin(t[1])))).nodes[-1]
    assert node.kind == "opaque" and "several tensors" in node.attrs["reason"]
