"""The other families: activations, pooling, reshape, identity, kernels, merges."""

import keras
import numpy as np
import pytest
from float_networks import assert_sanitizes, kinds, randomized, sequential
from keras import layers, ops

from sanitize import Target

SPLIT = "split activation"
BEHIND = "activation behind max pool"


def functional(build, shape=(8, 8, 4)):
    x = keras.Input(shape)
    return randomized(keras.Model(x, build(x)))


class TestActivations:
    @pytest.mark.parametrize(
        "activation, kind",
        [
            ("relu", "relu"),
            (keras.activations.relu6, "relu"),
            (layers.ReLU(2.0), "relu"),
            ("silu", "activation"),
            (layers.LeakyReLU(0.2), "activation"),
            ("softmax", "softmax"),
        ],
    )
    def test_fused_ones_are_split(self, activation, kind):
        graph, _ = assert_sanitizes(
            sequential(layers.Conv2D(3, 3, activation=activation)), {SPLIT: 1}
        )
        assert kinds(graph) == ["conv2d", kind]
        assert "activation" not in graph.nodes[1].attrs

    @pytest.mark.parametrize(
        "activation",
        ["relu", "sigmoid", "hard_sigmoid", "selu", "tanh", layers.LeakyReLU(0.1), layers.ELU(0.5)],
    )
    def test_monotonic_ones_go_behind_the_max_pool(self, activation):
        model = sequential(
            layers.Conv2D(3, 3), layers.Activation(activation), layers.MaxPooling2D(3, 2, "same")
        )
        graph, _ = assert_sanitizes(model, {BEHIND: 1})
        assert kinds(graph)[1] == "max_pool"

    def test_prelu_and_global_max_pool(self):
        model = sequential(layers.PReLU(shared_axes=[1, 2]), layers.GlobalMaxPooling2D())
        for weight in model.weights:
            weight.assign(ops.absolute(weight))
        assert_sanitizes(model, {BEHIND: 1, "global max pool to max pool": 1})

    @pytest.mark.parametrize("activation", ["silu", "gelu", "mish", "hard_silu"])
    def test_others_do_not(self, activation):
        model = sequential(layers.Activation(activation), layers.MaxPooling2D(2))
        _, log = assert_sanitizes(model, {})
        assert "also decreases" in log.refused[0].sentence

    def test_relu_with_another_reader_stays(self):
        def build(x):
            y = layers.ReLU()(x)
            return [layers.MaxPooling2D(2)(y), layers.Conv2D(2, 1)(y)]

        _, log = assert_sanitizes(functional(build), {})
        assert "is read by" in log.refused[0].sentence

    @pytest.mark.parametrize(
        "build, function",
        [
            (lambda x: ops.relu6(x + 3.0) / 6.0, "hard_sigmoid"),
            (lambda x: ops.relu6(x + 3.0) * (1.0 / 6.0), "hard_sigmoid"),
            (lambda x: x * (ops.relu6(x + 3.0) / 6.0), "hard_silu"),
            (lambda x: x * ops.relu6(x + 3.0) / 6.0, "hard_silu"),
            (lambda x: (ops.relu6(x + 3.0) * x) * (1 / 6), "hard_silu"),
            (lambda x: x * ops.sigmoid(x), "silu"),
            (lambda x: layers.Multiply()([layers.Activation("hard_sigmoid")(x), x]), "hard_silu"),
        ],
    )
    def test_functions_written_out(self, build, function):
        graph, _ = assert_sanitizes(functional(lambda x: build(layers.Conv2D(3, 3)(x))))
        assert kinds(graph) == ["conv2d", "activation"]
        assert graph.nodes[-1].attrs["function"] == function

    def test_a_gate_on_another_value_stays(self):
        graph, _ = assert_sanitizes(functional(lambda x: x * ops.sigmoid(x * 2.0)))
        assert "multiply" in kinds(graph)


