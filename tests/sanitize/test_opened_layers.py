"""Layers and models that are Python functions over Keras layers: read by calling them."""

import keras
import numpy as np
import pytest
from float_networks import assert_sanitizes, randomized, sequential
from keras import layers, ops

from sanitize import GraphError, evaluate, read_keras
from sanitize.keras_io.keras_reading import read_model


class Block(layers.Layer):
    """Holds layers only."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(filters, 3, padding="same", name="conv")
        self.norm = layers.BatchNormalization(name="norm")

    def call(self, x, training=None):
        return ops.relu(self.norm(self.conv(x), training=training))


class LayerScale(layers.Layer):
    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), name="gamma")

    def call(self, x):
        return x * self.gamma


class LearnableAffine(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(), name="scale")
        self.offset = self.add_weight(shape=(), name="offset")

    def call(self, x):
        return x * self.scale + self.offset


class Residual(layers.Layer):
    """A model in a layer in a layer, and two inputs."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.branch = keras.Sequential([layers.Conv2D(4, 1), Block(4, name="inner")])
        self.scale = LayerScale(name="scale")

    def call(self, tensors):
        x, y = tensors
        return self.scale(self.branch(x)) + y


class Patches(layers.Layer):
    """Asks for the size of the batch as a number."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)

    def call(self, x):
        n, h, w, c = x.shape
        return self.dense(ops.reshape(x, (n, h * w, c)))


class Net(keras.Model):
    def __init__(self):
        super().__init__(name="net")
        self.block = Block(4, name="block")
        self.head = layers.Dense(3, name="head")

    def call(self, x):
        return self.head(ops.mean(self.block(x), axis=(1, 2)))


class Branches(keras.Model):
    def call(self, x):
        return x * 2.0 if float(ops.max(x)) > 0 else x


def functional(body, shape):
    x = keras.Input(shape)
    return keras.Model(x, body(x))


def kinds(graph):
    return [node.kind for node in graph if node.kind != "input"]


def assert_same(model, graph, *arrays):
    inputs = list(arrays) if len(arrays) > 1 else arrays[0]
    wanted = np.asarray(model(inputs, training=False))
    np.testing.assert_allclose(evaluate(graph, inputs), wanted, rtol=1e-4, atol=1e-5)


def batch(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(3, *shape)).astype(np.float32)


def test_a_layer_that_holds_layers():
    model = sequential(Block(4, name="one"), Block(5, name="two"), shape=(6, 6, 3))
    reading = read_model(model, verify=True)
    assert kinds(reading.graph) == ["conv2d", "batchnorm", "relu"] * 2
    assert {node.source for node in reading.graph.nodes[1:]} == {("one",), ("two",)}
    assert reading.graph.nodes[-1].name == "two"
    assert [entry.layer for entry in reading.conversions] == ["one", "two"]
    assert_same(model, reading.graph, batch(6, 6, 3))
    assert_sanitizes(model)


@pytest.mark.parametrize("layer, many", [(LayerScale, 1), (LearnableAffine, 2)])
def test_an_affine_map_with_weights(layer, many):
    model = sequential(layers.Conv2D(4, 3), layer(name="affine"), shape=(6, 6, 3))
    graph = read_model(model, verify=True).graph
    assert kinds(graph) == ["conv2d"] + ["affine"] * many
    assert_same(model, graph, batch(6, 6, 3))
    sanitized, _ = assert_sanitizes(model)
    assert kinds(sanitized) == ["conv2d"]


def test_layers_in_models_in_layers():
    x = keras.Input((5, 5, 4))
    model = randomized(keras.Model(x, Residual(name="res")([x, layers.Conv2D(4, 1)(x)])))
    graph = read_model(model, verify=True).graph
    assert "opaque" not in kinds(graph)
    assert graph["res"].kind == "add"
    assert_same(model, graph, batch(5, 5, 4))


def test_a_layer_that_is_called_twice_keeps_one_set_of_weights():
    scale, block = LayerScale(name="scale"), Block(4, name="block")
    model = functional(lambda x: scale(block(x)) - scale(block(scale(x))), shape=(5, 5, 4))
    graph = read_model(randomized(model), verify=True).graph
    assert len({node.share for node in graph if node.kind == "conv2d"}) == 1
    assert len({node.share for node in graph if node.kind == "affine"}) == 1
    assert all(node.share for node in graph if node.weights)
    assert_same(model, graph, batch(5, 5, 4))


def test_a_layer_that_asks_for_the_size_of_the_batch():
    x = keras.Input((4, 4, 3), batch_size=2)
    model = keras.Model(x, Patches(name="patches")(x))
    assert kinds(read_model(model, verify=True).graph) == ["reshape", "dense"]


def test_a_subclass_of_model_built_or_not():
    model, x = Net(), batch(6, 6, 3)
    graph = read_model(model, verify=True, shapes=(6, 6, 3)).graph
    assert kinds(graph) == ["conv2d", "batchnorm", "relu", "global_avg_pool", "dense"]
    assert_same(model, graph, x)
    again = read_keras(model)
    assert [node.name for node in again] == [node.name for node in graph]
    inside = functional(lambda t: layers.Dense(2)(model(t)), shape=(6, 6, 3))
    assert "opaque" not in kinds(read_model(inside, verify=True).graph)


def test_what_is_in_the_model_is_not_changed():
    model = functional(lambda x: Block(4, name="block")(x), shape=(6, 6, 3))
    x = batch(6, 6, 3)
    before = [np.asarray(model(x)), *model.get_weights()]
    config = model.get_config()
    read_model(model, verify=True)
    for one, other in zip(before, [np.asarray(model(x)), *model.get_weights()], strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.get_config() == config and model.losses == []


def test_a_sequential_that_is_not_built():
    model = keras.Sequential([layers.Dense(3), layers.ReLU()])
    with pytest.raises(GraphError, match="not built.*shapes="):
        read_keras(model)
    assert kinds(read_keras(model, shapes=(4,))) == ["dense", "relu"]


def test_what_cannot_be_read_says_so():
    model = Branches(name="branches")
    with pytest.raises(GraphError, match="'branches' .* not known: call it once"):
        read_keras(model)
    model(batch(4))
    with pytest.raises(GraphError, match="'branches' .* symbolic tensor .* functional model"):
        read_keras(model)


def test_open_sizes_are_those_that_are_given():
    def body(x):
        x = layers.Conv2D(4, 3)(x)
        inner = keras.Input((None, None, 4))
        flat = keras.Model(inner, layers.Reshape((-1, 4))(layers.Conv2D(4, 1)(inner)), name="in")
        return flat(x)

    model = functional(body, shape=(None, None, 3))
    graph = read_model(model, verify=True, shapes=(8, 7, 3)).graph
    assert graph.shape_of(graph.outputs[0]) == (30, 4)
    assert_same(model, graph, batch(8, 7, 3))
    with pytest.raises(GraphError, match=r"gives \(8, 7, 4\) for the input"):
        read_model(model, shapes=(8, 7, 4))
    with pytest.raises(GraphError, match="names"):
        read_model(model, shapes={"nobody": (8, 7, 3)})


def test_an_activation_that_is_not_known_stands_behind_its_layer():
    def running(x):
        return ops.cumsum(x, axis=-1)

    model = sequential(layers.Dense(3, activation=running, name="d"), shape=(4,))
    graph = read_model(model, verify=True).graph
    assert kinds(graph) == ["dense", "opaque"]
    assert "its activation 'running' is not element-wise" in graph["d"].attrs["reason"]
    model = sequential(layers.Conv1D(3, 2, activation=running), shape=(6, 4))
    graph = read_model(model, verify=True).graph
    assert kinds(graph) == ["reshape", "conv2d", "reshape", "opaque"]
