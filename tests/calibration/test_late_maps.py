"""Inputs far from zero or of unlike scales, calibrated behind quantize: as with samples at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from parameters import slow

import quantkeras as qk
from quantkeras.errors import QuantizationLossWarning
from quantkeras.layers import InputQuantizer, WeightedLayer
from quantkeras.quantization.provenance import provenance_of

layers = keras.layers

SAMPLES = 48
PLAIN_DB = 20.0


class Case(NamedTuple):
    model: keras.Model
    samples: Any


def normalization(samples: np.ndarray) -> keras.layers.Layer:
    axes = tuple(range(samples.ndim - 1))
    return layers.Normalization(mean=samples.mean(axes), variance=samples.var(axes))


def head(x: Any) -> Any:
    return layers.Dense(3, name="head")(x)


def joined() -> Case:
    """Two inputs of unlike scales and far from zero, read as one by a layer without a bias."""
    rng = np.random.default_rng(0)
    near = (rng.normal(size=(SAMPLES, 3)) * 3 + 300).astype(np.float32)
    wide = (rng.normal(size=(SAMPLES, 2)) * [1, 1e4] - 50).astype(np.float32)
    inputs = [keras.Input((3,), name="near"), keras.Input((2,), name="wide")]
    x = layers.Concatenate()(inputs)
    x = normalization(np.concatenate([near, wide], 1))(x)
    return Case(keras.Model(inputs, head(layers.Dense(6, use_bias=False)(x))), [near, wide])


def pictures(normalized: bool) -> Case:
    """Pictures in front of a padded convolution without a bias."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, 5, 5, 2)) * [1, 40] + [-90, 0]
    x = x.astype(np.float32)
    inputs = keras.Input((5, 5, 2))
    y = normalization(x)(inputs) if normalized else inputs
    y = layers.Conv2D(4, 3, padding="same", use_bias=False)(y)
    return Case(keras.Model(inputs, head(layers.Flatten()(y))), x)


def siamese(one: float, other: float) -> Case:
    """One layer that reads two inputs; it answers to what makes their values differ."""
    rng = np.random.default_rng(0)
    samples = [(rng.normal(size=(SAMPLES, 4)) + c).astype(np.float32) for c in (one, other)]
    inputs = [keras.Input((4,), name="one"), keras.Input((4,), name="other")]
    kernel = rng.normal(size=(4, 6))
    shared = layers.Dense(6, name="shared")
    x = layers.Concatenate()([shared(x) for x in inputs])
    shared.set_weights([kernel - kernel.mean(axis=0), np.zeros(6)])
    return Case(keras.Model(inputs, head(x)), samples)


CASES: dict[str, Callable[[], Case]] = {
    "joined": joined,
    "padded": lambda: pictures(False),
    "padded, normalized": lambda: pictures(True),
    "siamese": lambda: siamese(1000, 1000),
}


def made(case: Callable[[], Case]) -> Case:
    keras.utils.set_random_seed(0)
    return case()


def in_two_steps(case: Case) -> keras.Model:
    with pytest.warns(UserWarning, match="No samples"):
        model = qk.quantize(case.model)
    return qk.calibrate(model, case.samples)


def sqnr(case: Case, quantized: keras.Model) -> float:
    wanted = np.asarray(case.model(case.samples))
    noise = np.asarray(quantized(case.samples)) - wanted
    return float(10 * np.log10(((wanted - wanted.mean(0)) ** 2).mean() / (noise**2).mean()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["joined", *slow("padded", "padded, normalized", "siamese")])
def test_two_steps_give_what_one_gives(name) -> None:
    found = made(CASES[name])
    at_once = qk.quantize(found.model, samples=found.samples)
    later = in_two_steps(found)
    assert sqnr(found, at_once) > PLAIN_DB
    for model in (at_once, later):
        quantizers = [x for x in model.layers if isinstance(x, InputQuantizer)]
        assert any(x.has_offset and np.asarray(x.offset).any() for x in quantizers)
        assert len([x for x in model.layers if isinstance(x, WeightedLayer)]) == 2
    values = np.asarray(later(found.samples))
    np.testing.assert_array_equal(values, np.asarray(at_once(found.samples)))
    np.testing.assert_array_equal(values, qk.convert(later).predict(found.samples))


@pytest.mark.slow
def test_a_shared_layer_of_inputs_far_apart_has_weights_for_each() -> None:
    found = made(lambda: siamese(1000, -1000))
    quantized = qk.quantize(found.model, samples=found.samples)
    assert sqnr(found, quantized) > PLAIN_DB
    assert len([x for x in quantized.layers if isinstance(x, WeightedLayer)]) == 3
    assert any("'shared'" in hint for hint in provenance_of(quantized).hints)
    values = np.asarray(quantized(found.samples))
    np.testing.assert_array_equal(values, qk.convert(quantized).predict(found.samples))
    with pytest.warns(QuantizationLossWarning, match="quantize with these samples"):
        in_two_steps(found)


def test_a_padding_of_nothing_stays_out_of_the_program() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, 5, 5, 2)).astype(np.float32)
    inputs = keras.Input((5, 5, 2))
    y = layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    later = in_two_steps(Case(keras.Model(inputs, y), x))
    assert all(layer.params.pad_value is None for layer in qk.convert(later).layers)
