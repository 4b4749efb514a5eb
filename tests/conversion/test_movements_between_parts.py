"""Integers that a later part reads through a layer that only moves them, around a float layer."""

import keras
import numpy as np
import pytest
from keras import layers

from quantkeras import QuantizationParams, convert_parts, coverage, quantize, verify


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(2).uniform(-1, 1, (12, 6, 6, 3)).astype(np.float32)


class Cumulated(layers.Layer):
    """A layer without integer form; with ``both``, one of two outputs."""

    def __init__(self, both=False, **kwargs):
        super().__init__(**kwargs)
        self.both = both

    def call(self, x):
        total = keras.ops.cumsum(x, axis=-1) * 0.3
        return (total, x * keras.ops.mean(x)) if self.both else total


MOVEMENTS = (
    lambda x: layers.Reshape((9, 16))(x),
    lambda x: layers.Permute((2, 1, 3))(x),
    lambda x: layers.Permute((3, 1, 2))(x),
    lambda x: layers.Flatten()(x),
    lambda x: layers.ZeroPadding2D(1)(x),
    lambda x: layers.Cropping2D(1)(x),
    lambda x: layers.UpSampling2D(2)(x),
    lambda x: layers.Dropout(0.5)(x),
    lambda x: x[:, 1:, ::-1],
    lambda x: x[:, 0],
    lambda x: layers.Permute((2, 1))(layers.Reshape((9, 16))(x)),
)


def each_part_is_exact(quantized, samples, count):
    programs = convert_parts(quantized)
    assert len(programs) == count
    for program in programs:
        assert verify(quantized, program, samples).exact
    return programs


@pytest.mark.slow
def test_residuals_around_float_layers_read_moved_integers(samples):
    """One network for all movements: each has a float layer, and a sum around it, of its own."""
    image = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(image)
    sums = []
    for number, movement in enumerate(MOVEMENTS):
        moved = movement(x)
        y = layers.Add(name=f"sum{number}")([moved, Cumulated(name=f"odd{number}")(moved)])
        sums.append(layers.Dense(2)(y))
    params = QuantizationParams(float_layers=("odd*",))
    quantized = quantize(keras.Model(image, sums), params, samples=samples)
    each_part_is_exact(quantized, samples, 2)
    report = coverage(quantized)
    assert {report[f"sum{number}"].status for number in range(len(MOVEMENTS))} == {"integer"}


@pytest.mark.slow
def test_each_output_of_a_float_layer_is_an_input_of_its_own(samples):
    image = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, name="first")(image)
    one, other = Cumulated(both=True, name="odd")(x)
    y = layers.Concatenate(name="joined")([layers.Conv2D(3, 1, name="second")(other), one])
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(y)))
    quantized = quantize(model, QuantizationParams(float_layers=("odd",)), samples=samples)
    _, behind = each_part_is_exact(quantized, samples, 2)
    assert sorted(entry.name for entry in behind.inputs) == ["odd", "odd:1"]


@pytest.mark.slow
def test_states_of_a_recurrent_layer_are_quantized_again():
    samples = np.random.default_rng(2).uniform(-1, 1, (12, 5, 3)).astype(np.float32)
    steps = keras.Input((5, 3))
    states = layers.GRU(4, return_state=True, name="gru")(layers.Dense(3)(steps))
    model = keras.Model(steps, layers.Dense(2)(layers.Concatenate()(states)))
    quantized = quantize(model, QuantizationParams(float_layers=("gru",)), samples=samples)
    each_part_is_exact(quantized, samples, 2)
