"""Integer parts around a float layer: each is a program, and each equals the Keras model."""

import keras
import numpy as np
import pytest
from keras import layers
from parameters import slow

from quantkeras import QuantizationParams, convert, convert_parts, coverage, quantize, verify
from quantkeras.errors import QuantizationError

X = np.random.default_rng(0).uniform(-1, 1, (16, 10, 10, 3)).astype(np.float32)


class Cumulated(layers.Layer):
    """A layer that has no integer form."""

    def call(self, x):
        return keras.ops.cumsum(x, axis=-1) * 0.3

    def compute_output_shape(self, shape):
        return shape


@pytest.fixture(scope="module")
def quantized():
    keras.utils.set_random_seed(1)
    image = keras.Input((10, 10, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="before")(image)
    y = Cumulated(name="odd")(x)
    z = layers.Conv2D(4, 3, padding="same", activation="silu", name="behind")(y)
    w = layers.Add(name="skip")([z, x])
    y = Cumulated(name="odd_again")(w)
    scores = layers.Dense(3, name="scores")(layers.Flatten(name="flat")(y))
    model = keras.Model(image, scores)
    return quantize(model, QuantizationParams(float_layers=("odd", "odd_again")), samples=X)


@pytest.mark.slow
def test_each_part_is_a_program_of_its_own(quantized):
    programs = convert_parts(quantized)
    assert [p.layers[0].name for p in programs] == ["before", "behind", "flat"]
    assert [[entry.name for entry in p.inputs] for p in programs] == [
        ["image"], ["odd", "before"], ["odd_again"],
    ]  # fmt: skip


@pytest.mark.parametrize("part", [1, *slow(0, 2)])
def test_each_part_is_exact(quantized, part):
    assert verify(quantized, convert_parts(quantized)[part], X).exact


def test_the_first_program_says_where_the_rest_is(quantized):
    tail = {entry.name: entry.reason for entry in convert(quantized).float_tail}
    assert tail["odd"] == "kept in float as asked"
    assert "part=1" in tail["behind"] and "part=2" in tail["scores"]


def test_accumulators_of_all_parts_are_reported_and_checked(quantized):
    report = coverage(quantized)
    assert all(report[name].accumulator.endswith("bits") for name in ("before", "behind", "scores"))


def test_there_is_no_fourth_part(quantized):
    with pytest.raises(QuantizationError, match="no integer part 3; the last one is 2"):
        convert(quantized, part=3)
