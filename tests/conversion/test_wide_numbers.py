"""Accumulators beyond float32, tiny and huge ranges, dead channels: exact, and useful bits kept."""

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact, used_share
from keras import layers
from parameters import slow_rows

from quantkeras.api import convert, quantize
from quantkeras.calibration.filled_ranges import HEADROOM
from quantkeras.errors import AccumulatorTooWide, QuantizationError
from quantkeras.quantization.params import QuantizationParams


def signal_to_noise(model, quantized, x):
    """In dB."""
    wanted, found = as_numpy(model(x)), as_numpy(quantized(x))
    return 10 * np.log10((wanted**2).sum() / max(((wanted - found) ** 2).sum(), 1e-30))


def two_layers(scale=1.0):
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 8)),
            layers.Conv2D(16, 3, activation="relu", bias_initializer="random_normal"),
            layers.Flatten(),
            layers.Dense(5),
        ]
    )
    for weight in model.weights:
        weight.assign(weight * scale)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scale", "size"), [(1e-3, 1e-3), (1e3, 1e6), *slow_rows((1.0, 1e6), (1e3, 1e-3))]
)
def test_decision_2_no_range_is_too_small_or_too_large(scale, size, rng):
    """Fractional bits are never clamped: the same bits are useful whatever the size."""
    model = two_layers(scale)
    model.layers[0].bias.assign(model.layers[0].bias * size)
    x = (rng.normal(size=(16, 6, 6, 8)) * size).astype(np.float32)
    quantized = quantize(model, samples=x)
    program = assert_exact(quantized, x, graph=False)
    integers = program.run_integers(x, keep="all")
    for layer in program.layers:
        if layer.output_format is not None:
            share = used_share(integers[layer.name], layer.params.qmin, layer.params.qmax)
            assert share > HEADROOM - 0.01
    assert signal_to_noise(model, quantized, x) > 30


@pytest.mark.slow
@pytest.mark.parametrize(("weight_bits", "bits"), [(16, 8), (8, 16)])
def test_accumulators_beyond_float32(weight_bits, bits, rng):
    """Above 2**24, within 32 bits."""
    model = two_layers()
    x = rng.normal(size=(16, 6, 6, 8)).astype(np.float32)
    params = QuantizationParams(
        weight_bits=weight_bits,
        input_weight_bits=weight_bits,
        activation_bits=bits,
        output_bits=bits,
        input_bits=bits,
    )
    quantized = quantize(model, params, x)
    program = assert_exact(quantized, x)
    assert np.abs(program.run_integers(x)).max() > 2**24
    assert signal_to_noise(model, quantized, x) > 35


def test_accumulators_beyond_the_hardware_are_refused_all_at_once(rng):
    x = rng.normal(size=(16, 6, 6, 8)).astype(np.float32)
    params = QuantizationParams(buffer_bits=16)
    with pytest.raises(AccumulatorTooWide, match=r"16 bits .*'conv2d\S* needs .*'dense\S* needs"):
        quantize(two_layers(), params, x)


def test_8_bits_that_need_a_wide_accumulator():
    """127 * 255 * 4096 is above 2**28: the largest inputs and weights of one sign."""
    model = keras.Sequential([keras.Input((4096,)), layers.Dense(3, kernel_initializer="ones")])
    x = np.full((4, 4096), 255, np.uint8)
    program = assert_exact(quantize(model, samples=x), x)
    assert np.abs(program.run_integers(x)).max() > 2**24
    np.testing.assert_allclose(program.predict(x), 4096 * 255.0, rtol=1e-2)


def test_a_dead_channel_with_a_large_bias(rng):
    """A channel without weights keeps its bias, within 0.1 %, and harms no other channel."""
    model = two_layers()
    conv = model.layers[0]
    kernel, bias = (np.array(w) for w in conv.get_weights())
    kernel[..., 3], bias[3] = 0.0, 50.0
    kernel[..., 4], bias[4] = kernel[..., 4] * 1e-6, 40.0
    conv.set_weights([kernel, bias])
    x = rng.normal(size=(16, 6, 6, 8)).astype(np.float32)
    quantized = quantize(model, samples=x)
    assert_exact(quantized, x, graph=False)
    assert signal_to_noise(model, quantized, x) > 35


def test_all_weights_zero(rng):
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(4, kernel_initializer="zeros"), layers.Dense(2)]
    )
    x = rng.normal(size=(8, 5)).astype(np.float32)
    program = assert_exact(quantize(model, samples=x), x, graph=False)
    assert not program.predict(x).any()


def test_channels_of_very_unlike_size_through_flatten(rng):
    """Decision 7: formats per channel follow the values."""
    sizes = np.array([0.5, 1.0, 4.0, 15.0], np.float32)
    x = rng.normal(size=(16, 3, 3, 4)).astype(np.float32) * sizes
    model = keras.Sequential([keras.Input((3, 3, 4)), layers.Flatten(), layers.Dense(4)])
    kernel = rng.normal(size=(36, 4)) / np.tile(sizes, 9)[:, None]
    model.layers[-1].kernel.assign(kernel)
    quantized = quantize(model, samples=x)
    assert_exact(quantized, x, graph=False)
    per_tensor = quantize(model, QuantizationParams(per_tensor_activations=True), x)
    assert_exact(per_tensor, x, graph=False)
    better = signal_to_noise(model, quantized, x) - signal_to_noise(model, per_tensor, x)
    assert better > 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bits", "smaller"), [(8, 14), pytest.param(16, 7, marks=pytest.mark.slow)]
)
def test_adding_branches_of_very_unlike_size(bits, smaller, rng):
    """Aligning them takes more bits than float32 has."""
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    y = layers.Add()([layers.Dense(4, name="fine")(a), layers.Dense(4, name="coarse")(b)])
    model = keras.Model([a, b], layers.Dense(2)(y))
    model.get_layer("fine").kernel.assign(np.eye(4) * 2.0**-smaller)
    model.get_layer("coarse").kernel.assign(np.eye(4) * 100)
    x = [rng.normal(size=(16, 4)).astype(np.float32) for _ in range(2)]
    params = QuantizationParams(output_bits=bits, activation_bits=bits)
    program = assert_exact(quantize(model, params, x), x)
    (add,) = (layer for layer in program.layers if layer.spec.kind == "add")
    assert bits + max(int(np.max(s)) for s in add.params.input_shifts if s is not None) > 24


def test_a_ceiling_that_tiny_activations_never_reach():
    """In units of the accumulator it is beyond every integer, and stays out of the way."""
    image = keras.Input((4, 4, 2))
    x = layers.Conv2D(3, 1, name="tiny")(image)
    outputs = layers.Conv2D(2, 1)(layers.ReLU(6.0)(x))
    model = keras.Model(image, outputs)
    model.get_layer("tiny").kernel.assign(model.get_layer("tiny").kernel * 1e-25)
    samples = np.random.default_rng(0).uniform(0, 1e-4, (8, 4, 4, 2)).astype(np.float32)
    quantized = quantize(model, samples=samples)
    program = assert_exact(quantized, samples)
    assert program["tiny"].params.max_value.max() == 2**52


def test_a_range_that_training_left_far_behind():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, "relu", name="one")])
    model.add(layers.Dense(2, name="head"))
    quantized = quantize(model, samples=np.random.default_rng(8).normal(size=(8, 4)))
    gain = quantized.get_layer("one").weight_quantizer.raw_gain
    gain.assign(gain * 2.0**80)
    with pytest.raises(QuantizationError, match=r"'one': the range of its output is 2\*\*6.*again"):
        convert(quantized)
