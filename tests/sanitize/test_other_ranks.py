"""Layers along one axis and along three, read as layers along two."""

import pytest
from float_networks import assert_reads, assert_sanitizes, kinds, randomized, sequential
from keras import Input, Model, layers
from parameters import slow

SEQUENCE = {
    "depthwise": lambda: layers.DepthwiseConv1D(3, 2, "same", depth_multiplier=2),
    "depthwise dilated": lambda: layers.DepthwiseConv1D(3, dilation_rate=2, activation="relu"),
    "separable": lambda: layers.SeparableConv1D(6, 3, padding="same", activation="relu6"),
    "separable dilated": lambda: layers.SeparableConv1D(6, 3, dilation_rate=2),
    "transpose": lambda: layers.Conv1DTranspose(3, 3, strides=2, padding="same"),
    "transpose valid": lambda: layers.Conv1DTranspose(3, 4, strides=3),
    "transpose padded": lambda: layers.Conv1DTranspose(3, 3, 2, "same", output_padding=1),
    "convolution": lambda: layers.Conv1D(6, 3, strides=2, padding="same", groups=2),
    "causal": lambda: layers.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="tanh"),
    "max pool": lambda: layers.MaxPooling1D(3, 2, "same"),
    "average pool": lambda: layers.AveragePooling1D(3, 2, "same"),
    "global": lambda: layers.GlobalMaxPooling1D(),
}


@pytest.mark.parametrize("name", SEQUENCE)
def test_along_one_axis(name):
    model = sequential(SEQUENCE[name](), shape=(11, 4))
    graph = assert_reads(model, round_trip=False)
    assert "opaque" not in kinds(graph)
    assert_sanitizes(model)


VOLUME = {
    "convolution": lambda: layers.Conv3D(5, (1, 3, 3), padding="same", activation="relu"),
    "all taps": lambda: layers.Conv3D(5, 3, strides=2, padding="same"),
    "even taps": lambda: layers.Conv3D(4, (4, 3, 2), padding="same", groups=2),
    "dilated": lambda: layers.Conv3D(5, 3, padding="same", dilation_rate=2),
    "valid": lambda: layers.Conv3D(5, (1, 3, 2)),
    "transpose": lambda: layers.Conv3DTranspose(3, 3, strides=(1, 2, 2), padding="same"),
    "transpose valid": lambda: layers.Conv3DTranspose(3, (1, 3, 2), strides=(1, 2, 2)),
    "max pool": lambda: layers.MaxPooling3D((1, 2, 2)),
    "max pool same": lambda: layers.MaxPooling3D(3, 2, padding="same"),
    "average pool": lambda: layers.AveragePooling3D((1, 2, 3), (1, 2, 1), padding="same"),
    "global mean": lambda: layers.GlobalAveragePooling3D(),
    "global maximum": lambda: layers.GlobalMaxPooling3D(keepdims=True),
    "padding": lambda: layers.ZeroPadding3D(((0, 0), (1, 2), (0, 1))),
    "cropping": lambda: layers.Cropping3D(((0, 0), (1, 0), (2, 1))),
    "upsampling": lambda: layers.UpSampling3D((1, 2, 3)),
}


#: As along one axis, or another form of one that is there.
FORMS = ("cropping", "dilated", "even taps", "max pool same", "padding", "transpose", "valid")


@pytest.mark.parametrize("name", [*(name for name in VOLUME if name not in FORMS), *slow(*FORMS)])
@pytest.mark.parametrize("axis", [1, *slow(0, 2)])
def test_along_three_axes_of_which_one_has_size_one(name, axis):
    layer = VOLUME[name]()
    shape = [7, 6]
    shape.insert(axis, 1)
    config = layer.get_config()
    for key in ("kernel_size", "strides", "pool_size", "padding", "cropping", "size"):
        if isinstance(config.get(key), (tuple, list)):
            first, *rest = config[key]
            rest.insert(axis, first)
            config[key] = tuple(rest)
    model = sequential(type(layer).from_config(config), shape=(*shape, 4))
    graph = assert_reads(model, round_trip=False)
    assert "opaque" not in kinds(graph)
    assert_sanitizes(model)


@pytest.mark.parametrize("layer", [layers.Conv3D(5, 2), layers.MaxPooling3D((1, 2, 2))])
def test_three_axes_stay_opaque(layer):
    assert_reads(sequential(layer, shape=(3, 6, 6, 2)), opaque=1)


def test_the_mean_of_any_volume():
    model = sequential(layers.GlobalAveragePooling3D(), layers.Dense(2), shape=(3, 4, 5, 2))
    graph, _ = assert_sanitizes(model)
    assert kinds(graph) == ["reshape", "global_avg_pool", "dense"]


def test_a_network_of_one_frame_leaves_two_reshapes():
    model = sequential(
        layers.Conv3D(4, (1, 3, 3), padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling3D((1, 2, 2)),
        layers.Conv3D(3, (1, 3, 3)),
        layers.BatchNormalization(),
        layers.PReLU(shared_axes=[1, 2, 3]),
        layers.GlobalAveragePooling3D(),
        layers.Dense(2),
        shape=(1, 10, 10, 3),
    )
    graph, _ = assert_sanitizes(model)
    assert kinds(graph) == [
        "reshape", "conv2d", "max_pool", "relu", "conv2d", "activation", "global_avg_pool", "dense",
    ]  # fmt: skip


@pytest.mark.parametrize("rank", [1, 3])
def test_residual_networks_of_other_ranks(rank):
    conv = {1: layers.Conv1D, 3: layers.Conv3D}[rank]
    kernel = 3 if rank == 1 else (1, 3, 3)
    x = image = Input((12, 3) if rank == 1 else (1, 8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization()(conv(4, kernel, padding="same")(x)))
    y = layers.BatchNormalization()(conv(4, kernel, padding="same")(x))
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Concatenate()([x, conv(2, kernel, padding="same")(x)])
    graph, _ = assert_sanitizes(randomized(Model(image, conv(2, kernel)(x))))
    assert kinds(graph) == [
        "reshape", "conv2d", "relu", "conv2d", "add", "relu", "conv2d", "concat", "conv2d",
        "reshape",
    ]  # fmt: skip
