"""Faults of other tools that this one was built not to have: one test each.

The numbers are those of the list in the design notes. 2 and 7 are in test_wide_numbers.py, 8 and 9
with the rules of sanitize, 10 in test_quantize.py.
"""

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact
from keras import layers, ops

from quantkeras.api import quantize
from quantkeras.calibration import calibrate
from quantkeras.calibration.filled_ranges import HEADROOM
from quantkeras.conversion import convert
from quantkeras.layers import (
    Dequantizer,
    InputQuantizer,
    OutputQuantizer,
    QuantizedDense,
    QuantizedReLU,
)
from quantkeras.quantization.params import QuantizationParams


def through(layer, size, signed=True, bits=8):
    """A model with integer inputs of that width around one layer; lsb of the input is 1."""
    inputs = keras.Input((size,))
    quantizer = InputQuantizer(bits=bits, signed=signed, integer_input=True, per_channel=False)
    return keras.Model(inputs, Dequantizer()(layer(quantizer(inputs))))


def test_decision_1_inputs_outputs_weights_and_biases_round_half_up():
    ties = np.array([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]], np.float32)
    floor_half_up = [-2, -1, 0, 1, 2, 3]
    quantizer = OutputQuantizer(8, per_channel=False)
    quantizer.build((None, 6))
    quantizer.set_range(np.array(128.0))  # lsb 1
    assert as_numpy(quantizer.lsb()) == 1
    np.testing.assert_array_equal(as_numpy(quantizer(ties))[0], floor_half_up)

    layer = QuantizedDense(6, name="layer")
    model = through(layer, 6)
    layer.kernel.assign(np.diag(ties[0]) + np.eye(6)[::-1] * 127)  # the largest sets step 1
    layer.bias.assign(ties[0])
    layer.fit_weights()
    numbers = layer.numbers()
    assert (as_numpy(numbers.step) == 1).all()
    np.testing.assert_array_equal(np.diag(as_numpy(numbers.qkernel)), floor_half_up)
    np.testing.assert_array_equal(as_numpy(numbers.qbias), floor_half_up)
    assert_exact(model, np.arange(-3, 3, dtype=np.float32)[None], graph=False)


def test_decision_1_the_rescale_rounds_half_up():
    layer = QuantizedReLU(output_quantizer=OutputQuantizer(7, signed=False), name="layer")
    model = through(layer, 4)
    layer.output_quantizer.set_range(np.full(4, 256.0))  # lsb 2: odd integers are ties
    x = np.array([[1, 3, 5, 127]], np.float32)
    np.testing.assert_array_equal(as_numpy(model(x)), [[2, 4, 6, 128]])
    assert_exact(model, x, graph=False)


def test_decision_3_powers_of_two_are_exact():
    layer = QuantizedDense(3, output_quantizer=OutputQuantizer(8), name="layer")
    model = through(layer, 3)
    layer.kernel.assign(np.diag([127.0, 63.5, 254.0]))
    layer.fit_weights()
    layer.output_quantizer.set_range(np.full(3, 128.0))
    params = convert(model)["layer"].params
    np.testing.assert_array_equal(params.scale, [128, 128, 128])
    np.testing.assert_array_equal(params.weights, np.diag([127, 127, 127]))
    np.testing.assert_array_equal(np.diff(params.shift), [1, -2])


def test_decision_4_unsigned_after_relu_uses_the_whole_range(rng):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    x = rng.normal(size=(32, 6, 6, 3)).astype(np.float32)
    program = convert(quantize(model, samples=x))
    formats = [layer.output_format for layer in program.layers[:-1]]
    assert all(not f.signed and f.bits == 8 for f in formats)
    largest = program.run_integers(x, keep=[program.layers[0].name])
    assert next(iter(largest.values())).max() > 255 * (HEADROOM - 0.01)


def test_decision_5_biases_keep_the_width_of_the_accumulator(rng):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    model.layers[-1].bias.assign([0.123456, 7.65432, -3.14159])
    x = rng.normal(size=(32, 4)).astype(np.float32)
    quantized = quantize(model, samples=x)
    zero = as_numpy(quantized(np.zeros((1, 4), np.float32)))[0]
    np.testing.assert_allclose(zero, as_numpy(model.layers[-1].bias), atol=2e-4)


