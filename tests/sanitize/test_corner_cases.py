"""Corner cases in which rewriting tools are known to fail, silently or not.

Each is rewritten exactly, which Keras itself confirms on random inputs, or left alone with the
reason in the log.
"""

from typing import Any

import keras
import numpy as np
import pytest
from float_networks import assert_sanitizes, kinds, randomized, sequential
from keras import layers, ops
from parameters import slow

from sanitize import Target, sanitize_graph
from sanitize.keras_io import read_keras

EVENT = "neuromorphic"


def padded(pad, kernel, stride):
    return lambda: [layers.ZeroPadding2D(pad), layers.Conv2D(5, kernel, strides=stride)]


#: 1-6. ZeroPadding2D and a convolution with a stride: (layers, input size, padding that does it).
PADDING: dict[str, Any] = {
    "stride 2 on an even size": (padded(1, 3, 2), 12, ((1, 1), (1, 1))),
    "a stem of 7x7": (padded(3, 7, 2), 12, ((3, 3), (3, 3))),
    "in front only": (padded(((1, 0), (1, 0)), 3, 2), 12, ((1, 0), (1, 0))),
    "on opposite sides": (padded(((2, 0), (0, 2)), 3, 1), 12, ((2, 0), (0, 2))),
    "behind only": (padded(((0, 1), (0, 1)), 3, 2), 12, "same"),
    "stride 2 on an odd size": (padded(1, 3, 2), 13, "same"),
}


@pytest.mark.parametrize("name", PADDING)
def test_zero_padding(name):
    build, size, padding = PADDING[name]
    graph, log = assert_sanitizes(
        sequential(*build(), shape=(size, size, 3)), {"padding into convolution": 1}
    )
    assert kinds(graph) == ["conv2d"] and graph.nodes[-1].attrs["padding"] == padding
    assert log.refused == ()


