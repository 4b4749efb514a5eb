"""Quantized models for inputs of other sizes than those that they were quantized with."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import quantkeras as qk
from quantkeras.errors import InputMismatchWarning, QuantizationError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 8, 6, 3)).astype(np.float32)
LARGE = RNG.normal(size=(2, 11, 9, 3)).astype(np.float32)


def network() -> keras.Model:
    """Everything that depends on the size: borders, averages, a table, and no fixed layer."""
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(image)
    x = layers.AveragePooling2D(2, padding="same")(x)
    x = layers.Conv2DTranspose(4, 3, 2, padding="same", activation="swish")(x)
    mean = layers.GlobalAveragePooling2D(keepdims=True)(layers.Conv2D(4, 1)(x))
    return keras.Model(image, [layers.Multiply()([x, mean]), layers.Flatten()(mean)])


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return network()


@pytest.fixture(scope="module")
def quantized(model) -> keras.Model:
    return qk.quantize(model, samples=X)


def test_the_integers_are_the_same_at_the_same_size(quantized) -> None:
    again = qk.resized(quantized, (8, 6, 3))
    for one, other in zip(quantized(X), again(X), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.slow
def test_a_larger_model_is_exact_and_near_the_float_one(model, quantized) -> None:
    large = qk.resized(quantized, {"image": (11, 9, 3)})
    assert large.input_shape == (None, 11, 9, 3)
    assert qk.verify(large, qk.convert(large), LARGE).exact
    for wanted, found in zip(model(LARGE), large(LARGE), strict=True):
        noise, signal = np.square(found - wanted).mean(), np.square(wanted).mean()
        assert noise < 0.01 * signal


@pytest.mark.slow
def test_predict_makes_one_and_says_so_once(quantized) -> None:
    wanted = qk.resized(quantized, (11, 9, 3)).predict(LARGE, verbose=0)
    with pytest.warns(InputMismatchWarning, match=r"for 'image' of \(8, 6, 3\).*\(11, 9, 3\)"):
        found = quantized.predict(LARGE, verbose=0)
    with warnings.catch_warnings(record=True) as caught:
        quantized.predict(LARGE[:1], verbose=0)
    assert not [w for w in caught if w.category is InputMismatchWarning]
    for one, other in zip(wanted, found, strict=True):
        assert np.array_equal(one, other)


def test_all_else_tells_of_the_remedy(quantized) -> None:
    with pytest.raises(QuantizationError, match=r"quantized for 'image' of \(8, 6, 3\).*resized"):
        quantized(LARGE)
    with pytest.raises(ValueError, match="expected shape"):
        quantized(LARGE[..., :2])  # a mistake, and no other size


def test_layers_of_a_fixed_size_are_named() -> None:
    image = keras.Input((8, 6, 3), name="image")
    x = layers.Flatten()(layers.Conv2D(2, 3, name="conv")(image))
    quantized = qk.quantize(keras.Model(image, layers.Dense(2, name="head")(x)), samples=X)
    with pytest.raises(QuantizationError, match="layer 'head' does not fit .*'kernel'"):
        qk.resized(quantized, (9, 6, 3))
    x = layers.Conv2D(2, 3)(layers.Reshape((6, 8, 3))(image))
    quantized = qk.quantize(keras.Model(image, x), samples=X)
    with pytest.raises(QuantizationError, match="layers that do not fit inputs 'image'"):
        qk.resized(quantized, (9, 6, 3))


def test_wrong_shapes_are_told(quantized) -> None:
    with pytest.raises(QuantizationError, match="no input is named 'picture'"):
        qk.resized(quantized, {"picture": (9, 9, 3)})
    with pytest.raises(QuantizationError, match="has the shape"):
        qk.resized(quantized, (9, 9))
    with pytest.raises(QuantizationError, match="call quantize first"):
        qk.resized(network(), (9, 9, 3))
