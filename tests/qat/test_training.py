"""Ranges in training: what each mode changes, the LSQ gradients, and exactness afterwards."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from exactness import assert_exact

import quantkeras
from quantkeras.errors import QuantizationError
from quantkeras.layers import Dequantizer, InputQuantizer, OutputQuantizer, QuantizedDense

X = np.random.default_rng(7).normal(size=(64, 8, 8, 3)).astype("float32")
Y = X.mean((1, 2)).argmax(-1)  # something that the network can learn


def _quantized(bits: int = 4) -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu")(inputs)
    y = keras.layers.Conv2D(6, 3, padding="same")(x)
    x = keras.layers.ReLU()(keras.layers.Add()([x, y]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(4)(x))
    params = quantkeras.QuantizationParams(weight_bits=bits, activation_bits=bits)
    return quantkeras.quantize(model, params, X)


def _ranges(model: keras.Model) -> dict[str, np.ndarray]:
    names = ("log2_range", "factor", "raw_gain")
    return {v.path: np.array(v) for v in model.variables if v.path.endswith(names)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode", [pytest.param("frozen", marks=pytest.mark.slow), "moving", "learned"]
)
def test_fit_moves_what_the_mode_says_and_stays_exact(mode: str) -> None:
    model = _quantized()
    before_output = model.predict(X, verbose=0)
    quantkeras.set_ranges(model, mode)
    np.testing.assert_array_equal(model.predict(X, verbose=0), before_output)
    before = _ranges(model)
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(True))
    model.fit(X, Y, batch_size=16, epochs=2, verbose=0)
    after = _ranges(model)
    moved = {path.rsplit("/", 1)[1] for path in before if (before[path] != after[path]).any()}
    assert (
        moved
        == {
            "frozen": set(),
            "moving": {"log2_range", "raw_gain"},
            "learned": {"log2_range", "factor"},
        }[mode]
    )
    assert_exact(model, X)


@pytest.mark.slow
def test_training_lowers_the_loss_of_a_four_bit_model() -> None:
    model = quantkeras.set_ranges(_quantized(), "learned")
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(True))
    losses = model.fit(X, Y, batch_size=16, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]


def _with_functions() -> keras.Model:
    """A four-bit model with tables: two functions, slopes per channel, a gate."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, padding="same", activation="silu")(inputs)
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = keras.layers.Dense(6, activation="sigmoid")(gate)
    x = keras.layers.Multiply()([x, gate])
    x = keras.layers.Conv2D(6, 3, padding="same", activation="hard_silu")(x)
    x = keras.layers.Conv2D(6, 3, padding="same", name="sloped")(x)
    x = keras.layers.PReLU(shared_axes=[1, 2])(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(4)(x))
    params = quantkeras.QuantizationParams(weight_bits=4, activation_bits=4)
    return quantkeras.quantize(model, params, X)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode", [pytest.param("frozen", marks=pytest.mark.slow), "moving", "learned"]
)
def test_training_through_tables_lowers_the_loss_and_stays_exact(mode: str) -> None:
    model = quantkeras.set_ranges(_with_functions(), mode)
    assert_exact(model, X, graph=False)
    layer = model.get_layer("sloped")
    alpha, ranges = np.array(layer.alpha), _ranges(model)
    table = np.array(layer.numbers().table)
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(True))
    losses = model.fit(X, Y, batch_size=16, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < (0.9 if mode == "frozen" else 0.8) * losses[0]
    assert (np.array(layer.alpha) != alpha).all()
    assert (np.array(layer.numbers().table) != table).any()
    moved = [path for path, value in _ranges(model).items() if (value != ranges[path]).any()]
    assert any("table_quantizer" in path for path in moved) == (mode != "frozen")
    assert_exact(model, X)


@pytest.mark.slow
def test_what_training_computes_is_what_prediction_computes() -> None:
    """Tables are left out in training: the same integers come of the function itself."""
    model = _with_functions()
    np.testing.assert_array_equal(np.array(model(X, training=True)), model.predict(X, verbose=0))


def _dense(mode: str, output: OutputQuantizer | None) -> tuple[keras.Model, QuantizedDense]:
    inputs = keras.Input((5,))
    x = InputQuantizer(signed=True, per_channel=False, range_mode=mode)(inputs)
    layer = QuantizedDense(3, use_bias=False, output_quantizer=output, name="dense")
    layer.weight_quantizer.range_mode = mode
    model = keras.Model(inputs, Dequantizer()(layer(x)))
    layer.kernel.assign(np.random.default_rng(7).normal(size=(5, 3)).astype("float32"))
    layer.fit_weights()
    return model, layer


def test_the_gradient_of_a_weight_step_is_that_of_lsq(rng: np.random.Generator) -> None:
    """dy/ds = sum x (round(w/s) - w/s), times 1/sqrt(N qmax) (arXiv:1902.08153, eq. 3)."""
    model, layer = _dense("learned", None)
    x = (rng.integers(-100, 100, size=(2, 5)) / 128).astype("float32")
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(model(x, training=True))
    gradient = tape.gradient(y, layer.weight_quantizer.factor.value)
    numbers = layer.numbers()
    step = np.array(numbers.step)
    kernel, rounded = np.array(layer.kernel), np.array(numbers.qkernel)
    inside = np.abs(kernel / step) <= layer.weight_quantizer.qmax + 0.5
    by_step = (x.sum(0)[:, None] * (rounded - np.where(inside, kernel / step, 0))).sum(0)
    scale = 1 / np.sqrt(5 * layer.weight_quantizer.qmax)
    np.testing.assert_allclose(
        gradient, by_step * np.array(layer.weight_quantizer.raw_gain) * scale, rtol=2e-4
    )


def test_the_gradient_of_an_activation_range_is_that_of_lsq() -> None:
    """In the log domain: s ln(2) times (q - v/s) inside, times q outside; 1/sqrt(N qmax)."""
    quantizer = OutputQuantizer(bits=4, signed=True, per_channel=False, range_mode="learned")
    quantizer.build((None, 3))
    quantizer.set_range(np.array(1.0))
    values = tf.constant([[0.3, -0.52, 5.0], [0.11, -9.0, 0.7]])
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(quantizer(values))
    gradient = tape.gradient(y, quantizer.log2_range.value)
    lsb = float(quantizer.lsb()[0])
    scaled = np.array(values) / lsb
    rounded = np.clip(np.floor(scaled + 0.5), -8, 7)
    inside = (scaled >= -8.5) & (scaled < 7.5)
    expected = np.sum(rounded - np.where(inside, scaled, 0)) * lsb * np.log(2) / np.sqrt(3 * 7)
    np.testing.assert_allclose(gradient, [expected], rtol=1e-5)


def test_set_ranges_refuses_what_it_cannot_do() -> None:
    with pytest.raises(QuantizationError, match="'sliding'.*frozen, moving, learned"):
        quantkeras.set_ranges(_quantized(), "sliding")
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(QuantizationError, match="call quantize first"):
        quantkeras.set_ranges(plain, "learned")


def test_accumulators_wider_than_the_hardware_are_all_named(rng: np.random.Generator) -> None:
    inputs = keras.Input((600,))
    x = keras.layers.Dense(8, activation="relu", name="wide_one")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(4, name="narrow_one")(x))
    samples = rng.normal(size=(32, 600)).astype("float32")
    params = quantkeras.QuantizationParams(buffer_bits=20)
    with pytest.raises(QuantizationError, match=r"20 bits.*'wide_one' needs 2\d"):
        quantkeras.quantize(model, params, samples)
    quantkeras.quantize(model, quantkeras.QuantizationParams(buffer_bits=32), samples)