@pytest.mark.parametrize("size", [8, 9, *slow(10, 11, 12)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pads", [(0, 1), (2, 1), *slow((1, 0), (1, 1), (2, 2))])
def test_zero_padding_of_every_parity(size, stride, pads):
    layer = layers.Conv2D(2, 3, strides=stride)
    model = sequential(layers.ZeroPadding2D((pads, pads)), layer, shape=(size, size, 2))
    graph, _ = assert_sanitizes(model)
    assert kinds(graph) == ["conv2d"]


#: 7. Batch normalizations that lack a variable, or have a gamma that is zero or negative.
NORMS: dict[str, tuple[dict[str, bool], float | None]] = {
    "no gamma": ({"scale": False}, None),
    "no beta": ({"center": False}, None),
    "neither": ({"scale": False, "center": False}, None),
    "one gamma is zero": ({}, 0.0),
    "one gamma is negative": ({}, -1.0),
}


@pytest.mark.parametrize("name", NORMS)
def test_batch_normalization_behind_a_convolution(name):
    options, first = NORMS[name]
    model = sequential(layers.Conv2D(5, 3), layers.BatchNormalization(**options))
    if first is not None:
        gamma = np.ones(5, np.float32)
        gamma[0] = first
        model.layers[-1].gamma.assign(gamma)
    graph, log = assert_sanitizes(model, {"fold into producer": 1})
    assert kinds(graph) == ["conv2d"] and log.refused == ()


#: 8. Batch normalizations away from the weights: (layers, what they become).
ELSEWHERE: dict[str, Any] = {
    "behind a max pool, negative gamma": (
        lambda: [layers.Conv2D(5, 3), layers.MaxPooling2D(2), layers.BatchNormalization()],
        ["conv2d", "max_pool", "depthwise_conv2d"],
    ),
    "behind an activation": (
        lambda: [layers.Conv2D(5, 3), layers.ReLU(), layers.BatchNormalization()],
        ["conv2d", "relu", "depthwise_conv2d"],
    ),
    "before an activation and a convolution": (
        lambda: [layers.BatchNormalization(), layers.ReLU(), layers.Conv2D(5, 3, padding="same")],
        ["depthwise_conv2d", "relu", "conv2d"],
    ),
    "before a padded convolution": (
        lambda: [layers.ReLU(), layers.BatchNormalization(), layers.Conv2D(5, 3, padding="same")],
        ["relu", "conv2d"],
    ),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_batch_normalization_elsewhere(name):
    build, wanted = ELSEWHERE[name]
    model = sequential(*build())
    norm = next(part for part in model.layers if isinstance(part, layers.BatchNormalization))
    signs = np.ones(norm.gamma.shape, np.float32)
    signs[0] = -1.0
    norm.gamma.assign(np.abs(np.array(norm.gamma)) * signs)
    graph, _ = assert_sanitizes(model)
    assert kinds(graph) == wanted


def test_one_that_stays_stops_no_other():
    model = sequential(
        layers.Conv2D(4, 3), layers.MaxPooling2D(2), layers.BatchNormalization(),
        layers.ReLU(), layers.Conv2D(4, 3), layers.BatchNormalization(),
    )  # fmt: skip
    model.layers[2].gamma.assign([-1.0, 1.0, 1.0, 1.0])
    graph, log = assert_sanitizes(model)
    assert kinds(graph) == ["conv2d", "max_pool", "depthwise_conv2d", "relu", "conv2d"]
    assert log.counts()["fold into producer"] == 1


#: 9-11. Kernels, groups, scales and merges: (layers, target, size, kinds).
KERNELS: dict[str, Any] = {
    "relu6 by operation": (lambda: [layers.Lambda(ops.relu6)], None, 12, ["relu"]),
    "relu6 before a max pool": (
        lambda: [layers.Conv2D(4, 3), layers.ReLU(6.0), layers.MaxPooling2D(2)],
        None, 12, ["conv2d", "max_pool", "relu"],
    ),
    "as many groups as channels": (
        lambda: [layers.Conv2D(4, 3, groups=4)], None, 12, ["depthwise_conv2d"],
    ),
    "a scale per channel": (
        lambda: [layers.Rescaling([0.1, 0.2, 0.3, 0.4], 1.0), layers.Conv2D(4, 3, padding="same")],
        None, 12, ["conv2d"],
    ),
    "even kernel, even size": (
        lambda: [layers.Conv2D(4, 4, strides=2, padding="same")], EVENT, 12, ["conv2d"],
    ),
    "even kernel, odd size": (
        lambda: [layers.Conv2D(4, 2, strides=2, padding="same")], EVENT, 13, ["conv2d"],
    ),
    "depthwise 5x5, even size": (
        lambda: [layers.DepthwiseConv2D(5, 2, padding="same")], EVENT, 12, ["depthwise_conv2d"] * 2,
    ),
    "depthwise 7x7, odd size": (
        lambda: [layers.DepthwiseConv2D(7, 2, padding="same")], EVENT, 13, ["depthwise_conv2d"] * 2,
    ),
    "depthwise 5x5 with two outputs per channel": (
        lambda: [layers.DepthwiseConv2D(5, 2, padding="same", depth_multiplier=2)],
        EVENT, 12, ["depthwise_conv2d"] * 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KERNELS)
def test_kernels(name):
    build, target, size, wanted = KERNELS[name]
    model = sequential(*build(), shape=(size, size, 4))
    graph, log = assert_sanitizes(model, target=target)
    assert kinds(graph) == wanted
    assert log.refused == ()


def three_added():
    x = image = keras.Input((8, 8, 3))
    return randomized(keras.Model(image, layers.Add()([layers.Conv2D(3, 1)(x) for _ in range(3)])))


def test_three_are_added_two_by_two():
    assert_sanitizes(three_added(), {})
    graph, _ = assert_sanitizes(three_added(), {"split add": 1}, target=Target(add_inputs=2))
    assert all(len(node.inputs) == 2 for node in graph if node.kind == "add")


def test_small_activations_keep_their_size():
    """12. Values of about 1e-3: a rewrite must not round them away."""
    model = sequential(
        layers.Rescaling(1e-3), layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization(),
        layers.ReLU(), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(),
    )  # fmt: skip
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.beta.assign(np.full(4, 1e-4))
            layer.gamma.assign(np.full(4, 1e-3))
    graph, _ = assert_sanitizes(model)
    assert kinds(graph) == ["conv2d", "relu", "conv2d", "global_avg_pool"]


def test_what_is_not_exact_is_refused_with_its_reason():
    """A scale of zero in front of a padded convolution: no value of the padding would do."""
    model = sequential(
        layers.ReLU(), layers.BatchNormalization(name="bn"),
        layers.Conv2D(3, 3, padding="same", name="c"),
    )  # fmt: skip
    gamma = np.ones(4, np.float32)
    gamma[1] = 0.0
    model.get_layer("bn").gamma.assign(gamma)
    graph, _ = assert_sanitizes(model)
    assert kinds(graph) == ["relu", "depthwise_conv2d", "conv2d"]
    from sanitize.rules.batchnorm import FoldIntoConsumer

    _, log = sanitize_graph(read_keras(model), rules=[FoldIntoConsumer()])
    assert [entry.sentence for entry in log.refused] == [
        "'bn': a scale is zero and 'c' is padded, so no padding value is right"
    ]
