"""16-bit activations and weights are fitted to the accumulators; what can't be is refused."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
from exactness import assert_exact
from keras import layers
from parameters import slow, slow_rows

import quantkeras as qk
from quantkeras.errors import AccumulatorTooWide, AccumulatorWarning
from quantkeras.layers import InputQuantizer, WeightedLayer
from quantkeras.runtime import Program
from quantkeras.runtime.costs import program_costs

WIDE = {"activation_bits": 16, "output_bits": 16, "input_bits": 16}


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(16, 4096)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> Any:
    """Sums of 4096 products, which 16 times 8 bits can't hold in 32."""
    keras.utils.set_random_seed(0)
    large = keras.initializers.RandomUniform(0.5, 1)
    first = layers.Dense(8, activation="relu", kernel_initializer=large, name="first")
    return keras.Sequential([keras.Input((4096,)), first, layers.Dense(4, name="last")])


def sqnr(model: Any, program: Program, x: Any) -> float:
    wanted = np.asarray(model(x))
    return float(10 * np.log10(np.mean(wanted**2) / np.mean((wanted - program.predict(x)) ** 2)))


def fits(program: Program, bits: int = 32) -> bool:
    return all(cost.accumulator_bits <= bits for cost in program_costs(program).layers)


@pytest.mark.parametrize(("weight_bits", "least"), [(8, 38), *slow_rows((16, 50))])
def test_bits_above_eight_are_given_up(
    model: Any, samples: np.ndarray, weight_bits: int, least: float
) -> None:
    params = qk.QuantizationParams(
        **WIDE, weight_bits=weight_bits, input_weight_bits=weight_bits, last_weight_bits=weight_bits
    )
    quantized = qk.quantize(model, params, samples=samples)
    program = assert_exact(quantized, samples)
    assert fits(program) and sqnr(model, program, samples) > least
    (entry,) = (x for x in quantized.layers if isinstance(x, InputQuantizer))
    first = quantized.get_layer("first")
    assert 8 < entry.bits < 16
    assert 8 <= first.weight_quantizer.bits < 16
    if weight_bits == 8:  # the next layer is small: it has room for all bits
        assert first.output_quantizer.bits == 16


def test_it_is_saved_with_the_model(model: Any, samples: np.ndarray, tmp_path: Any) -> None:
    quantized = qk.quantize(model, qk.QuantizationParams(**WIDE), samples=samples)
    quantized.save(tmp_path / "net.keras")
    again = qk.convert(qk.load_model(tmp_path / "net.keras"))
    assert fits(again)
    np.testing.assert_array_equal(again.predict(samples), np.asarray(quantized(samples)))


def test_pixels_keep_their_bits_and_weights_give_theirs() -> None:
    ones = keras.Sequential([keras.Input((4096,)), layers.Dense(3, kernel_initializer="ones")])
    x = np.full((4, 4096), 255, np.uint8)
    params = qk.QuantizationParams(weight_bits=16, input_weight_bits=16, last_weight_bits=16)
    quantized = qk.quantize(ones, params, samples=x)
    (weighted,) = (layer for layer in quantized.layers if isinstance(layer, WeightedLayer))
    assert 8 < weighted.weight_quantizer.bits < 16
    assert fits(assert_exact(quantized, x, graph=False))


def test_products_of_tensors_fit_as_well() -> None:
    inputs = keras.Input((4, 4, 3))
    gate = layers.Conv2D(3, 1, activation="relu")(inputs)
    pooled = layers.GlobalAveragePooling2D()(layers.Multiply()([inputs, gate]))
    network = keras.Model(inputs, layers.Dense(2)(pooled))
    x = np.random.default_rng(0).random((8, 4, 4, 3)).astype(np.float32)
    quantized = qk.quantize(network, qk.QuantizationParams(**WIDE), samples=x)
    assert fits(assert_exact(quantized, x, graph=False))


@pytest.mark.parametrize("setting", ["weight_bits", *slow("input_bits"), "buffer_bits"])
def test_the_settings_that_the_refusal_names_work(
    model: Any, samples: np.ndarray, setting: str
) -> None:
    with pytest.raises(AccumulatorTooWide, match=r"24 bits.*'first' needs 2\d") as refused:
        qk.quantize(model, qk.QuantizationParams(buffer_bits=24), samples=samples)
    about_first = str(refused.value).split(";")[1]
    (bits,) = re.findall(rf"\b{setting}=(\d+)", about_first)
    params = qk.QuantizationParams(**{"buffer_bits": 24, setting: int(bits)})
    if setting == "weight_bits":
        params = qk.QuantizationParams(buffer_bits=24, input_weight_bits=int(bits))
    program = qk.convert(qk.quantize(model, params, samples=samples))
    assert fits(program, params.buffer_bits)


@pytest.mark.slow
def test_what_training_makes_too_wide_is_told(model: Any, samples: np.ndarray) -> None:
    quantized = qk.quantize(model, qk.QuantizationParams(**WIDE), samples=samples)
    qk.convert(quantized)  # fits
    first = quantized.get_layer("first")
    # As training may move them: all of them as large as the largest.
    first.kernel.assign(np.full(first.kernel.shape, np.asarray(first.kernel).max()))
    with pytest.warns(AccumulatorWarning, match="'first' needs 34 bits.* calibrate"):
        assert not fits(qk.convert(quantized))
    program = qk.convert(qk.calibrate(quantized, samples))
    assert fits(program)
    np.testing.assert_array_equal(program.predict(samples), np.asarray(quantized(samples)))


@pytest.mark.filterwarnings("ignore:No samples were given")
def test_a_second_step_fits_as_one_step_does(model: Any, samples: np.ndarray) -> None:
    params = qk.QuantizationParams(**WIDE)
    later = qk.calibrate(qk.quantize(model, params, num_samples=4), samples)
    assert fits(qk.convert(later))
