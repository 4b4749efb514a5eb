"""The transposed depthwise convolution: meaning, Keras layer, reading and writing."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from float_networks import assert_reads, sequential
from keras import layers

from sanitize import Graph, GraphError, Node, evaluate
from sanitize.keras_io.depthwise_transpose import DepthwiseConv2DTranspose

CASES = [
    (3, 2, "same", None, 1),
    (3, 2, "valid", None, 1),
    (2, 2, "valid", None, 1),
    (2, 3, "same", None, 1),
    ((4, 3), (2, 1), "same", None, 1),
    (3, 2, "same", (1, 1), 1),
    (3, (2, 3), "valid", (1, 2), 1),
    (3, 1, "same", None, 2),
    (5, 1, "valid", None, 2),
]


@pytest.mark.parametrize("kernel, strides, padding, output_padding, dilation", CASES)
def test_agrees_with_the_full_transposed_convolution(
    kernel, strides, padding, output_padding, dilation
):
    """One output per channel is a full kernel with zeros off the diagonal."""
    options = {
        "strides": strides,
        "padding": padding,
        "output_padding": output_padding,
        "dilation_rate": dilation,
    }
    mine = sequential(DepthwiseConv2DTranspose(kernel, **options), shape=(5, 6, 3))
    full = keras.Sequential([keras.Input((5, 6, 3)), layers.Conv2DTranspose(3, kernel, **options)])
    small, bias = (np.array(weight) for weight in mine.weights)
    full.set_weights([small * np.eye(3, dtype=np.float32), bias])
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)
    # Not every processor's kernels can dilate a transposed convolution; the compiler can.
    compute = full if dilation == 1 else tf.function(full, jit_compile=True)
    wanted = np.asarray(compute(x))
    assert np.allclose(np.asarray(mine(x)), wanted, atol=1e-5)
    assert mine.output_shape == full.output_shape
    graph = assert_reads(mine)
    assert graph.nodes[-1].kind == "depthwise_conv2d_transpose"
    assert np.allclose(evaluate(graph, x), wanted, atol=1e-5)


def test_several_outputs_per_channel_activation_and_saving(tmp_path):
    layer = DepthwiseConv2DTranspose(3, 2, "same", depth_multiplier=2, activation="relu")
    model = sequential(layer, shape=(5, 6, 3))
    assert model.output_shape == (None, 10, 12, 6)
    assert_reads(model)
    for ending in ("keras", "h5"):
        path = tmp_path / f"m.{ending}"
        model.save(path)
        x = np.ones((1, 5, 6, 3), np.float32)
        assert np.allclose(keras.models.load_model(path)(x), model(x))


def test_sizes_may_be_unknown():
    model = sequential(DepthwiseConv2DTranspose(3, 2, "same"), shape=(None, None, 3))
    assert model.predict(np.ones((1, 4, 5, 3)), verbose=0).shape == (1, 8, 10, 3)
    assert_reads(model)


def test_wrong_channels_and_padding_are_errors():
    image = Node("x", "input", attrs={"dtype": "float32"}, shape=(4, 4, 2))
    attrs = {"strides": (2, 2), "padding": "same", "dilation": (1, 1)}
    weights = {"kernel": np.ones((3, 3, 3, 1), np.float32)}
    node = Node("y", "depthwise_conv2d_transpose", ("x",), attrs, weights)
    with pytest.raises(GraphError, match="expects 3 channels"):
        Graph.build([image, node], ["x"], ["y"])
    with pytest.raises(ValueError, match="use 'same' or 'valid'"):
        DepthwiseConv2DTranspose(3, padding="causal")