class TestPooling:
    def test_whole_average_pool_and_flatten(self):
        model = sequential(layers.AveragePooling2D(12), layers.Flatten(), layers.Dense(3))
        graph, _ = assert_sanitizes(model)
        assert kinds(graph) == ["global_avg_pool", "dense"]
        assert graph.nodes[1].attrs["keepdims"] is False

    def test_part_of_the_map_is_not_the_map(self):
        graph, _ = assert_sanitizes(sequential(layers.AveragePooling2D((12, 6))), {})
        assert kinds(graph) == ["avg_pool"]

    def test_same_padding_on_the_whole_map_counts_no_pads(self):
        model = sequential(layers.AveragePooling2D(12, padding="same"))
        assert_sanitizes(model, {"average pool over the whole map": 1})

    def test_squeeze_and_excite(self):
        def build(x):
            y = layers.GlobalAveragePooling2D()(x)
            y = layers.Reshape((1, 1, 4))(y)
            y = layers.Conv2D(2, 1, activation="relu")(y)
            y = layers.Conv2D(4, 1, activation="sigmoid")(y)
            return layers.Multiply()([x, y])

        graph, _ = assert_sanitizes(functional(build))
        assert kinds(graph) == [
            "global_avg_pool", "conv2d", "relu", "conv2d", "activation", "multiply",
        ]  # fmt: skip

    def test_global_pool_read_twice_is_not_reshaped(self):
        def build(x):
            y = layers.GlobalAveragePooling2D()(x)
            return [layers.Reshape((1, 1, 4))(y), layers.Dense(2)(y)]

        _, log = assert_sanitizes(functional(build), {})
        assert "is read by" in log.refused[0].sentence


