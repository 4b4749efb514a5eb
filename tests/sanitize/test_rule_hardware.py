"""Rules that run only for a target that asks for them, and the targets themselves."""

import keras
import numpy as np
import pytest
from float_networks import assert_sanitizes, kinds, randomized, resnet_like, sequential
from keras import layers
from parameters import slow, slow_rows

from sanitize import TARGETS, Target, rules_table, sanitize, sanitize_graph
from sanitize.keras_io import read_keras
from sanitize.target import find_target


def functional(build, shape=(8, 8, 4)):
    x = keras.Input(shape)
    return randomized(keras.Model(x, build(x)))


class TestTargets:
    def test_generic_asks_for_nothing(self):
        graph = read_keras(resnet_like())
        results = [sanitize_graph(graph, target)[1].counts() for target in (None, "generic")]
        assert results[0] == results[1]

    def test_by_name_or_as_an_object(self):
        assert find_target("pairwise") is TARGETS["pairwise"]
        mine = Target("mine", add_inputs=3)
        assert find_target(mine) is mine
        with pytest.raises(ValueError, match="no target is named 'tpu'; there are"):
            find_target("tpu")

    @pytest.mark.parametrize(
        "limits, message",
        [
            ({"concat_inputs": 0}, "concat_inputs is 0"),
            ({"extremum_inputs": 1}, "extremum_inputs is 1"),
            ({"largest_strided_depthwise": 1}, "largest_strided_depthwise is 1"),
            ({"smallest_strided_kernel": 2}, "it must be odd"),
        ],
    )
    def test_limits_are_checked(self, limits, message):
        with pytest.raises(ValueError, match=message):
            Target("bad", **limits)

    def test_the_whole_network_for_an_event_processor(self):
        model = resnet_like()
        result = sanitize(model, target="neuromorphic")
        x = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
        assert np.allclose(model(x), result(x), atol=1e-5)

    def test_the_table_of_rules(self):
        rows = rules_table()
        assert len({row.name for row in rows}) == len(rows) > 35
        whens = [row.when for row in rows]
        assert whens == sorted(whens) and set(whens) == {"always", "hardware only"}
        assert all("->" in row.algebra for row in rows), [r for r in rows if "->" not in r.algebra]


class TestMerges:
    def test_maximum_and_minimum(self):
        def build(x):
            parts = [layers.Conv2D(4, 1)(x) for _ in range(4)]
            return [layers.Maximum()(parts), layers.Minimum()(parts)]

        assert_sanitizes(functional(build), {})
        fires = {"split maximum": 2, "split minimum": 2}
        graph, _ = assert_sanitizes(functional(build), fires, target=Target(extremum_inputs=2))
        assert kinds(graph).count("maximum") == kinds(graph).count("minimum") == 3

    def test_products_of_more_than_two_are_split_always(self):
        def build(x):
            gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
            return layers.Multiply()([gate, layers.Conv2D(4, 1)(x), x, layers.Conv2D(1, 1)(x)])

        graph, _ = assert_sanitizes(functional(build), {"multiply by two": 2})
        products = [node for node in graph if node.kind == "multiply"]
        assert [len(node.inputs) for node in products] == [2, 2, 2]
        assert all(node.shape == (8, 8, 4) for node in products)