@pytest.mark.slow
def test_decision_6_calibration_knows_neither_batch_size_nor_order(rng):
    def ranges(x, batch_size):
        keras.utils.set_random_seed(4)
        model = keras.Sequential(
            [keras.Input((5,)), layers.Dense(6, activation="relu"), layers.Dense(2)]
        )
        return quantize(model, samples=x, batch_size=batch_size).get_weights()

    x = rng.normal(size=(64, 5)).astype(np.float32)
    wanted = ranges(x, 64)
    for other in (ranges(x, 7), ranges(x[::-1].copy(), 64)):
        for a, b in zip(wanted, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_decision_6_ranges_that_are_no_power_of_two_fill_the_integers(rng):
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(6, activation="relu", name="body"), layers.Dense(2)]
    )
    x = rng.normal(size=(64, 5)).astype(np.float32) * 1.1
    program = convert(quantize(model, samples=x))
    largest = program.run_integers(x, keep=["body"])["body"].max(axis=0)
    assert (largest > 255 * (HEADROOM - 0.01)).all()


@pytest.mark.slow
def test_decision_7_add_and_concatenate_of_formats_per_channel(rng):
    image = keras.Input((4, 4, 3))
    a, b = layers.Conv2D(3, 1, name="a")(image), layers.Conv2D(3, 1, name="b")(image)
    joined = layers.Concatenate()([layers.Add()([a, b]), layers.Permute((2, 1, 3))(a), b])
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(joined)))
    for name, sizes in (("a", [0.01, 1.0, 9.0]), ("b", [3.0, 0.2, 1.0])):
        model.get_layer(name).kernel.assign(rng.normal(size=(1, 1, 3, 3)) * sizes)
    x = rng.normal(size=(16, 4, 4, 3)).astype(np.float32)
    quantized = quantize(model, samples=x)
    program = assert_exact(quantized, x, graph=False)
    assert any(f is not None and f.frac.size > 1 for f in program.formats.values())


def test_decision_7_formats_per_channel_survive_what_only_moves(rng):
    """Slices, repeated pixels and permutations carry a frac per channel with them."""
    image = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", name="a")(image)
    x = layers.UpSampling2D(2)(x[:, 1:, ::2, ::-1])
    turned = layers.Permute((2, 1, 3))(x)
    gates = layers.GlobalAveragePooling2D(keepdims=True)(turned)
    x = layers.Multiply()([layers.Cropping2D(1)(turned), gates])
    x = layers.Maximum()([x, x[..., ::-1]])
    model = keras.Model(image, layers.Conv2D(2, 1)(x))
    model.get_layer("a").kernel.assign(rng.normal(size=(3, 3, 3, 4)) * [0.1, 1.0, 9.0, 2.0])
    samples = rng.normal(size=(16, 6, 6, 3)).astype(np.float32)
    program = assert_exact(quantize(model, samples=samples), samples, graph=False)
    moves = [layer for layer in program.layers if layer.spec.kind in ("slice", "upsample")]
    assert len(moves) == 4 and all(layer.output_format.frac.size > 1 for layer in moves)


def test_decision_11_gradients_stop_outside_the_range_and_ranges_move():
    layer = QuantizedReLU(output_quantizer=OutputQuantizer(4, signed=False), name="layer")
    inputs = keras.Input((2,))
    quantizer = InputQuantizer(8, per_channel=False)
    model = keras.Model(inputs, Dequantizer()(layer(quantizer(inputs))))
    calibrate(model, np.array([[4.0, 4.0]], np.float32))
    layer.output_quantizer.set_range(np.array([1.0, 4.0]))
    import tensorflow as tf

    x = tf.constant([[2.0, 2.0], [-1.0, 0.5]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = ops.sum(model(x))
    gradient = as_numpy(tape.gradient(total, x))
    assert gradient[0, 0] == 0 and gradient[1, 0] == 0
    assert gradient[0, 1] > 0 and gradient[1, 1] > 0

    layer.output_quantizer.range_mode = "moving"
    before = as_numpy(layer.output_quantizer.log2_range).copy()
    model(np.array([[4.0, 4.0]], np.float32), training=True)
    assert as_numpy(layer.output_quantizer.log2_range)[0] > before[0]


def test_decision_12_unequal_kernels_and_strides(rng):
    model = keras.Sequential(
        [
            keras.Input((9, 7, 2)),
            layers.Conv2D(4, (3, 1), strides=(1, 2), padding="same", activation="relu"),
            layers.DepthwiseConv2D((1, 3), strides=(2, 1), padding="same"),
            layers.Conv2D(3, (2, 3), strides=(3, 2)),
        ]
    )
    x = rng.normal(size=(8, 9, 7, 2)).astype(np.float32)
    assert_exact(quantize(model, QuantizationParams(), x), x)
