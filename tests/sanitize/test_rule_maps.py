"""Affine maps on their way: what they cross backwards and forwards, and what stops them."""

import keras
import numpy as np
import pytest
from float_networks import assert_sanitizes, kinds, randomized, sequential
from keras import layers

from sanitize import sanitize_graph
from sanitize.keras_io import read_keras
from sanitize.keras_io.depthwise_transpose import DepthwiseConv2DTranspose
from sanitize.rules.batchnorm import FoldIntoConsumer, FoldIntoProducer

FOLD = "fold into producer"
FORWARD = "fold into consumer"
DEPTHWISE = "normalization to depthwise"
norm = layers.BatchNormalization


def functional(build, shape=(8, 8, 4)):
    x = keras.Input(shape)
    return randomized(keras.Model(x, build(x)))


def convs(x, filters=(2, 3), **options):
    return [layers.Conv2D(count, 3, **options)(x) for count in filters]


def refusals(model, rule):
    _, log = sanitize_graph(read_keras(model), rules=[rule])
    assert log.fired == ()
    return [entry.sentence for entry in log.refused]


class TestBackwards:
    @pytest.mark.parametrize("axis", [-1, 1, 2])
    def test_concatenation_gives_each_input_its_part(self, axis):
        def build(x):
            return norm()(layers.Concatenate(axis)(convs(x, (3, 3))))

        graph, _ = assert_sanitizes(functional(build), {FOLD: 1})
        assert kinds(graph) == ["conv2d", "conv2d", "concat"]

    def test_concatenation_of_dense_and_pooled(self):
        def build(x):
            pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3)(x))
            flat = layers.Dense(2)(layers.Flatten()(x))
            return norm()(layers.Concatenate()([pooled, flat]))

        assert_sanitizes(functional(build), {FOLD: 1})

    def test_one_input_without_weights_stops_all(self):
        def build(x):
            parts = [layers.Conv2D(2, 1)(x), layers.Activation("silu", name="act")(x)]
            return norm(name="bn")(layers.Concatenate()(parts))

        model = functional(build)
        assert refusals(model, FoldIntoProducer()) == [
            "'bn': its input comes from 'act' (activation), which has no weights"
        ]
        assert_sanitizes(model, {DEPTHWISE: 1})

    def test_addition(self):
        graph, _ = assert_sanitizes(
            functional(lambda x: norm()(layers.Add()(convs(x, (3, 3, 3))))), {FOLD: 1}
        )
        assert kinds(graph) == ["conv2d"] * 3 + ["add"]

    def test_addition_of_a_stretched_value(self):
        def build(x):
            gate = layers.Conv2D(4, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x))
            return norm(name="bn")(layers.Add()([layers.Conv2D(4, 1)(x), gate]))

        assert "stretched" in refusals(functional(build), FoldIntoProducer())[0]

    def test_generator_dense_reshape_norm(self):
        model = sequential(layers.Dense(24), layers.Reshape((2, 3, 4)), norm(), shape=(5,))
        graph, _ = assert_sanitizes(model, {FOLD: 1})
        assert kinds(graph) == ["dense", "reshape"]

    def test_permute_flatten_upsampling_and_pad(self):
        permuted = sequential(layers.Conv2D(3, 3), layers.Permute((3, 1, 2)), norm(axis=-1))
        assert "one scale and offset per channel" in refusals(permuted, FoldIntoProducer())[0]
        swapped = sequential(layers.Conv2D(3, 3), layers.Permute((2, 1, 3)), norm())
        assert_sanitizes(swapped, {FOLD: 1})
        flat = sequential(layers.Conv2D(3, 3), layers.Flatten(), layers.Rescaling(2.0, 1.0))
        assert_sanitizes(flat, {FOLD: 1})
        per_pixel = sequential(layers.Conv2D(3, 3), layers.Flatten(), norm())
        assert "per channel" in refusals(per_pixel, FoldIntoProducer())[0]
        large = sequential(layers.Conv2D(3, 3), layers.UpSampling2D(2), norm())
        assert_sanitizes(large, {FOLD: 1})
        padded = sequential(layers.Conv2D(3, 3), layers.ZeroPadding2D(1), layers.Rescaling(2.0))
        assert_sanitizes(padded, {FOLD: 1})
        cut = sequential(layers.Conv2D(3, 3), layers.Cropping2D(1), norm())
        assert_sanitizes(cut, {FOLD: 1})

    def test_offset_behind_zero_padding_goes_into_a_padded_depthwise(self):
        model = sequential(layers.Conv2D(3, 3), layers.ZeroPadding2D(1), norm())
        assert "would change the 0" in refusals(model, FoldIntoProducer())[0]
        graph, _ = assert_sanitizes(model)
        assert kinds(graph) == ["conv2d", "depthwise_conv2d"]
        assert graph.nodes[-1].attrs["padding"] == ((1, 1), (1, 1))

    def test_a_positive_factor_crosses_relu(self):
        model = sequential(layers.Conv2D(3, 3), layers.ReLU(), layers.Rescaling(0.25))
        graph, _ = assert_sanitizes(model, {FOLD: 1})
        assert kinds(graph) == ["conv2d", "relu"]
        leaky = sequential(layers.Conv2D(3, 3), layers.LeakyReLU(), layers.Rescaling(0.25))
        assert_sanitizes(leaky, {FOLD: 1})
        for last in (layers.Rescaling(-0.25), layers.Rescaling(1.0, 0.5)):
            assert_sanitizes(sequential(layers.Conv2D(3, 3), layers.ReLU(), last), {DEPTHWISE: 1})
        ceiling = sequential(layers.Conv2D(3, 3), layers.ReLU(6.0), layers.Rescaling(0.25))
        assert_sanitizes(ceiling, {DEPTHWISE: 1})

    def test_residual_scaled_by_a_constant(self):
        def build(x):
            y = layers.Conv2D(4, 3, padding="same")(x)
            return layers.Add()([x, layers.Lambda(lambda t: t * 0.2)(y)])

        graph, _ = assert_sanitizes(functional(build), {FOLD: 1})
        assert kinds(graph) == ["conv2d", "add"]