class TestMovements:
    def test_reshapes_merge_and_vanish(self):
        model = sequential(layers.Flatten(), layers.Reshape((6, 96)), layers.Flatten())
        graph, _ = assert_sanitizes(model)
        assert kinds(graph) == ["flatten"]
        model = sequential(layers.Reshape((144, 4)), layers.Reshape((12, 12, 4)), layers.ReLU())
        graph, _ = assert_sanitizes(model)
        assert kinds(graph) == ["relu"]

    def test_permutes_merge(self):
        model = sequential(layers.Permute((2, 3, 1)), layers.Permute((2, 1, 3)))
        graph, _ = assert_sanitizes(model, {"merge permutes": 1})
        assert graph.nodes[-1].attrs["dims"] == (2, 1, 0)
        model = sequential(layers.Permute((2, 3, 1)), layers.Permute((3, 1, 2)), layers.ReLU())
        graph, _ = assert_sanitizes(model)
        assert kinds(graph) == ["relu"]

    def test_permute_of_axes_of_size_one_is_a_reshape(self):
        model = sequential(layers.Permute((2, 1, 3)), layers.ReLU(), shape=(1, 7, 3))
        assert_sanitizes(model, {"permute to reshape": 1})
        model = sequential(layers.Permute((2, 3, 1)), shape=(1, 1, 7))
        graph, _ = assert_sanitizes(model, {"permute to reshape": 1})
        assert graph.nodes[-1].shape == (1, 7, 1)
        assert_sanitizes(sequential(layers.Permute((2, 1, 3)), shape=(2, 7, 1)), {})

    def test_layers_along_one_axis_leave_two_reshapes_at_most(self):
        model = sequential(
            layers.Conv1D(4, 3, padding="causal", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling1D(2),
            layers.Conv1D(4, 3, activation="relu"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
            shape=(20, 3),
        )
        graph, _ = assert_sanitizes(model)
        assert kinds(graph) == [
            "reshape", "conv2d", "max_pool", "relu", "conv2d", "relu", "global_avg_pool", "dense",
        ]  # fmt: skip


class TestIdentity:
    def test_what_does_nothing_is_dropped(self):
        model = sequential(
            layers.Dropout(0.5),
            layers.Activation("linear"),
            layers.MaxPooling2D(1),
            layers.AveragePooling2D(1),
            layers.Rescaling(1.0),
            layers.ZeroPadding2D(0),
            layers.Permute((1, 2, 3)),
            layers.Reshape((12, 12, 4)),
            layers.UpSampling2D(1),
            layers.Cropping2D(0),
            layers.ReLU(),
            layers.ReLU(),
            layers.GaussianNoise(1.0),
        )
        graph, _ = assert_sanitizes(model, {"drop identity": 12})
        assert kinds(graph) == ["relu"]

    def test_a_stricter_relu_is_not_dropped(self):
        graph, _ = assert_sanitizes(
            sequential(layers.ReLU(), layers.ReLU(6.0)), {"function from arithmetic": 1}
        )
        assert kinds(graph) == ["relu"] and graph.nodes[-1].attrs["max_value"] == 6.0
        graph, _ = assert_sanitizes(sequential(layers.ReLU(6.0), layers.ReLU()))
        assert kinds(graph) == ["relu"]

    def test_a_strided_pool_of_one_pixel_is_not_the_identity(self):
        graph, _ = assert_sanitizes(sequential(layers.MaxPooling2D(1, strides=2)), {})
        assert kinds(graph) == ["max_pool"]

    def test_one_layer_called_twice_on_one_value_runs_once(self):
        def build(x):
            conv = layers.Conv2D(3, 3, activation="relu")
            return conv(x) + conv(x)

        graph, _ = assert_sanitizes(functional(build))
        # x + x is 2 * x, which goes through the ReLU into the kernel.
        assert kinds(graph) == ["conv2d", "relu"]

    def test_two_layers_with_equal_weights_stay_two(self):
        x = image = keras.Input((6, 6, 2))
        parts = [layers.Conv2D(2, 3, kernel_initializer="ones")(x) for _ in range(2)]
        graph, _ = assert_sanitizes(keras.Model(image, layers.Concatenate()(parts)), {})
        assert kinds(graph) == ["conv2d", "conv2d", "concat"]


class TestKernels:
    @pytest.mark.parametrize("filters", [4, 12])
    def test_groups_to_depthwise(self, filters):
        model = sequential(layers.Conv2D(filters, 3, groups=4, padding="same"))
        graph, _ = assert_sanitizes(model, {"groups to depthwise": 1})
        assert graph.nodes[-1].weights["kernel"].shape == (3, 3, 4, filters // 4)

    def test_two_groups_stay(self):
        graph, _ = assert_sanitizes(sequential(layers.Conv2D(6, 3, groups=2)), {})
        assert kinds(graph) == ["conv2d"]

    def test_depthwise_of_one_channel(self):
        model = sequential(layers.DepthwiseConv2D(3, depth_multiplier=5), shape=(9, 9, 1))
        graph, _ = assert_sanitizes(model, {"depthwise of one channel to convolution": 1})
        assert graph.nodes[-1].attrs["groups"] == 1

    def test_dense_on_a_map(self):
        graph, _ = assert_sanitizes(
            sequential(layers.Dense(5)), {"dense on a map to convolution": 1}
        )
        assert kinds(graph) == ["conv2d"]
        assert_sanitizes(sequential(layers.Dense(5), shape=(7, 3)), {})

    @pytest.mark.parametrize("size, strides, kernel", [
        (12, 1, 2), (12, 2, 2), (13, 2, 2), (12, 1, 4), (12, 2, 4), (13, 2, 4), (12, 2, 6),
        (12, 1, (2, 3)),
    ])  # fmt: skip
    def test_odd_kernels_only_for_hardware(self, size, strides, kernel):
        model = sequential(
            layers.Conv2D(3, kernel, strides=strides, padding="same"), shape=(size, size, 4)
        )
        assert_sanitizes(model, {})
        target = Target(odd_kernels=True)
        graph, _ = assert_sanitizes(model, target=target)
        padded = graph.nodes[-1].attrs["padding"] != "valid"
        odd = all(side % 2 for side in graph.nodes[-1].weights["kernel"].shape[:2])
        assert odd == padded


class TestMerges:
    def test_wide_merges_are_split_only_for_hardware(self):
        def build(x):
            parts = [layers.Conv2D(4, 1)(x) for _ in range(4)]
            return [layers.Add()(parts), layers.Concatenate()(parts)]

        model = functional(build)
        assert_sanitizes(model, {})
        graph, _ = assert_sanitizes(
            model, {"split add": 3 - 1, "split concat": 1}, target=Target("few", 2, 3)
        )
        assert kinds(graph).count("add") == 3 and kinds(graph).count("concat") == 2

    def test_targets_check_their_limits(self):
        with pytest.raises(ValueError, match="add_inputs is 1"):
            Target("bad", add_inputs=1)

    def test_subtract_of_weights_becomes_add(self):
        graph, _ = assert_sanitizes(functional(lambda x: x - layers.Conv2D(4, 1)(x)))
        assert kinds(graph) == ["conv2d", "add"]
        _, log = assert_sanitizes(functional(lambda x: layers.Conv2D(4, 1)(x) - layers.ReLU()(x)))
        assert "no weights" in log.refused[0].sentence

    def test_residual_scaling_folds(self):
        graph, _ = assert_sanitizes(functional(lambda x: x + layers.Conv2D(4, 1)(x) * 0.17))
        assert kinds(graph) == ["conv2d", "add"]
        assert np.isfinite(graph.nodes[1].weights["kernel"]).all()
