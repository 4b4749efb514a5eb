"""Layers at every step of a sequence: read as one layer over all steps where there is one."""

import keras
import numpy as np
import pytest
from exactness import assert_exact
from keras import layers

import quantkeras as qk
from sanitize import evaluate, read_keras

Each = layers.TimeDistributed


def rows() -> keras.Sequential:
    return keras.Sequential(
        [
            layers.Dense(5),
            layers.BatchNormalization(),
            layers.Activation("tanh"),
            layers.Dropout(0.5),
            layers.Dense(3, activation="relu"),
            layers.Rescaling([1.0, 2.0, 3.0], 0.5),
        ]
    )


def model_of(layer: keras.Layer, shape: tuple[int, ...]) -> keras.Model:
    keras.utils.set_random_seed(0)
    steps = keras.Input(shape)
    model = keras.Model(steps, Each(layer, name="each")(steps))
    generator = np.random.default_rng(1)
    model.set_weights([generator.uniform(0.5, 1.5, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize(
    ("make", "shape", "kinds"),
    [
        (lambda: layers.Dense(3), (4, 6), ["dense"]),
        (lambda: layers.Dense(3, activation="relu"), (4, 2, 6), ["dense"]),
        (layers.Flatten, (4, 2, 3), ["reshape"]),
        (lambda: layers.Reshape((3, 2)), (4, 6), ["reshape"]),
        (lambda: layers.Permute((2, 1)), (4, 2, 3), ["permute"]),
        (layers.Softmax, (4, 6), ["softmax"]),
        (layers.BatchNormalization, (4, 2, 3), ["batchnorm"]),
        (rows, (4, 6), ["dense", "batchnorm", "activation", "dense", "affine"]),
    ],
)
def test_it_is_one_layer_over_all_steps(make, shape, kinds):
    model = model_of(make(), shape)
    graph = read_keras(model)
    assert [node.kind for node in graph if node.kind not in ("input", "identity")] == kinds
    assert graph.nodes[-1].name == "each"
    assert {name for node in graph for name in node.source} == {"each", model.layers[0].name}
    x = np.random.default_rng(2).normal(size=(2, *shape)).astype(np.float32)
    np.testing.assert_allclose(evaluate(graph, x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: layers.Conv2D(2, 3), (4, 6, 6, 1)),
        (lambda: layers.Softmax(axis=1), (4, 6)),
        (lambda: keras.Sequential([layers.Dense(2), layers.LayerNormalization()]), (4, 6)),
    ],
)
def test_what_is_not_known_there_stays_as_it_is(make, shape):
    (node,) = [node for node in read_keras(model_of(make(), shape)) if node.kind != "input"]
    assert node.kind == "opaque"
    assert "at every step" in node.attrs["reason"]


def test_a_network_of_steps_is_integer():
    keras.utils.set_random_seed(3)
    series = keras.Input((12, 2))
    x = Each(layers.Flatten(), name="steps")(layers.Reshape((3, 4, 2))(series))
    x = Each(rows(), name="rows")(x)
    model = keras.Model(series, layers.Dense(2, name="head")(layers.Flatten()(x)))
    x = np.random.default_rng(4).normal(size=(16, 12, 2)).astype(np.float32)
    quantized = qk.quantize(model, samples=x, strict=True)
    assert_exact(quantized, x, graph=False)
    assert qk.coverage(quantized)["rows"].status == "integer"
