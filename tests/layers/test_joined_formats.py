"""Joined tensors: every part and every channel of an output keeps its own resolution."""

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact
from keras import layers
from parameters import slow, slow_rows

from quantkeras import QuantizationParams
from quantkeras.api import quantize
from quantkeras.layers import OutputQuantizer, QuantizedConv2D, QuantizedDense
from quantkeras.layers.activation_ranges import PART_SPREAD


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(13).random((8, 8, 8, 4)).astype(np.float32)


def conv(filters=4, size=3, gain=1.0, **kwargs):
    start = keras.initializers.VarianceScaling(2 * gain**2, seed=filters + size)
    return layers.Conv2D(filters, size, kernel_initializer=start, **kwargs)


def joined(gain, *behind):
    """Two convolutions, the outputs of the second ``gain`` times those of the first, and layers."""
    image = keras.Input((8, 8, 4))
    x = layers.Concatenate(name="join")([conv(4)(image), layers.ReLU()(conv(3, gain=gain)(image))])
    for layer in behind:
        x = layer(x)
    return keras.Model(image, x)


def compensated(model, gain):
    """Weights behind the concatenation that make both parts matter alike."""
    kernel, *bias = model.layers[-1].get_weights()
    kernel[..., 4:, :] /= gain
    model.layers[-1].set_weights([kernel, *bias])
    return model


def decibels(wanted, found):
    wanted, found = as_numpy(wanted).astype(np.float64), as_numpy(found)
    return 10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum())


@pytest.mark.parametrize("gain", [1 / 256, *slow(1.0, 64.0, 1e4)])
def test_a_reader_sees_both_parts_of_a_join(gain, images):
    model = compensated(joined(gain, conv(5, 1)), gain)
    quantized = quantize(model, samples=images)
    assert decibels(model(images), quantized(images)) > 37
    assert_exact(quantized, images[:2], graph=False)


@pytest.mark.slow
@pytest.mark.parametrize("gain", [1e4, *slow(64.0)])
def test_several_readers_of_a_join_do_too(gain, images):
    image = keras.Input((8, 8, 4))
    small, large = conv(4)(image), conv(3, gain=gain)(image)
    x = layers.Concatenate()([small, layers.MaxPooling2D(3, 1, "same")(large)])
    one, two = conv(5, 1), conv(2)
    model = keras.Model(image, [one(x), two(x)])
    for layer in (one, two):
        kernel, bias = layer.get_weights()
        kernel[..., 4:, :] /= gain
        layer.set_weights([kernel, bias])
    quantized = quantize(model, samples=images)
    wanted, found = model(images), quantized(images)
    assert min(decibels(a, b) for a, b in zip(wanted, found, strict=True)) > 35
    assert_exact(quantized, images[:2], graph=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bits", "gain"), [(None, 1e4), (8, 1 / 256), *slow_rows((None, 1 / 256), (8, 1e4))]
)
def test_parts_of_an_output_keep_their_resolution(bits, gain, images):
    model = joined(gain, layers.Reshape((36, 7)))
    quantized = quantize(model, QuantizationParams(last_output_bits=bits), samples=images)
    wanted, found = model(images), quantized(images)
    for part in (slice(0, 4), slice(4, 7)):
        assert decibels(wanted[..., part], found[..., part]) > 33
    assert_exact(quantized, images[:2], graph=False)


def test_channels_of_an_output_keep_their_resolution(images):
    rows = images.reshape(-1, 4)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    scales = np.array([1e4, 6.0, 1e-3])
    model.layers[0].set_weights([model.layers[0].get_weights()[0] * scales, 0.1 * scales])
    quantized = quantize(model, QuantizationParams(last_output_bits=8), samples=rows)
    wanted, found = model(rows), quantized(rows)
    assert min(decibels(wanted[:, c], found[:, c]) for c in range(3)) > 33
    assert_exact(quantized, rows[:8], graph=False)


@pytest.mark.slow
def test_joins_of_joins_know_all_their_parts(images):
    image = keras.Input((8, 8, 4))
    a, b, c = (conv(2 + i, gain=g, padding="same")(image) for i, g in enumerate((1.0, 300.0, 0.01)))
    inner = layers.ReLU()(layers.Concatenate(name="inner")([a, b]))
    x = layers.Concatenate(name="outer")(
        [layers.AveragePooling2D(2)(inner), layers.MaxPooling2D()(c)]
    )
    deep = layers.DepthwiseConv2D(3, padding="same", name="deep")(x)
    model = keras.Model(image, [layers.Conv2D(3, 1)(x), layers.Conv2D(3, 1)(deep)])
    quantized = quantize(model, samples=images)
    assert quantized.get_layer("outer").output_quantizer.parts == (2, 3, 4)
    assert quantized.get_layer("deep").output_quantizer.parts == (2, 3, 4)
    inner = quantized.get_layer("inner").output_quantizer
    assert inner.parts == () and inner.max_spread > PART_SPREAD
    assert_exact(quantized, images[:2], graph=False)


def test_channels_of_one_layer_stay_close_where_they_are_summed(images):
    image = keras.Input((8, 8, 4))
    x = conv(4, activation="relu", name="first")(image)
    x = layers.DepthwiseConv2D(3, name="second")(x)
    model = keras.Model(image, layers.Add()([conv(4, 1)(x), x]))
    quantized = quantize(model, samples=images)
    for name in ("first", "second"):
        quantizer = quantized.get_layer(name).output_quantizer
        assert (quantizer.max_spread, quantizer.parts) == (PART_SPREAD, ())


@pytest.mark.slow
def test_the_spread_leaves_room_in_the_accumulator(images):
    model = compensated(joined(1e4, conv(5, 1), conv(4, 1)), 1.0)
    spreads = {}
    for bits in (20, 24, 32):
        quantized = quantize(model, QuantizationParams(buffer_bits=bits), samples=images)
        spreads[bits] = quantized.get_layer("join").output_quantizer.max_spread
    assert spreads == {20: PART_SPREAD, 24: 4, 32: 12}


def test_parts_bound_their_own_channels_and_the_tensor_all():
    quantizer = OutputQuantizer(max_spread=5, parts=(3, 2))
    quantizer.build((None, 4, 5))
    quantizer.set_range(np.exp2([0.0, -1, -9, -3, -30]))
    np.testing.assert_array_equal(as_numpy(quantizer.exponents()) + 7, [0, -1, -2, -3, -5])
    again = OutputQuantizer.from_config(quantizer.get_config())
    assert again.parts == (3, 2)


@pytest.mark.parametrize("groups", [1, 2])
def test_weights_are_told_by_input_channel(groups):
    layer = QuantizedConv2D(4, 1, groups=groups)
    kernel = np.ones((1, 1, 4 // groups, 4), np.float32)
    kernel[0, 0, 1] = 8.0
    layer.build((None, 5, 5, 4))
    layer.kernel.assign(kernel)
    wanted = [0.125, 1, 0.125, 0.125] if groups == 1 else [0.125, 1, 0.125, 1]
    np.testing.assert_array_equal(layer.input_weights(), wanted)
    dense = QuantizedDense(2)
    dense.build((None, 2))
    dense.kernel.assign([[1.0, 4.0], [-2.0, 0.0]])
    np.testing.assert_array_equal(dense.input_weights(), [1.0, 1.0])
