"""A quantized model is read once: what a reading tells, and that verbs take it for the model."""

import keras
import numpy as np
import pytest
from keras import layers

import quantkeras as qk
from quantkeras.errors import QuantizationError
from quantkeras.layers import QuantizedAdd, QuantizedConv2D, QuantizedDense
from quantkeras.qmodel import QuantizedGraph, layer_of, reading, rounding_layer

X = np.linspace(-1, 1, 16 * 8 * 8 * 3, dtype=np.float32).reshape(16, 8, 8, 3)
ROWS = X.reshape(-1, 4)[::10]


class Cumulated(layers.Layer):
    """A layer that has no integer form."""

    def call(self, x):
        return keras.ops.cumsum(x, axis=-1)

    def compute_output_shape(self, shape):
        return shape


def network():
    """A shared layer, a join, a float layer with integers behind it, and two outputs."""
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu", name="first")(image)
    shared = layers.Conv2D(4, 3, padding="same", activation="relu", name="shared")
    y = shared(x)
    x = layers.Add(name="sum")([shared(y), y])
    x = Cumulated(name="odd")(x)
    x = layers.Dense(3, name="scores")(layers.Flatten(name="flat")(x))
    return keras.Model(image, [x, layers.Softmax(name="softmax")(x)])


def settings():
    return qk.QuantizationParams(float_layers=("odd",), buffer_bits=23)


@pytest.fixture(scope="module")
def model():
    return qk.quantize(network(), settings(), samples=X)


def test_a_reading_names_the_calls_of_each_kind(model):
    found = QuantizedGraph.of(model)
    assert [layer.name for _, layer in found.inputs()] == ["image_quantizer", "odd_quantizer"]
    assert [type(layer) for _, layer in found.hardware()] == [
        QuantizedConv2D, QuantizedConv2D, QuantizedConv2D, QuantizedAdd, QuantizedDense,
    ]  # fmt: skip
    (_, first), (one, shared), (other, again), (_, scores) = found.weighted()
    assert (first.name, scores.name) == ("first", "scores")
    assert shared is again and one.share == other.share == "shared"
    assert [layer.name for _, layer in found.dequantizers()] == [
        "sum_dequantizer", "scores_dequantizer",
    ]  # fmt: skip


def test_parts_are_what_float_layers_separate(model):
    parts = QuantizedGraph.of(model).parts()
    assert {"odd", "softmax", "image"}.isdisjoint(parts)
    assert [name for name, part in parts.items() if part == 1] == [
        "odd_quantizer", "flat", "scores", "scores_dequantizer",
    ]  # fmt: skip


def test_layers_of_a_node_are_told_by_their_kind(model):
    graph = QuantizedGraph.of(model).graph
    assert layer_of(graph["scores"], QuantizedDense) is model.get_layer("scores")
    assert layer_of(graph["scores"], QuantizedConv2D) is None
    assert layer_of(graph["flat"], object) is None
    assert rounding_layer(graph["odd"]) is None is rounding_layer(graph["scores_dequantizer"])
    assert rounding_layer(graph["odd_quantizer"]) is model.get_layer("odd_quantizer")


def test_only_quantized_models_have_one():
    with pytest.raises(QuantizationError, match="no quantized layers to convert"):
        QuantizedGraph.of(network(), "convert")
    with pytest.raises(QuantizationError, match="convert takes a quantized keras.Model, not int"):
        QuantizedGraph.of(3, "convert")


@pytest.fixture
def readings(monkeypatch):
    """The names of the models that are read as quantized ones."""
    names = []
    read = reading.read_keras
    monkeypatch.setattr(reading, "read_keras", lambda m: names.append(m.name) or read(m))
    return names


def test_quantize_reads_what_it_makes_once(readings, capsys):
    net = network()
    qk.quantize(net, settings(), samples=X, verbose=True)
    assert readings == [net.name] and "softmax" in capsys.readouterr().out


@pytest.fixture(scope="module")
def small():
    keras.utils.set_random_seed(4)
    net = keras.Sequential([keras.Input((4,), name="x"), layers.Dense(3), layers.Softmax()])
    return qk.quantize(net, samples=ROWS)


def test_verbs_take_a_reading_for_the_model(small, readings):
    found = QuantizedGraph.of(small)
    with pytest.raises(QuantizationError, match="no integer part 2; the last one is 0"):
        qk.convert(found, 2)
    assert qk.verify(found, qk.convert(found), ROWS[:4]).exact
    assert qk.sensitivity(found, ROWS[:4]).layers
    for changes in (qk.calibrate, qk.adaround, qk.correct_bias):
        assert changes(found, ROWS) is small
    assert readings == [small.name]
    assert str(qk.coverage(found)) == str(qk.coverage(small))
    assert qk.export_onnx(found) == qk.export_onnx(small)