class TestKernels:
    @pytest.mark.parametrize("size", [*slow(12), 13])
    @pytest.mark.parametrize("kernel, strides", [(5, 2), *slow_rows((7, 2)), ((5, 3), 2), (6, 2)])
    @pytest.mark.parametrize("padding", ["same", "valid"])
    def test_large_strided_depthwise(self, size, kernel, strides, padding):
        layer = layers.DepthwiseConv2D(kernel, strides, padding, depth_multiplier=2)
        model = sequential(layer, shape=(size, size, 3))
        assert_sanitizes(model, {})
        target = Target(largest_strided_depthwise=3)
        graph, _ = assert_sanitizes(model, {"split strided depthwise": 1}, target=target)
        first, second = graph.nodes[1:]
        assert first.attrs["strides"] == (1, 1) and second.weights["kernel"].sum() == 6
        assert second.attrs["padding"] == "same"

    def test_strided_depthwise_of_unknown_size(self):
        layer = layers.DepthwiseConv2D(5, 2)
        target = Target(largest_strided_depthwise=3)
        graph, _ = assert_sanitizes(sequential(layer, shape=(None, None, 3)), target=target)
        assert graph.nodes[-1].attrs["padding"] == ((1, 1), (1, 1))
        layer = layers.DepthwiseConv2D(5, 2, padding="same")
        _, log = assert_sanitizes(sequential(layer, shape=(None, None, 3)), {}, target=target)
        assert "size is not known" in log.refused[0].sentence

    @pytest.mark.parametrize("size", [12, *slow(13)])
    @pytest.mark.parametrize("padding", ["same", "valid"])
    @pytest.mark.parametrize("kernel, strides", [(1, 2), (1, 3), ((1, 3), 2), (1, (2, 1))])
    def test_kernel_one_with_a_stride(self, size, padding, kernel, strides):
        model = sequential(layers.Conv2D(5, kernel, strides, padding), shape=(size, size, 3))
        assert_sanitizes(model, {})
        target = Target(smallest_strided_kernel=3)
        graph, _ = assert_sanitizes(model, {"kernel 1 with a stride to kernel 3": 1}, target=target)
        sides = graph.nodes[-1].weights["kernel"].shape[:2]
        assert sides == ((3, 1) if strides == (2, 1) else (3, 3))

    def test_kernel_one_without_a_stride_stays(self):
        target = Target(smallest_strided_kernel=3)
        assert_sanitizes(sequential(layers.Conv2D(5, 1)), {}, target=target)

    @pytest.mark.parametrize("size", [12, 13])
    @pytest.mark.parametrize("kernel, strides", [(2, 1), (2, 2), (4, 1), (4, 2), (6, 2)])
    def test_even_depthwise_kernels(self, size, kernel, strides):
        layer = layers.DepthwiseConv2D(kernel, strides, padding="same")
        model = sequential(layer, shape=(size, size, 3))
        graph, _ = assert_sanitizes(model, target=Target(odd_kernels=True))
        node = graph.nodes[-1]
        assert node.attrs["padding"] == "valid" or node.weights["kernel"].shape[0] % 2

    @pytest.mark.parametrize("size", [12, 13])
    @pytest.mark.parametrize("kernel, strides", [(2, 1), (2, 2), (4, 1), (4, 2)])
    def test_even_kernels_stay_same(self, size, kernel, strides):
        layer = layers.Conv2D(4, kernel, strides=strides, padding="same")
        graph, _ = assert_sanitizes(
            sequential(layer, shape=(size, size, 3)), target=Target(odd_kernels=True)
        )
        assert graph.nodes[-1].attrs["padding"] in ("same", "valid")

    @pytest.mark.parametrize("padding", ["same", "valid"])
    def test_groups(self, padding):
        model = sequential(
            layers.Rescaling(0.5, 1.0), layers.Conv2D(6, 3, 2, padding, groups=2), layers.ReLU()
        )
        fires = {"fold into consumer": 1}
        assert_sanitizes(model, fires)
        graph, _ = assert_sanitizes(
            model, {**fires, "split groups": 1}, target=Target(groups=False)
        )
        assert kinds(graph) == ["slice", "conv2d", "slice", "conv2d", "concat", "relu"]

    def test_groups_of_a_shared_layer(self):
        conv = layers.Conv2D(4, 3, padding="same", groups=2)
        model = functional(lambda x: conv(conv(x)))
        graph, _ = assert_sanitizes(model, {"split groups": 2}, target=Target(groups=False))
        shares = [node.share for node in graph if node.kind == "conv2d"]
        assert shares[:2] == shares[2:] and None not in shares


