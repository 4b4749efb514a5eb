"""Batch normalizations and affine maps: folding backwards, forwards, and what is refused."""

import keras
import numpy as np
import pytest
from float_networks import assert_sanitizes, kinds, randomized, sequential
from keras import layers
from parameters import slow_rows

from sanitize import sanitize_graph
from sanitize.keras_io import read_keras
from sanitize.rules.batchnorm import FoldIntoProducer

FOLD = "fold into producer"
FORWARD = "fold into consumer"
DEPTHWISE = "normalization to depthwise"


def positive(model):
    """The model with gammas above zero."""
    for weight in model.weights:
        if weight.path.endswith("gamma"):
            weight.assign(keras.ops.absolute(weight))
    return model


def with_gamma(model, value):
    for weight in model.weights:
        if weight.path.endswith("gamma"):
            gamma = np.array(weight)
            gamma[0] = value
            weight.assign(gamma)
    return model


LINEAR = {
    "conv": lambda: layers.Conv2D(6, 3, strides=2, padding="same"),
    "conv without bias": lambda: layers.Conv2D(6, 3, use_bias=False),
    "grouped conv": lambda: layers.Conv2D(6, 3, groups=2),
    "depthwise": lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
    "transpose": lambda: layers.Conv2DTranspose(6, 3, strides=2),
    "dense": lambda: layers.Dense(6),
    "separable": lambda: layers.SeparableConv2D(6, 3),
}


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("center, scale", [(True, True), *slow_rows((False, True), (True, False))])
def test_behind_every_kind_of_weights(name, center, scale):
    norm = layers.BatchNormalization(center=center, scale=scale)
    graph, log = assert_sanitizes(sequential(LINEAR[name](), norm))
    assert log.counts()[FOLD] == 1
    assert "batchnorm" not in kinds(graph)


@pytest.mark.parametrize("gamma", [0.0, -1.5])
def test_zero_and_negative_gamma_fold(gamma):
    model = sequential(layers.Conv2D(5, 3), layers.BatchNormalization())
    assert_sanitizes(with_gamma(model, gamma), {FOLD: 1})


def test_source_names_both_layers():
    model = sequential(layers.Conv2D(5, 3, name="c"), layers.BatchNormalization(name="bn"))
    graph, _ = assert_sanitizes(model, {FOLD: 1})
    assert graph["c"].source == ("c", "bn")


def test_through_pools():
    average = sequential(
        layers.Conv2D(5, 3), layers.AveragePooling2D(2), layers.BatchNormalization()
    )
    assert_sanitizes(average, {FOLD: 1})
    whole = sequential(
        layers.Conv2D(5, 3), layers.GlobalAveragePooling2D(), layers.BatchNormalization()
    )
    assert_sanitizes(whole, {FOLD: 1})
    maximum = sequential(layers.Conv2D(5, 3), layers.MaxPooling2D(2), layers.BatchNormalization())
    assert_sanitizes(positive(maximum), {FOLD: 1})


def test_a_negative_gamma_does_not_cross_a_maximum():
    model = sequential(layers.Conv2D(5, 3), layers.MaxPooling2D(2), layers.BatchNormalization())
    graph, _ = assert_sanitizes(with_gamma(positive(model), -1.0), {DEPTHWISE: 1})
    assert kinds(graph) == ["conv2d", "max_pool", "depthwise_conv2d"]


def test_one_that_cannot_fold_does_not_stop_the_others():
    x = image = keras.Input((10, 10, 3))
    y = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(x))
    z = layers.BatchNormalization()(layers.Add()([layers.ReLU()(y), layers.Conv2D(4, 1)(x)]))
    z = layers.ReLU()(z)
    z = layers.BatchNormalization()(layers.Conv2D(4, 3)(z))
    z = layers.Add()([z, layers.Conv2D(4, 1)(z)])
    model = randomized(keras.Model(image, layers.ReLU()(layers.BatchNormalization()(z))))
    assert_sanitizes(model, {FOLD: 2, DEPTHWISE: 2})


def test_a_value_with_other_readers_is_not_folded():
    x = image = keras.Input((8, 8, 3))
    y = layers.Conv2D(4, 3, name="c")(x)
    norm = layers.ReLU()(layers.BatchNormalization(name="bn")(y))
    model = randomized(keras.Model(image, layers.Add()([norm, y])))
    _, log = assert_sanitizes(model, {DEPTHWISE: 1})
    assert log.refused == ()
    vector = keras.Input((8,))
    y = layers.Dense(4, name="d")(vector)
    model = keras.Model(vector, [layers.BatchNormalization(name="bn")(y), y])
    graph, _ = assert_sanitizes(randomized(model), {DEPTHWISE: 1})
    assert sorted(kinds(graph)) == ["dense", "depthwise_conv2d", "flatten", "reshape"]
    _, log = sanitize_graph(read_keras(model), rules=[FoldIntoProducer()])
    assert "'bn': the value of 'd' is an output of the network" in str(log.refused[0].sentence)


@pytest.mark.parametrize("padding, strides", [("valid", 1), ("same", 1), ("same", 2)])
@pytest.mark.parametrize("linear", ["conv", "depthwise", "grouped"])
def test_in_front_of_a_convolution(padding, strides, linear):
    options = {"strides": strides, "padding": padding}
    layer = {
        "conv": layers.Conv2D(5, 3, **options),
        "grouped": layers.Conv2D(8, 3, groups=2, **options),
        "depthwise": layers.DepthwiseConv2D(3, depth_multiplier=2, **options),
    }[linear]
    model = sequential(layers.ReLU(), layers.BatchNormalization(), layer)
    graph, _ = assert_sanitizes(model, {FORWARD: 1})
    assert kinds(graph) == ["relu", graph.nodes[-1].kind]
    assert ("pad_value" in graph.nodes[-1].weights) == (padding == "same")


