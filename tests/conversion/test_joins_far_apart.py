"""Inputs of one layer whose ranges lie too far apart for any accumulator: refused at once."""

import keras
import numpy as np
import pytest
from keras import layers
from parameters import slow

from quantkeras import QuantizationParams, quantize
from quantkeras.errors import AccumulatorTooWide


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(0).normal(size=(8, 2, 2, 2)).astype(np.float32)


def network(join, gain):
    image = keras.Input((2, 2, 2))
    huge = keras.initializers.Constant(gain)
    x = layers.Conv2D(2, 1, kernel_initializer=huge, name="huge")(image)
    return keras.Model(image, layers.Conv2D(2, 1)(join([image, x])))


@pytest.mark.parametrize(
    "join",
    [
        layers.Add(name="join"),
        layers.Concatenate(axis=1, name="join"),
        layers.Maximum(name="join"),
        *slow(layers.Minimum(name="join"), layers.Subtract(name="join")),
    ],
)
@pytest.mark.filterwarnings("ignore::quantkeras.errors.QuantizationLossWarning")
def test_quantize_refuses_what_no_engine_computes(join, samples):
    with pytest.raises(AccumulatorTooWide, match=r"'join'.*float_layers"):
        quantize(network(join, 1e15), samples=samples)


def test_the_remedy_named_there_works(samples):
    model = network(layers.Add(name="join"), 1e15)
    params = QuantizationParams(float_layers=("join",))
    assert np.isfinite(np.asarray(quantize(model, params, samples=samples)(samples))).all()
