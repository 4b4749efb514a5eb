"""Networks with channels first: read as channels last, with one permute at either end."""

import keras
import numpy as np
import pytest
from float_networks import randomized
from keras import layers

from sanitize import differences, evaluate, read_keras, sanitize_graph, write_keras

FIRST = {"data_format": "channels_first"}


def network(first):
    """The same network in either order of axes."""
    order = FIRST if first else {}
    axis = 1 if first else -1
    shared = [2, 3] if first else [1, 2]
    image = keras.Input((3, 8, 8) if first else (8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", **order)(image)
    x = layers.ReLU()(layers.BatchNormalization(axis=axis)(x))
    y = layers.Conv2D(4, 3, padding="same", **order)(layers.ZeroPadding2D(1, **order)(x))
    y = layers.PReLU(shared_axes=shared)(layers.Cropping2D(1, **order)(y))
    x = layers.Concatenate(axis=axis)([layers.Add()([x, y]), x])
    x = layers.MaxPooling2D(2, **order)(layers.UpSampling2D(2, **order)(x))
    x = layers.DepthwiseConv2D(3, activation="relu", **order)(x)
    mean = layers.GlobalAveragePooling2D(**order)(x)
    flat = layers.Dense(2)(layers.Flatten(**order)(x))
    maps = layers.Conv2D(2, 1, **order)(x)
    return randomized(keras.Model(image, [layers.Dense(3)(mean), flat, maps]))


@pytest.fixture(scope="module")
def graphs():
    last = read_keras(network(first=False))
    model = network(first=True)
    for one, other in zip(model.weights, network(first=False).weights, strict=True):
        one.assign(np.asarray(other).reshape(one.shape))
    return last, read_keras(model)


def test_both_orders_compute_the_same(graphs):
    last, first = graphs
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
    wanted = evaluate(last, x)
    found = evaluate(first, np.moveaxis(x, -1, 1))
    assert not any(node.kind == "opaque" for node in first)
    for one, other in zip(wanted[:2], found[:2], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.moveaxis(wanted[2], -1, 1), found[2], rtol=1e-4, atol=1e-5)


def test_permutes_are_left_at_the_ends_only(graphs):
    last, _ = sanitize_graph(graphs[0])
    first, _ = sanitize_graph(graphs[1])
    permutes = [node for node in first if node.kind == "permute"]
    assert [node.inputs[0] == first.inputs[0] for node in permutes] == [True, False]
    assert permutes[1].name == first.outputs[2]
    kinds = [sorted(n.kind for n in g if n.kind != "permute") for g in (last, first)]
    assert kinds[0] == kinds[1]


def test_a_mean_and_a_pool_of_other_ranks():
    for shape, layer in (
        ((3, 6), layers.MaxPooling1D(2, **FIRST)),
        ((3, 6), layers.Conv1D(2, 3, **FIRST)),
        ((3, 1, 4, 4), layers.AveragePooling3D((1, 2, 2), **FIRST)),
        ((3, 4, 4), layers.GlobalMaxPooling2D(keepdims=True, **FIRST)),
        ((5, 4, 3), layers.BatchNormalization(axis=2)),
    ):
        x = keras.Input(shape)
        graph = read_keras(keras.Model(x, layer(x)))
        assert "opaque" not in [node.kind for node in graph]
        assert graph.shape_of(graph.outputs[0]) == tuple(layer(x).shape[1:])


def test_a_global_format_of_channels_first_is_no_business_of_ordinary_models(graphs):
    keras.config.set_image_data_format("channels_first")
    try:
        written = write_keras(graphs[0])
        again = read_keras(written)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert differences(sanitize_graph(graphs[0])[0], sanitize_graph(again)[0]) == []