def test_in_front_of_dense_through_pool_and_flatten():
    model = sequential(
        layers.ReLU(),
        layers.BatchNormalization(),
        layers.AveragePooling2D(2),
        layers.Flatten(),
        layers.Dense(3),
    )
    assert_sanitizes(model, {FORWARD: 1})
    model = sequential(
        layers.ReLU(),
        layers.BatchNormalization(),
        layers.MaxPooling2D(2),
        layers.Conv2D(3, 3, padding="same"),
    )
    assert_sanitizes(positive(model), {FORWARD: 1, "activation behind max pool": 1})


def test_in_front_of_several_convolutions():
    x = image = keras.Input((8, 8, 3))
    y = layers.BatchNormalization()(layers.ReLU()(x))
    heads = [layers.Conv2D(4, 3, padding="same")(y), layers.Conv2D(4, 1)(y)]
    model = randomized(keras.Model(image, layers.Add()(heads)))
    assert_sanitizes(model, {FORWARD: 1})
    mixed = randomized(keras.Model(image, layers.Concatenate()([*heads, y])))
    assert_sanitizes(mixed, {DEPTHWISE: 1})


def test_in_front_of_a_transposed_convolution():
    scaled = sequential(layers.Rescaling(0.5), layers.Conv2DTranspose(3, 3, strides=2))
    assert_sanitizes(scaled, {FORWARD: 1})
    shifted = sequential(layers.Rescaling(0.5, 1.0), layers.Conv2DTranspose(3, 3, strides=2))
    assert_sanitizes(shifted, {DEPTHWISE: 1})


def test_a_zero_scale_cannot_be_padded_for():
    model = sequential(
        layers.ReLU(), layers.BatchNormalization(), layers.Conv2D(3, 3, padding="same")
    )
    assert_sanitizes(with_gamma(model, 0.0), {DEPTHWISE: 1})
    valid = sequential(layers.ReLU(), layers.BatchNormalization(), layers.Conv2D(3, 3))
    assert_sanitizes(with_gamma(valid, 0.0), {FORWARD: 1})


def test_chains_merge():
    model = sequential(
        layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Rescaling(0.5, 1.0),
        layers.BatchNormalization(),
    )  # fmt: skip
    assert_sanitizes(model, {"merge affine": 2, FOLD: 1})


def test_preactivation_becomes_depthwise():
    x = image = keras.Input((8, 8, 4))
    y = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Conv2D(4, 3, padding="same")(y)
    model = randomized(keras.Model(image, layers.Add()([x, y])))
    graph, _ = assert_sanitizes(model, {DEPTHWISE: 1})
    assert kinds(graph) == ["depthwise_conv2d", "relu", "conv2d", "add"]


class TestInput:
    """The affine map that brings a picture into the range of the network."""

    def test_rescaling_with_offset_and_same_padding(self):
        model = sequential(
            layers.Rescaling(1 / 127.5, -1.0), layers.Conv2D(4, 3, strides=2, padding="same")
        )
        graph, _ = assert_sanitizes(model, {FORWARD: 1})
        assert np.allclose(graph.nodes[-1].weights["pad_value"], 127.5)

    def test_vector_rescaling_with_zero_padding_layer(self):
        model = sequential(
            layers.Rescaling([0.1, 0.2, 0.3], [1.0, -2.0, 0.0]),
            layers.ZeroPadding2D(1),
            layers.Conv2D(4, 3, strides=2),
            shape=(12, 12, 3),
        )
        graph, _ = assert_sanitizes(model, {"padding into convolution": 1, FORWARD: 1})
        assert kinds(graph) == ["conv2d"]
        assert np.allclose(graph.nodes[-1].weights["pad_value"], [-10.0, 10.0, 0.0], atol=1e-5)

    def test_constants_by_operators(self):
        x = image = keras.Input((8, 8, 3))
        y = (x - np.array([0.4, 0.5, 0.6], "float32")) / np.array([0.2, 0.3, 0.4], "float32")
        model = randomized(keras.Model(image, layers.Conv2D(4, 3)(y)))
        assert_sanitizes(model, {"merge affine": 1, FORWARD: 1})
        model = randomized(keras.Model(image, layers.Conv2D(4, 3)(x * 2.0)))
        assert_sanitizes(model, {FORWARD: 1})

    def test_normalization_and_dense(self):
        norm = layers.Normalization(mean=[1.0, 2.0], variance=[4.0, 0.5])
        assert_sanitizes(sequential(norm, layers.Dense(3), shape=(2,)), {FORWARD: 1})

    def test_scale_per_pixel_makes_every_element_a_channel(self):
        x = image = keras.Input((4, 4, 3))
        ramp = np.arange(16, dtype="float32").reshape(4, 4, 1)
        model = randomized(keras.Model(image, layers.Conv2D(4, 3)(x * ramp)))
        graph, _ = assert_sanitizes(model, {DEPTHWISE: 1})
        assert kinds(graph) == ["reshape", "depthwise_conv2d", "reshape", "conv2d"]
        assert graph.nodes[2].weights["kernel"].shape == (1, 1, 48, 1)
        model = randomized(keras.Model(image, layers.Dense(4)(layers.Flatten()(x * ramp))))
        graph, _ = assert_sanitizes(model, {FORWARD: 1})
        assert kinds(graph) == ["flatten", "dense"]


def test_behind_a_convolution_with_operators():
    x = image = keras.Input((8, 8, 3))
    y = layers.Conv2D(4, 3)(x) * 0.1 + np.arange(4, dtype="float32")
    assert_sanitizes(randomized(keras.Model(image, y)), {"merge affine": 1, FOLD: 1})
