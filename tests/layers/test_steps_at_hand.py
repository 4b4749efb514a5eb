"""The steps of a tensor go with it from layer to layer, so that no layer works them out again."""

import keras
import numpy as np
import pytest
from keras import layers

import quantkeras
from quantkeras.layers import exact_ops
from quantkeras.layers.tensor_format import format_of, with_lsb


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(3).normal(size=(16, 6, 6, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def quantized(samples):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu6", name="first")(inputs)
    y = layers.DepthwiseConv2D(3, padding="same", name="second")(x)
    y = layers.ZeroPadding2D(1)(layers.Add(name="sum")([x, y]))
    model = keras.Model(inputs, layers.Conv2D(2, 3, name="last")(y))
    return quantkeras.quantize(model, samples=samples)


def test_each_quantizer_works_out_its_steps_once_a_call(quantized, samples, monkeypatch):
    worked_out = []

    def counted(exponent, less=0):
        worked_out.append(exponent)
        return power_of_two(exponent, less)

    quantized(samples[:1])  # the first call looks at the data as well
    power_of_two = exact_ops.power_of_two
    monkeypatch.setattr(exact_ops, "power_of_two", counted)
    quantized(samples[:1])
    # The input's and those of three layers; the last one keeps its accumulator.
    assert len(worked_out) == 4


def test_steps_of_another_format_are_not_taken(quantized):
    first, second = (format_of(quantized.get_layer(name).output) for name in ("first", "second"))
    values = with_lsb(keras.ops.ones((1, 6, 6, 4)), first.lsb, "the steps")
    assert first.lsb_of(values) == "the steps"
    np.testing.assert_array_equal(second.lsb_of(values), second.lsb())


@pytest.mark.slow
def test_a_traced_model_follows_its_ranges(quantized, samples):
    """Nothing of the steps stays behind in the graph that predict has traced."""
    before = quantized.predict(samples, verbose=0)
    quantizer = quantized.get_layer("first").output_quantizer
    ranges = np.asarray(quantizer.log2_range)
    quantizer.log2_range.assign(ranges + 1)
    try:
        after = quantized.predict(samples, verbose=0)
        program = quantkeras.convert(quantized)
        np.testing.assert_array_equal(after, program.predict(samples))
        assert (after != before).any()
    finally:
        quantizer.log2_range.assign(ranges)
