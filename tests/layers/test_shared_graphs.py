"""Layers that differ in nothing but their variables share the graph of their inference."""

import gc
import weakref

import keras
import numpy as np
import pytest
from keras import layers

import quantkeras
from quantkeras.layers import layer_calls
from quantkeras.layers.shared_graphs import SharedGraphs
from quantkeras.numerics.layer_windows import Pool, Window

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="graphs are TensorFlow's"
)


def network() -> keras.Model:
    """Three blocks of layers that repeat."""
    inputs = keras.Input((4, 4, 4))
    x = layers.Conv2D(4, 1)(inputs)
    for _ in range(3):
        y = layers.Conv2D(4, 3, padding="same", activation="relu6")(x)
        y = layers.DepthwiseConv2D(3, padding="same", activation="swish")(y)
        x = layers.Conv2D(4, 1, use_bias=False)(layers.Concatenate()([layers.Add()([x, y]), y]))
    return keras.Model(inputs, x)


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(5).normal(size=(8, 4, 4, 4)).astype(np.float32)


@pytest.fixture
def graphs(monkeypatch):
    """Shared graphs of this test alone."""
    found = SharedGraphs()
    monkeypatch.setattr(layer_calls, "_GRAPHS", found)
    return found


@pytest.fixture(scope="module")
def quantized(samples):
    keras.utils.set_random_seed(5)
    return quantkeras.quantize(network(), samples=samples)


def traced(model: keras.Model):
    function = tf.function(lambda x: model(x, training=False))
    return function.get_concrete_function(tf.TensorSpec((None, *model.inputs[0].shape[1:])))


@pytest.mark.slow
def test_a_shared_graph_gives_what_each_layer_gives_by_itself(quantized, samples, graphs):
    found = traced(quantized)
    calls = [op for op in found.graph.get_operations() if op.type == "PartitionedCall"]
    assert len(calls) == 2 * 5 - 1  # the first of a kind is traced in place; the last layer differs
    assert len({op.get_attr("f").name for op in calls}) == 5
    program = quantkeras.convert(quantized)
    np.testing.assert_array_equal(found(samples), program.predict(samples))
    np.testing.assert_array_equal(found(samples), quantized(samples, training=False))
    again = traced(quantized)
    assert len(again.graph.get_operations()) < 16 * len(quantized.layers)
    np.testing.assert_array_equal(again(samples), found(samples))


@pytest.mark.slow
def test_gradients_pass_through_shared_graphs(quantized, samples, graphs):
    variables = quantized.trainable_variables

    def gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(quantized(x, training=False) ** 2)
        return tape.gradient(loss, [v.value for v in variables])

    compiled = tf.function(gradients, autograph=False).get_concrete_function(
        tf.TensorSpec(samples.shape)
    )
    for found, wanted in zip(compiled(samples), gradients(samples), strict=True):
        assert (found is None) == (wanted is None)
        if wanted is not None:
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_shared_graph_does_not_hold_what_it_was_traced_from(graphs):
    class Owner:
        def double(self, x):
            return [2 * x]

    owner = Owner()
    kept = weakref.ref(owner)
    tf.function(lambda x, run=owner.double: [graphs.run(0, run, [x], [], []) for _ in range(3)])(
        tf.ones((1, 1))
    )
    assert None not in graphs._graphs.values()
    del owner
    gc.collect()
    assert kept() is None


def test_what_reads_a_variable_that_was_not_named_is_not_shared(graphs):
    named, hidden = (keras.Variable([value]) for value in (2.0, 3.0))

    @tf.function
    def step(x):
        return [graphs.run(0, lambda x: [x * named * hidden], [x], [], [named])[0] for _ in "abc"]

    for value in (5.0, 7.0):
        hidden.assign([value])
        np.testing.assert_array_equal(step(tf.ones((1, 1))), [[[2 * value]]] * 3)
    assert list(graphs._graphs.values()) == [None]


@pytest.mark.parametrize(
    "setting",
    [
        {"carrier": "float64"},
        {"rescale_carrier": "float64"},
        {"scale_bits": 6},
        {"relu": False},
        {"clip": True},
        {"pool": True},
        {"bits": 4},
        {"signed": True},
        {"weight_bits": 4},
        {"learned": True},
        {"spread": 1},
    ],
    ids=str,
)
def test_layers_of_other_settings_are_described_in_another_way(quantized, setting, monkeypatch):
    layer = next(x for x in quantized.layers if type(x).__name__ == "QuantizedConv2D" and x.relu)
    plain = layer._description()
    assert plain == layer._description()
    quantizer = layer.output_quantizer
    changes = {
        "clip": lambda: monkeypatch.setattr(layer, "max_value", None),
        "pool": lambda: monkeypatch.setattr(layer, "pool", Pool("max", Window((2, 2)))),
        "bits": lambda: monkeypatch.setattr(quantizer, "bits", 4),
        "signed": lambda: monkeypatch.setattr(quantizer, "signed", True),
        "weight_bits": lambda: monkeypatch.setattr(layer.weight_quantizer, "bits", 4),
        "learned": lambda: monkeypatch.setattr(quantizer, "_range_mode", "learned"),
        "spread": lambda: monkeypatch.setattr(quantizer, "max_spread", 1),
    }
    ((name, value),) = setting.items()
    changes.get(name, lambda: monkeypatch.setattr(layer, name, value))()
    assert layer._description() != plain
