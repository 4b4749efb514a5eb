"""Formats of symbolic tensors: they follow movements, and quantized layers ask for them."""

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact
from keras import layers

from quantkeras.errors import QuantizationError
from quantkeras.layers import (
    Dequantizer,
    InputQuantizer,
    OutputQuantizer,
    QuantizedDense,
    QuantizedReLU,
    format_of,
)
from quantkeras.qmodel import layer_node
from sanitize.keras_io import read_keras, write_keras

STEPS = np.array([0.25, 0.5, 1.0])


def quantized(shape=(4, 5, 3)):
    """A tensor with one step per channel."""
    quantizer = InputQuantizer(bits=8)
    tensor = quantizer(keras.Input(shape))
    quantizer.set_range(STEPS * 128)
    return tensor


def steps(tensor):
    """The step of every element."""
    found = format_of(tensor)
    return np.broadcast_to(as_numpy(found.lsb()), found.shape)


FULL = np.broadcast_to(STEPS, (4, 5, 3))


@pytest.mark.parametrize(
    ("movement", "expected"),
    [
        (layers.Flatten(), FULL.reshape(-1)),
        (layers.Reshape((20, 3)), FULL.reshape(20, 3)),
        (layers.Reshape((2, 30)), FULL.reshape(2, 30)),
        (layers.Permute((2, 1, 3)), FULL.transpose(1, 0, 2)),
        (layers.Permute((3, 1, 2)), FULL.transpose(2, 0, 1)),
        (layers.MaxPooling2D(2), np.broadcast_to(STEPS, (2, 2, 3))),
        (layers.ZeroPadding2D(1), np.broadcast_to(STEPS, (6, 7, 3))),
        (layers.Dropout(0.5), FULL),
        (layers.UpSampling2D((2, 1)), np.broadcast_to(STEPS, (8, 5, 3))),
        (layers.Cropping2D(((1, 0), (2, 1))), np.broadcast_to(STEPS, (3, 2, 3))),
    ],
)
def test_formats_follow_movements(movement, expected):
    np.testing.assert_array_equal(steps(movement(quantized())), expected)


def test_formats_follow_two_movements():
    moved = layers.Permute((3, 2, 1))(layers.Permute((3, 1, 2))(quantized()))
    np.testing.assert_array_equal(steps(moved), FULL.transpose(2, 0, 1).transpose(2, 1, 0))


def test_formats_follow_a_crop_of_moved_channels():
    moved = layers.Cropping2D(((1, 0), (0, 2)))(layers.Permute((3, 1, 2))(quantized()))
    np.testing.assert_array_equal(steps(moved), FULL.transpose(2, 0, 1)[1:, :2])


@pytest.mark.parametrize(
    "key",
    [
        (slice(1, None), slice(None, None, 2)),
        (..., slice(None, None, -1)),
        (..., slice(1, 2)),
        (..., 0),
        (slice(None), 2, slice(0, 2)),
        (-1,),
    ],
)
@pytest.mark.parametrize("dims", [None, (3, 1, 2)])
def test_formats_follow_slices(key, dims):
    """As the writer of models writes them."""
    inputs = keras.Input((4, 5, 3))
    x = inputs if dims is None else layers.Permute(dims)(inputs)
    graph = read_keras(keras.Model(inputs, x[(slice(None), *key)]))
    source = next(iter(graph))
    quantizer = InputQuantizer(bits=8)
    node = layer_node(quantizer, "steps", (source.name,), (4, 5, 3))
    moves = [
        n.with_(inputs=("steps",) if n.inputs == (source.name,) else n.inputs) for n in [*graph][1:]
    ]
    written = write_keras(graph.with_nodes([source, node, *moves]))
    quantizer.set_range(STEPS * 128)
    wanted = FULL if dims is None else FULL.transpose(2, 0, 1)
    np.testing.assert_array_equal(steps(written.outputs[0]), wanted[key])


def test_positions_of_unlike_formats_are_not_joined():
    tensor = layers.MaxPooling2D(2)(layers.Permute((3, 1, 2))(quantized()))
    with pytest.raises(QuantizationError, match="differ by position.*per_channel=False"):
        format_of(tensor)


@pytest.mark.parametrize("layer", [layers.ZeroPadding2D(1), layers.UpSampling2D(2)])
def test_positions_of_unlike_formats_may_be_padded_and_repeated(layer, rng):
    quantizer, inputs = InputQuantizer(bits=8), keras.Input((4, 5, 3))
    x = layer(layers.Permute((3, 1, 2))(quantizer(inputs)))
    output = OutputQuantizer(signed=True)
    model = keras.Model(inputs, Dequantizer()(QuantizedReLU(output_quantizer=output)(x)))
    quantizer.set_range(STEPS * 128)
    output.set_range(np.full(x.shape[-1:], 128.0))
    assert_exact(model, rng.normal(0, 40, (4, 4, 5, 3)).astype(np.float32))


@pytest.mark.parametrize("size", [None, 6])
def test_maps_of_any_size_keep_their_channels(size):
    moves = [
        layers.ZeroPadding2D(1),
        layers.UpSampling2D(2),
        layers.MaxPooling2D(2),
        layers.Cropping2D(1),
        layers.Permute((2, 1, 3)),
        layers.Reshape((-1, 3)),
    ]
    x = quantized((size, size, 3))
    for move in moves:
        x = move(x)
    np.testing.assert_array_equal(as_numpy(format_of(x).lsb()), STEPS)


def test_float_layers_have_no_format():
    assert format_of(layers.Activation("tanh")(quantized())) is None
    with pytest.raises(QuantizationError, match="'head' needs quantized inputs, but .*Quantizer"):
        QuantizedDense(2, name="head")(keras.Input((3,)))


def test_a_layer_without_a_model_does_not_know_its_input():
    layer = QuantizedReLU(name="alone")
    with pytest.raises(QuantizationError, match="'alone' does not know the format of its input"):
        layer(np.ones((1, 3), np.float32))
