"""The law of the reader and the writer, layer by layer and on whole networks."""

import keras
import numpy as np
import pytest
from float_networks import (
    assert_reads,
    mobilenet_like,
    randomized,
    resnet_like,
    sequential,
)
from keras import layers, ops
from parameters import slow

from sanitize import differences, evaluate
from sanitize.keras_io import read_keras, write_keras

LAYERS = {
    "conv": lambda: layers.Conv2D(5, (3, 2), strides=(2, 1), padding="same"),
    "conv dilated": lambda: layers.Conv2D(5, 3, dilation_rate=2, use_bias=False, padding="same"),
    "conv groups": lambda: layers.Conv2D(6, 3, groups=2, activation="relu"),
    "depthwise": lambda: layers.DepthwiseConv2D(5, strides=2, padding="same", depth_multiplier=2),
    "separable": lambda: layers.SeparableConv2D(5, 3, depth_multiplier=2, activation="tanh"),
    "dense on a map": lambda: layers.Dense(3, activation=layers.ReLU(3.0)),
    "norm": lambda: layers.BatchNormalization(epsilon=0.01),
    "norm plain": lambda: layers.BatchNormalization(center=False, scale=False),
    "max pool": lambda: layers.MaxPooling2D(3, 2, padding="same"),
    "average pool": lambda: layers.AveragePooling2D((3, 2), 2, padding="same"),
    "global average": lambda: layers.GlobalAveragePooling2D(),
    "global average map": lambda: layers.GlobalAveragePooling2D(keepdims=True),
    "global max": lambda: layers.GlobalMaxPooling2D(),
    "zero padding": lambda: layers.ZeroPadding2D(((1, 2), (0, 3))),
    "cropping": lambda: layers.Cropping2D(((1, 2), (0, 3))),
    "upsampling": lambda: layers.UpSampling2D((2, 3)),
    "permute": lambda: layers.Permute((3, 1, 2)),
    "reshape": lambda: layers.Reshape((6, -1)),
    "flatten": lambda: layers.Flatten(),
    "rescaling": lambda: layers.Rescaling(0.5, [1.0, 2.0, 3.0, 4.0]),
    "dropout": lambda: layers.Dropout(0.5),
    "noise": lambda: layers.GaussianNoise(0.5),
    "relu capped": lambda: layers.ReLU(1.5),
    "relu general": lambda: layers.ReLU(2.0, 0.1, 0.5),
    "leaky relu": lambda: layers.LeakyReLU(0.3),
    "elu": lambda: layers.ELU(0.7),
    "prelu": lambda: layers.PReLU(),
    "prelu per channel": lambda: layers.PReLU(shared_axes=[1, 2]),
    "softmax": lambda: layers.Softmax(),
    "softmax of rows": lambda: layers.Softmax(axis=2),
    "activation layer": lambda: layers.Activation(layers.LeakyReLU(0.1)),
    "lambda relu": lambda: layers.Lambda(lambda x: ops.maximum(x, 0.0)),
    "lambda affine": lambda: layers.Lambda(lambda x: (x - 0.5) * 2.0),
    "lambda swish": lambda: layers.Lambda(lambda x: x * ops.sigmoid(x)),
}
FUNCTIONS = [
    "relu",
    "relu6",
    "sigmoid",
    "tanh",
    "silu",
    "hard_sigmoid",
    "hard_silu",
    "selu",
    "softplus",
    "softsign",
    "mish",
    "elu",
    "gelu",
    "leaky_relu",
    "celu",
    "exponential",
    "log_sigmoid",
    "hard_tanh",
    "linear",
    "softmax",
]
#: Of each its formula, layer and name are compared in test_activation_reading.py.
OTHER_FUNCTIONS = [name for name in FUNCTIONS[4:] if name != "linear"]
OPAQUE = {
    "bilinear": lambda: layers.UpSampling2D(2, interpolation="bilinear"),
    "layer norm": lambda: layers.LayerNormalization(),
    "lambda of rows": lambda: layers.Lambda(lambda x: ops.cumsum(x, axis=1)),
    "softmax of a map": lambda: layers.Softmax(axis=(1, 2)),
    "sparsemax": lambda: layers.Activation("sparsemax"),
    "unit length": lambda: layers.UnitNormalization(),
}
OPERATIONS = {
    "plus tensor": lambda x: x + x * 2.0,
    "plus array": lambda x: x + np.arange(4, dtype="float32"),
    "constant minus": lambda x: 1.0 - x,
    "division": lambda x: x / 3.0,
    "negative": lambda x: -x,
    "square": lambda x: ops.square(x),
    "relu": lambda x: ops.relu(x),
    "relu with a ceiling": lambda x: keras.activations.relu(x, max_value=1.5),
    "leaky": lambda x: ops.leaky_relu(x, 0.1),
    "gelu": lambda x: ops.gelu(x),
    "clip": lambda x: ops.clip(x, 0.0, 2.0),
    "maximum with zero": lambda x: ops.maximum(x, 0.0),
    "minimum": lambda x: ops.minimum(x, x * 0.5),
    "rows": lambda x: x[:, 1:],
    "index": lambda x: x[:, 2, ..., 1:3],
    "stride": lambda x: x[:, ::2, -5:-1],
    "mean over the map": lambda x: ops.mean(x, axis=(1, 2)),
    "max over the map": lambda x: ops.max(x, axis=(-3, -2), keepdims=True),
    "reshape": lambda x: ops.reshape(x, (-1, 48, 12)),
    "transpose": lambda x: ops.transpose(x, (0, 2, 1, 3)),
    "concatenate": lambda x: ops.concatenate([x, x * 2.0], axis=-1),
    "expand and squeeze": lambda x: ops.squeeze(ops.expand_dims(x, 1), 1),
    "pad": lambda x: ops.pad(x, ((0, 0), (1, 1), (2, 0), (0, 0))),
    "pad with ones": lambda x: ops.pad(x, ((0, 0), (1, 1), (2, 0), (0, 0)), constant_values=1.0),
    "max pool": lambda x: ops.max_pool(x, 2),
    "softmax": lambda x: ops.softmax(x, axis=-1),
}
OPAQUE_OPERATIONS = {
    "einsum": lambda x: ops.einsum("bhwc,bhwd->bcd", x, x),
    "sorted": lambda x: ops.sort(x, axis=1),
    "log softmax": lambda x: ops.log_softmax(x),
    "reflected": lambda x: ops.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)), mode="reflect"),
    "product of tensors": lambda x: ops.matmul(x, ops.transpose(x, (0, 1, 3, 2))),
}