class TestLayers:
    @pytest.mark.parametrize("size", [2, (3, 1)])
    def test_upsampling(self, size):
        model = sequential(layers.UpSampling2D(size), layers.Conv2D(3, 3))
        assert_sanitizes(model, {})
        graph, _ = assert_sanitizes(
            model, {"upsampling to depthwise transpose": 1}, target=Target(upsampling=False)
        )
        assert kinds(graph) == ["depthwise_conv2d_transpose", "conv2d"]

    def test_bilinear_upsampling_is_another_thing(self):
        model = sequential(layers.UpSampling2D(2, interpolation="bilinear"))
        graph, _ = assert_sanitizes(model, {}, target=Target(upsampling=False))
        assert kinds(graph) == ["opaque"]

    @pytest.mark.parametrize("arguments", [(2,), (3, 1), ((3, 2), 2)])
    def test_average_pool(self, arguments):
        model = sequential(layers.AveragePooling2D(*arguments))
        target = Target(average_pool=False)
        assert_sanitizes(model, {})
        graph, _ = assert_sanitizes(model, {"average pool to depthwise": 1}, target=target)
        assert kinds(graph) == ["depthwise_conv2d"]

    def test_average_pool_with_padding(self):
        target = Target(average_pool=False)
        padded = sequential(layers.AveragePooling2D(3, padding="same", strides=1))
        _, log = assert_sanitizes(padded, {}, target=target)
        assert "hold fewer pixels" in log.refused[0].sentence
        zeros = sequential(layers.ZeroPadding2D(1), layers.AveragePooling2D(3))
        graph, _ = assert_sanitizes(zeros, target=target)
        assert kinds(graph) == ["depthwise_conv2d"]


class TestIdentityConvolutions:
    target = Target(identity_convs=True)

    def after(self, *parts, **options):
        graph, _ = assert_sanitizes(sequential(*parts, **options), target=self.target)
        return kinds(graph)

    def test_what_a_convolution_takes_needs_none(self):
        chain = [layers.Conv2D(3, 3), layers.MaxPooling2D(2), layers.ReLU()]
        assert self.after(*chain) == ["conv2d", "max_pool", "relu"]
        assert self.after(*chain, layers.GlobalAveragePooling2D()) == [
            "conv2d", "max_pool", "relu", "global_avg_pool",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        "layer, kind",
        [
            (layers.MaxPooling2D(2), "max_pool"),
            (layers.ReLU(), "relu"),
            (layers.Activation("silu"), "activation"),
            (layers.GlobalAveragePooling2D(), "global_avg_pool"),
            (layers.AveragePooling2D(2), "avg_pool"),
        ],
    )
    def test_what_stands_alone_at_the_input(self, layer, kind):
        assert self.after(layer) == ["depthwise_conv2d", kind]

    def test_two_pools_and_two_activations(self):
        assert self.after(layers.Conv2D(3, 3), layers.MaxPooling2D(2), layers.MaxPooling2D(2)) == [
            "conv2d", "max_pool", "depthwise_conv2d", "max_pool",
        ]  # fmt: skip
        last = layers.AveragePooling2D(2)
        graph = self.after(layers.Conv2D(3, 3), layers.ReLU(), layers.Activation("silu"), last)
        assert graph == ["conv2d", "relu", "depthwise_conv2d", "activation", "avg_pool"]

    def test_behind_an_addition(self):
        def build(x):
            y = layers.ReLU()(layers.Add()([layers.Conv2D(4, 1)(x), x]))
            return layers.GlobalAveragePooling2D()(y)

        graph, _ = assert_sanitizes(functional(build), target=self.target)
        assert kinds(graph) == ["conv2d", "add", "relu", "depthwise_conv2d", "global_avg_pool"]

    def test_a_value_with_two_readers(self):
        def build(x):
            y = layers.Conv2D(4, 1)(x)
            return layers.Add()([layers.ReLU()(y), y])

        graph, _ = assert_sanitizes(functional(build), target=self.target)
        assert kinds(graph) == ["conv2d", "depthwise_conv2d", "relu", "add"]

    def test_vectors_are_refused(self):
        model = sequential(layers.ReLU(), layers.Dense(3), shape=(5,))
        _, log = assert_sanitizes(model, {}, target=self.target)
        assert "a convolution takes a map" in log.refused[0].sentence
