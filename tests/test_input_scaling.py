"""Float inputs far from zero, or of unlike scales: as good as standardized ones, and exact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from exactness import assert_exact
from keras import layers
from parameters import slow

import quantkeras as qk
from quantkeras.layers import InputQuantizer
from quantkeras.runtime import Program

PLAIN_DB = 30.0
"""What standardized inputs reach at least in these networks of random weights."""


@dataclass(frozen=True)
class Case:
    """A float network, its samples, and what became of them."""

    model: Any
    samples: Any
    quantized: Any

    @property
    def quantizers(self) -> list[Any]:
        return [x for x in self.quantized.layers if isinstance(x, InputQuantizer)]


def sqnr(model: Any, quantized: Any, x: Any) -> float:
    wanted = np.asarray(model(x))
    error = wanted - np.asarray(quantized(x, training=False))
    return float(10 * np.log10(np.mean(wanted**2) / np.mean(error**2)))


def normalization(x: np.ndarray) -> Any:
    axes = tuple(range(x.ndim - 1))
    return layers.Normalization(mean=x.mean(axes), variance=x.var(axes))


def perceptron(x: np.ndarray) -> Any:
    inputs = keras.Input(x.shape[1:])
    hidden = layers.Dense(16, activation="relu")(normalization(x)(inputs))
    return keras.Model(inputs, layers.Dense(3)(hidden))


def table_of_features(rng: np.random.Generator) -> tuple[Any, Any]:
    """Features of 1e-3 to 1e4, two of them far from zero, and a switch."""
    scales, middles = np.array([1e-3, 1, 30, 1e4, 1]), np.array([0.5, 0, 300, 0, 1e5])
    x = rng.normal(size=(64, 5)) * scales + middles
    x[:, 1] = x[:, 1] > 0
    return perceptron(x.astype(np.float32)), x.astype(np.float32)


def two_inputs(rng: np.random.Generator) -> tuple[Any, Any]:
    """Inputs of their own, joined behind their normalizations."""
    data = [rng.normal(size=(64, 1)) + 300, rng.normal(size=(64, 2)) * [1e-3, 5e3]]
    xs = [x.astype(np.float32) for x in data]
    inputs = [keras.Input(x.shape[1:], name=name) for x, name in zip(xs, "ab", strict=True)]
    joined = layers.Concatenate()([normalization(x)(i) for x, i in zip(xs, inputs, strict=True)])
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(16, activation="relu")(joined))), xs


def padded_sensor(rng: np.random.Generator) -> tuple[Any, Any]:
    """A 1-D convolution that pads behind a batch normalization."""
    x = (rng.normal(size=(16, 12, 3)) * [1, 30, 1000] + [0, 300, 1e5]).astype(np.float32)
    inputs = keras.Input((12, 3))
    norm = layers.BatchNormalization()
    y = layers.Conv1D(8, 3, padding="same", activation="relu")(norm(inputs))
    norm.moving_mean.assign(x.mean((0, 1)))
    norm.moving_variance.assign(x.var((0, 1)))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(y))), x


def maps_far_away(rng: np.random.Generator) -> tuple[Any, Any]:
    """Counts of 1000 +- 1 in pictures."""
    x = (1000 + rng.normal(size=(8, 6, 6, 2))).astype(np.float32)
    inputs = keras.Input((6, 6, 2))
    y = layers.Conv2D(6, 3, activation="relu")(normalization(x)(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(y))), x


NETWORKS = (table_of_features, two_inputs, padded_sensor, maps_far_away)


@pytest.fixture(
    scope="module", params=[*NETWORKS[:2], *slow(*NETWORKS[2:])], ids=lambda make: make.__name__
)
def case(request: pytest.FixtureRequest) -> Case:
    keras.utils.set_random_seed(0)
    model, x = request.param(np.random.default_rng(0))
    return Case(model, x, qk.quantize(model, samples=x))


@pytest.fixture(scope="module")
def features() -> Case:
    keras.utils.set_random_seed(0)
    model, x = table_of_features(np.random.default_rng(0))
    return Case(model, x, qk.quantize(model, samples=x))


def test_they_are_as_good_as_standardized_ones(case: Case) -> None:
    assert sqnr(case.model, case.quantized, case.samples) > PLAIN_DB


def test_the_program_quantizes_them_the_same_way(case: Case) -> None:
    program = assert_exact(case.quantized, case.samples)
    assert any(entry.offset is not None for entry in program.inputs)


def test_files_keep_the_offset(features: Case, tmp_path: Path) -> None:
    wanted = features.quantized(features.samples)
    features.quantized.save(tmp_path / "net.keras")
    again = qk.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(again(features.samples), wanted)
    program = qk.convert(features.quantized)
    program.save(tmp_path / "net.qkp")
    loaded = Program.load(tmp_path / "net.qkp")
    np.testing.assert_array_equal(loaded.predict(features.samples), wanted)
    np.testing.assert_array_equal(loaded.inputs[0].offset, program.inputs[0].offset)


def test_the_summary_tells_of_the_offset(features: Case) -> None:
    lines: list[str] = []
    qk.convert(features.quantized).summary(lines.append)
    assert any("is subtracted before it is quantized" in line for line in lines)


def test_more_input_bits_help(features: Case) -> None:
    finer = qk.quantize(
        features.model, qk.QuantizationParams(input_bits=16), samples=features.samples
    )
    coarse = sqnr(features.model, features.quantized, features.samples)
    assert sqnr(features.model, finer, features.samples) > coarse


@pytest.mark.parametrize("bits", [8, 16])
def test_pixels_and_small_numbers_stay_as_they_are(bits: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (8, 6, 6, 3)).astype(np.float32)
    x[:, :, :, 2] /= 3  # less than two bits apart
    inputs = keras.Input((6, 6, 3))
    y = layers.Conv2D(4, 3, padding="same")(layers.Rescaling(1 / 127.5, -1.0)(inputs))
    params = qk.QuantizationParams(input_bits=bits)
    quantized = qk.quantize(keras.Model(inputs, layers.Flatten()(y)), params, samples=x)
    (quantizer,) = (q for q in quantized.layers if isinstance(q, InputQuantizer))
    assert not quantizer.signed and not quantizer.has_offset
    assert np.asarray(quantizer.scale).max() < 4


def test_a_rare_small_channel_is_not_magnified() -> None:
    """Its weights are like those of the others, so that the samples say little of its range."""
    x = np.random.default_rng(0).random((32, 3)).astype(np.float32)
    x[:, 2] *= 1e-3
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, kernel_initializer="ones")])
    quantized = qk.quantize(model, samples=x)
    (quantizer,) = (q for q in quantized.layers if isinstance(q, InputQuantizer))
    largest = np.asarray(quantizer.lsb()) * quantizer.qmax / np.asarray(quantizer.scale)
    assert largest[2] > 0.2


def test_a_constant_that_a_normalization_divides_by_nothing() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(64, 3)) + 50, np.full((64, 1), 7.0)], 1)
    model = perceptron(x.astype(np.float32))
    quantized = qk.quantize(model, samples=x.astype(np.float32))
    assert sqnr(model, quantized, x.astype(np.float32)) > PLAIN_DB


def test_an_input_with_other_readers_keeps_its_format() -> None:
    """Where an addition reads it, nothing could undo an offset: it is quantized as it is."""
    x = (np.random.default_rng(0).normal(size=(32, 4)) + 100).astype(np.float32)
    inputs = keras.Input((4,))
    y = layers.Dense(3)(layers.Add()([inputs, layers.Dense(4)(inputs)]))
    quantized = qk.quantize(keras.Model(inputs, y), samples=x)
    (quantizer,) = (q for q in quantized.layers if isinstance(q, InputQuantizer))
    assert not quantizer.has_offset
    assert_exact(quantized, x)


def test_one_scale_where_tensors_have_one_format(features: Case) -> None:
    params = qk.QuantizationParams(per_tensor_activations=True)
    quantized = qk.quantize(features.model, params, samples=features.samples)
    (quantizer,) = (q for q in quantized.layers if isinstance(q, InputQuantizer))
    assert np.unique(np.asarray(quantizer.scale)).size == 1 and not quantizer.has_offset


def test_random_samples_and_tiny_sets_move_nothing() -> None:
    x = (1000 + np.random.default_rng(0).normal(size=(4, 5))).astype(np.float32)
    quantized = qk.quantize(perceptron(x), samples=x)
    (quantizer,) = (q for q in quantized.layers if isinstance(q, InputQuantizer))
    assert not quantizer.has_offset


def test_samples_of_a_generator_are_all_read() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(64, 4)) * [1, 1e3, 1, 1] + 500).astype(np.float32)
    model = perceptron(x)
    batches = (x[start : start + 16] for start in range(0, 64, 16))
    quantized = qk.quantize(model, samples=batches, num_samples=64)
    whole = qk.quantize(model, samples=x)
    for a, b in zip(quantized.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_values_beside_zero_are_centred_where_there_is_a_sign_in_any_case() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(np.array([3, 0, -40, 0]), size=(64, 4)).astype(np.float32)
    model = perceptron(x)
    quantized = qk.quantize(model, samples=x)
    (quantizer,) = (q for q in quantized.layers if isinstance(q, InputQuantizer))
    offset = np.asarray(quantizer.offset)
    np.testing.assert_allclose(offset, [3, 0, -40, 0], atol=1)
    assert not offset[[1, 3]].any()
    assert sqnr(model, quantized, x) > PLAIN_DB