def functional(build, shape=(12, 12, 4)):
    x = keras.Input(shape)
    return randomized(keras.Model(x, build(x)))


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    assert_reads(sequential(LAYERS[name]()))


@pytest.mark.parametrize("name", [*FUNCTIONS[:4], "linear", *slow(*OTHER_FUNCTIONS)])
def test_activations_by_name_and_fused(name):
    graph = assert_reads(sequential(layers.Activation(name), layers.Dense(3, activation=name)))
    assert ("activation" in graph.nodes[-1].attrs) == (name != "linear")


@pytest.mark.parametrize("name", OPAQUE)
def test_what_is_not_known_is_opaque(name):
    graph = assert_reads(sequential(layers.Conv2D(4, 1), OPAQUE[name](), layers.ReLU()), opaque=1)
    node = next(node for node in graph if node.kind == "opaque")
    assert isinstance(node.attrs["layer"], keras.layers.Layer)
    # That layers of a class are not known goes without saying.
    assert bool(node.attrs["reason"]) == (name not in ("layer norm", "unit length"))


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name):
    assert_reads(functional(OPERATIONS[name]))


@pytest.mark.parametrize("name", OPAQUE_OPERATIONS)
def test_unknown_operations_are_opaque(name):
    graph = assert_reads(functional(OPAQUE_OPERATIONS[name]), opaque=1)
    told = name in ("reflected", "product of tensors")
    assert bool(graph.nodes[-1].attrs["reason"]) == told


@pytest.mark.parametrize("kernel, stride, padding, extra", [
    (3, 2, "same", None), (2, 2, "valid", None), (4, 2, "same", None), (3, 1, "same", None),
    ((3, 2), (2, 3), "valid", None), (3, 2, "same", 1), (3, 2, "valid", (1, 0)),
    (1, 2, "same", None), (5, 3, "same", None),
])  # fmt: skip
def test_transposed_convolutions(kernel, stride, padding, extra):
    layer = layers.Conv2DTranspose(3, kernel, strides=stride, padding=padding, output_padding=extra)
    assert_reads(sequential(layer, shape=(6, 5, 4)))


def test_normalization_layer():
    data = np.random.default_rng(0).normal(2.0, 3.0, size=(16, 5, 5, 4)).astype("float32")
    for layer in (layers.Normalization(), layers.Normalization(invert=True)):
        layer.adapt(data)
        x = keras.Input((5, 5, 4))
        graph = assert_reads(keras.Model(x, layer(x)))
        assert graph.nodes[-1].weights["scale"].shape == (4,)


def test_layers_along_one_axis():
    for layer in (
        layers.Conv1D(4, 3, strides=2, padding="same", activation="relu"),
        layers.MaxPooling1D(2),
        layers.AveragePooling1D(3, 2, padding="same"),
        layers.GlobalAveragePooling1D(),
        layers.GlobalMaxPooling1D(keepdims=True),
    ):
        assert_reads(sequential(layer, shape=(20, 3)))
    causal = layers.Conv1D(4, 3, padding="causal", dilation_rate=2)
    assert_reads(sequential(causal, shape=(20, 3)), round_trip=False)


def test_merges():
    def build(x):
        y = layers.Conv2D(4, 1)(x)
        gate = layers.GlobalAveragePooling2D(keepdims=True)(y)
        parts = [
            layers.Add()([x, y, x]),
            layers.Average()([x, y, x]),
            layers.Multiply()([y, gate]),
            layers.Subtract()([x, y]),
            layers.Maximum()([x, y]),
            layers.Minimum()([x, y]),
            layers.Concatenate()([x, y]),
            layers.Concatenate(axis=1)([x, y]),
        ]
        return parts

    assert_reads(functional(build))


def test_unknown_spatial_size():
    graph = assert_reads(
        sequential(
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            shape=(None, None, 3),
        )
    )
    assert graph.nodes[1].shape == (None, None, 4)


def test_integer_input_keeps_its_type():
    image = keras.Input((4, 4, 3), dtype="uint8")
    model = keras.Model(image, layers.Conv2D(2, 3)(layers.Rescaling(1 / 255)(image)))
    graph = read_keras(model)
    assert graph.nodes[0].attrs["dtype"] == "uint8"
    x = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype("uint8")
    assert np.allclose(evaluate(graph, x), np.asarray(model(x)), atol=1e-5)
    assert differences(graph, read_keras(write_keras(graph))) == []


@pytest.mark.parametrize("build", [resnet_like, mobilenet_like])
def test_networks(build):
    assert_reads(build())