class TestForwards:
    def test_through_a_concatenation_into_all_readers(self):
        def build(x):
            first = norm()(layers.ReLU()(x))
            joined = layers.Concatenate()([layers.ReLU()(layers.Conv2D(2, 1)(x)), first])
            return convs(joined, padding="same")

        graph, _ = assert_sanitizes(functional(build), {FORWARD: 1})
        assert "depthwise_conv2d" not in kinds(graph)
        values = graph.nodes[-1].weights["pad_value"]
        assert not values[:2].any() and values[2:].all()

    def test_two_maps_meet_in_one_concatenation(self):
        def build(x):
            parts = [norm()(layers.ReLU()(x)), norm()(layers.Activation("silu")(x))]
            return layers.Conv2D(3, 3)(layers.Concatenate()(parts))

        assert_sanitizes(functional(build), {FORWARD: 2})

    def test_one_value_twice_in_a_concatenation(self):
        def build(x):
            y = norm()(layers.ReLU()(x))
            return layers.Conv2D(3, 3)(layers.Concatenate()([y, x, y]))

        assert_sanitizes(functional(build), {FORWARD: 1})

    def test_two_ways_to_one_reader(self):
        def build(x):
            y = layers.Rescaling(2.0, 1.0)(layers.Activation("silu")(x))
            pools = [layers.AveragePooling2D(2)(y), layers.MaxPooling2D(2)(y)]
            both = layers.Concatenate(name="both")(pools)
            return [layers.Conv2D(3, 3)(both), layers.Conv2D(3, 3)(y)]

        model = functional(build)
        assert "reaches 'both' on two ways" in refusals(model, FoldIntoConsumer())[0]
        assert_sanitizes(model, {DEPTHWISE: 1})

    def test_elements_of_their_own_through_flatten(self):
        def build(x):
            ramp = np.arange(64, dtype="float32").reshape(8, 8, 1)
            return layers.Dense(3)(layers.Flatten()(x * ramp + 1.0))

        graph, _ = assert_sanitizes(functional(build), {"merge affine": 1, FORWARD: 1})
        assert kinds(graph) == ["flatten", "dense"]

    def test_slices_and_permutes(self):
        def build(x):
            y = norm()(layers.ReLU()(x))
            return layers.Conv2D(3, 1)(layers.Permute((2, 1, 3))(y[:, 1:5, ::2, 1:]))

        assert_sanitizes(functional(build), {FORWARD: 1})

    def test_a_negative_scale_before_a_maximum(self):
        def build(x):
            y = layers.Rescaling(-1.0)(layers.Activation("silu")(x))
            return [layers.Conv2D(3, 3)(layers.MaxPooling2D(2)(y)), layers.Conv2D(3, 3)(y)]

        model = functional(build)
        assert "a scale is negative" in refusals(model, FoldIntoConsumer())[0]
        assert_sanitizes(model, {DEPTHWISE: 1})


class TestTransposed:
    @pytest.mark.parametrize("layer", [layers.Conv2DTranspose, DepthwiseConv2DTranspose])
    def test_behind_it(self, layer):
        size = {"filters": 3} if layer is layers.Conv2DTranspose else {"depth_multiplier": 2}
        model = sequential(layer(kernel_size=3, strides=2, padding="same", **size), norm())
        graph, _ = assert_sanitizes(model, {FOLD: 1})
        assert len(kinds(graph)) == 1

    def test_a_factor_in_front_of_it(self):
        for layer in (layers.Conv2DTranspose(3, 3, 2), DepthwiseConv2DTranspose(3, 2)):
            assert_sanitizes(sequential(layers.Rescaling(0.5), layer), {FORWARD: 1})

    def test_an_offset_in_front_of_it_must_spread_evenly(self):
        uneven = sequential(layers.Rescaling(0.5, 1.0), DepthwiseConv2DTranspose(3, 2))
        assert "is not the same number everywhere" in refusals(uneven, FoldIntoConsumer())[0]
        assert_sanitizes(uneven, {DEPTHWISE: 1})
        even = sequential(layers.Rescaling(0.5, 1.0), DepthwiseConv2DTranspose(2, 2))
        even.layers[-1].kernel.assign(np.ones((2, 2, 4, 1), np.float32))
        assert_sanitizes(even, {FORWARD: 1})
        one_pixel = sequential(layers.Rescaling(0.5, 1.0), layers.Conv2DTranspose(3, 1))
        assert_sanitizes(one_pixel, {FORWARD: 1})


class TestNothingToFoldInto:
    @pytest.mark.parametrize("shape", [(5,), (7, 5), (4, 6, 5), (2, 3, 4, 5), (None, 5)])
    def test_a_map_is_made_of_every_shape(self, shape):
        model = sequential(layers.Activation("silu"), norm(), layers.ReLU(), shape=shape)
        graph, _ = assert_sanitizes(model)
        assert "batchnorm" not in kinds(graph) and "depthwise_conv2d" in kinds(graph)

    def test_what_cannot_be_counted_is_refused(self):
        x = keras.Input((None, 4, 3))
        ramp = np.arange(4, dtype="float32").reshape(1, 4, 1)
        model = keras.Model(x, layers.Activation("silu")(x) * ramp)
        _, log = sanitize_graph(read_keras(model), verify=False)
        assert any("is not known" in entry.sentence for entry in log.refused)
