"""Networks that compute nothing but maxima: their pools are hardware layers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import quantkeras
from quantkeras.errors import QuantizationError
from quantkeras.quantization.decide import make_plan
from quantkeras.quantization.params import QuantizationParams
from sanitize import sanitize_graph
from sanitize.keras_io import read_keras

X = (8, 9, 7, 4)


def network(*parts: layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input(X[1:], name="x"), *parts])


@pytest.mark.parametrize(
    "parts",
    [
        [layers.MaxPooling2D(3, 2, padding="same")],
        [layers.Permute((3, 1, 2)), layers.MaxPooling2D(2), layers.UpSampling2D(2)],
        [layers.ZeroPadding2D(1), layers.MaxPooling2D(2), layers.MaxPooling2D(2), layers.Flatten()],
    ],
    ids=["alone", "permuted", "several"],
)
def test_max_pools_alone_are_an_integer_program(parts: list[layers.Layer]) -> None:
    model = network(*parts)
    scales = np.array([0.1, 1, 2, 30])
    x = (np.random.default_rng(0).normal(size=X) * scales).astype(np.float32)
    quantized = quantkeras.quantize(model, samples=x, strict=True)
    program = quantkeras.convert(quantized)
    wanted, found = (m.predict_on_batch(x) for m in (model, quantized))
    assert np.array_equal(program.predict(x), found)
    step = np.abs(x).max((0, 1, 2)) / 64  # each channel has a format of its own
    rounded = keras.Model(quantized.inputs, quantized.layers[1].output).predict_on_batch(x)
    assert (np.abs(rounded - x) <= step).all()
    assert np.abs(found - wanted).max() <= step.max()


def test_what_stands_behind_such_a_pool_is_told_apart() -> None:
    model = network(layers.MaxPooling2D(2, name="pool"), layers.LayerNormalization(name="norm"))
    graph, _ = sanitize_graph(read_keras(model))
    plan = make_plan(graph, QuantizationParams())
    assert list(plan.blocks) == ["pool"]
    (stop,) = plan.stops
    assert stop.node.name == "norm" and "integers begin" not in stop.reason


def test_a_network_that_computes_nothing_is_refused() -> None:
    with pytest.raises(QuantizationError, match="nothing in model"):
        quantkeras.quantize(network(layers.Flatten()), samples=np.zeros(X, np.float32))


def test_inputs_that_nothing_sums_keep_the_resolution_of_each_channel() -> None:
    model = network(layers.DepthwiseConv2D(3, depthwise_initializer="ones"))
    scales = np.array([0.001, 1, 2, 1000])
    x = (np.random.default_rng(0).normal(size=X) * scales).astype(np.float32)
    quantized = quantkeras.quantize(model, samples=x)
    wanted, found = (m.predict_on_batch(x) for m in (model, quantized))
    error, size = (np.square(a).mean((0, 1, 2)) for a in (found - wanted, wanted))
    assert (error < size * 1e-3).all()
    assert np.array_equal(quantkeras.convert(quantized).predict(x), found)
