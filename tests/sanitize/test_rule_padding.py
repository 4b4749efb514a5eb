"""Zero padding: into convolutions (never into a 'same' that means something else), into pools."""

import keras
import pytest
from float_networks import assert_sanitizes, kinds, randomized, sequential
from keras import layers

INTO_CONV = "padding into convolution"
INTO_POOL = "padding into max pool"


@pytest.mark.parametrize(
    "pad, kernel, stride, size, expected",
    [
        (1, 3, 2, 12, ((1, 1), (1, 1))),
        (3, 7, 2, 12, ((3, 3), (3, 3))),
        (((1, 0), (1, 0)), 3, 2, 12, ((1, 0), (1, 0))),
        (((2, 0), (0, 2)), 3, 1, 12, ((2, 0), (0, 2))),
        (((0, 1), (0, 1)), 3, 2, 12, "same"),
        (1, 3, 2, 13, "same"),
        (1, 3, 1, 12, "same"),
        ((1, 2), (3, 5), 1, 12, "same"),
        (0, 3, 1, 12, "valid"),
    ],
)
@pytest.mark.parametrize("depthwise", [False, True])
def test_pad_and_convolution(pad, kernel, stride, size, expected, depthwise):
    conv = (
        layers.DepthwiseConv2D(kernel, strides=stride)
        if depthwise
        else layers.Conv2D(3, kernel, strides=stride)
    )
    model = sequential(layers.ZeroPadding2D(pad), conv, shape=(size, size, 4))
    graph, _ = assert_sanitizes(model)
    assert len(kinds(graph)) == 1
    assert graph.nodes[-1].attrs["padding"] == expected


def test_pad_in_front_of_same_adds_up():
    model = sequential(layers.ZeroPadding2D(1), layers.Conv2D(3, 3, strides=2, padding="same"))
    graph, _ = assert_sanitizes(model, {INTO_CONV: 1})
    assert graph.nodes[-1].attrs["padding"] == ((1, 2), (1, 2))


def test_pads_merge():
    parts = [layers.ZeroPadding2D(((1, 0), (2, 1))), layers.ZeroPadding2D(((0, 3), (1, 1)))]
    graph, _ = assert_sanitizes(sequential(*parts), {"merge pads": 1})
    assert graph.nodes[-1].attrs["padding"] == ((1, 3), (3, 2))
    assert_sanitizes(sequential(*parts, layers.Conv2D(3, 3)), {"merge pads": 1, INTO_CONV: 1})


def test_a_padded_value_with_two_readers_goes_into_both():
    x = image = keras.Input((8, 8, 3))
    y = layers.ZeroPadding2D(1)(x)
    model = keras.Model(image, [layers.Conv2D(2, 3)(y), layers.Conv2D(2, 3, strides=2)(y)])
    graph, _ = assert_sanitizes(randomized(model), {INTO_CONV: 2})
    assert kinds(graph) == ["conv2d", "conv2d"]
    model = keras.Model(image, [layers.Conv2D(2, 3)(y), y])
    graph, _ = assert_sanitizes(randomized(model), {INTO_CONV: 1})
    assert sorted(kinds(graph)) == ["conv2d", "pad"]


def test_unknown_size():
    explicit = sequential(
        layers.ZeroPadding2D(1), layers.Conv2D(2, 3, strides=2), shape=(None, None, 3)
    )
    graph, _ = assert_sanitizes(explicit, {INTO_CONV: 1})
    assert graph.nodes[-1].attrs["padding"] == ((1, 1), (1, 1))
    same = sequential(
        layers.ZeroPadding2D(1), layers.Conv2D(2, 3, padding="same"), shape=(None, None, 3)
    )
    _, log = assert_sanitizes(same, {})
    assert "size is not known" in log.refused[0].sentence


def test_max_pool_behind_relu():
    model = sequential(
        layers.Conv2D(4, 3, activation="relu"), layers.ZeroPadding2D(1), layers.MaxPooling2D(3, 2)
    )
    graph, _ = assert_sanitizes(model)
    assert kinds(graph) == ["conv2d", "max_pool", "relu"]
    assert graph.nodes[2].attrs["padding"] == ((1, 1), (1, 1))


def test_max_pool_of_values_that_may_be_negative():
    model = sequential(layers.Conv2D(4, 3), layers.ZeroPadding2D(1), layers.MaxPooling2D(3, 2))
    _, log = assert_sanitizes(model, {})
    assert "below the 0" in log.refused[0].sentence


def test_max_pool_windows_must_hold_a_real_value():
    model = sequential(layers.ReLU(), layers.ZeroPadding2D(2), layers.MaxPooling2D(2, 2))
    _, log = assert_sanitizes(model, {})
    assert "nothing but padding" in log.refused[0].sentence


def test_max_pool_of_a_concatenation_of_relus():
    x = image = keras.Input((9, 9, 3))
    y = layers.Concatenate()(
        [layers.Conv2D(2, 1, activation="relu")(x), layers.Conv2D(2, 1, activation="sigmoid")(x)]
    )
    y = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(y))
    _, log = assert_sanitizes(randomized(keras.Model(image, y)))
    assert log.counts()[INTO_POOL] == 1


def test_average_pool_counts_zeros_so_it_keeps_the_pad():
    model = sequential(layers.ZeroPadding2D(1), layers.AveragePooling2D(3, 2))
    graph, _ = assert_sanitizes(model, {})
    assert kinds(graph) == ["pad", "avg_pool"]


def test_lowest_value_pads_any_max_pool():
    x = image = keras.Input((8, 8, 3))
    low = -3.4028234663852886e38
    y = keras.ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=low)
    model = keras.Model(image, layers.MaxPooling2D(3, 2)(y))
    assert_sanitizes(model, {INTO_POOL: 1})


def test_pad_with_ones_is_not_zero_padding():
    x = image = keras.Input((8, 8, 3))
    y = keras.ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1.0)
    _, log = assert_sanitizes(randomized(keras.Model(image, layers.Conv2D(2, 3)(y))), {})
    assert "another value than zero" in log.refused[0].sentence
