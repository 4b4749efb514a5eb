"""What is said to somebody who hands in the wrong model, or one that stays float in part."""

import keras
import numpy as np
import pytest
from keras import layers

import quantkeras
from quantkeras.errors import QuantizationError


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(4).normal(size=(8, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def quantized(samples):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3, name="head")], name="small")
    return quantkeras.quantize(model, samples=samples)


def test_a_quantized_model_is_not_quantized_again(quantized, samples):
    with pytest.raises(QuantizationError, match=r"'small' is quantized already.*float model"):
        quantkeras.quantize(quantized, samples=samples)


def test_a_quantized_model_is_not_equalized(quantized):
    with pytest.raises(QuantizationError, match="quantized already"):
        quantkeras.equalize(quantized)


def test_a_quantized_model_within_another_is_found(quantized, samples):
    inputs = keras.Input((6,))
    outer = keras.Model(inputs, layers.Dense(2)(quantized(inputs)))
    with pytest.raises(QuantizationError, match="quantized already"):
        quantkeras.quantize(outer, samples=samples)


@pytest.mark.parametrize("model", [None, b"an ONNX model"])
def test_convert_says_what_it_takes(model):
    with pytest.raises(QuantizationError, match="convert takes a quantized keras.Model.*as_onnx"):
        quantkeras.convert(model)


def test_strict_names_layers_by_their_class_and_gives_a_remedy(samples):
    inputs = keras.Input((6,))
    x = layers.LayerNormalization(name="ln")(layers.Dense(4)(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    with pytest.raises(QuantizationError, match=r"'ln' \(LayerNormalization\)") as caught:
        quantkeras.quantize(model, samples=samples, strict=True)
    assert str(caught.value).endswith("or quantize without strict.")
    assert "runs" not in str(caught.value)
