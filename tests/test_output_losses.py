"""The warning about outputs that quantizing left little of: when it comes, what it names."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import quantkeras as qk
from quantkeras.errors import QuantizationLossWarning
from quantkeras.quantization import quantize_model as quantization

UNLIKE = np.float32([1, 1e4, 1, 1e4])


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> Any:
    """'hidden' has channels of very unlike ranges, and 'out' needs all of them."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = layers.Dense(4, name="hidden", activation="relu")
    out = layers.Dense(2, name="out")
    network = keras.Model(inputs, out(hidden(inputs)))
    hidden.kernel.assign(np.eye(4, dtype=np.float32) * UNLIKE)
    out.kernel.assign(np.float32([[1, 1], [-1, 2], [2, 1], [1, -1]]) / UNLIKE[:, None])
    return network


COARSE = qk.QuantizationParams().with_override("hidden", per_tensor_activations=True)


def warnings_of(model: Any, samples: Any, params: Any = None, **options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", QuantizationLossWarning)
        qk.quantize(model, params, samples=samples, **options)
    assert all(w.filename == __file__ for w in caught)
    return [str(w.message) for w in caught]


def test_it_names_the_output_and_where_most_is_lost(model: Any, samples: np.ndarray) -> None:
    (told,) = warnings_of(model, samples, COARSE)
    assert "32 of the calibration samples" in told
    assert "'out' keeps" in told and "rounding 'hidden' costs most of it" in told


def test_inputs_are_named_as_well(samples: np.ndarray) -> None:
    inputs = keras.Input((4,), name="sensor")
    out = layers.Dense(2, name="out")
    network = keras.Model(inputs, out(inputs))
    out.kernel.assign(np.float32([[1, 1], [-1, 2], [2, 1], [1, -1]]) / UNLIKE[:, None])
    x = samples * UNLIKE
    assert warnings_of(network, x) == []
    (told,) = warnings_of(network, x, qk.QuantizationParams(per_tensor_activations=True))
    assert "'out' keeps" in told and "rounding 'sensor' costs most of it" in told


def test_good_networks_are_quiet(samples: np.ndarray) -> None:
    network = keras.Sequential([keras.Input((4,)), layers.Dense(8), layers.Dense(2)])
    assert warnings_of(network, samples) == []


def test_who_asks_for_few_bits_knows(model: Any, samples: np.ndarray) -> None:
    few = qk.QuantizationParams(weight_bits=4, per_tensor_activations=True)
    assert warnings_of(model, samples, few) == []
    assert warnings_of(model, samples, COARSE.with_override("out", weight_bits=4)) == []


def test_random_samples_tell_nothing(model: Any) -> None:
    assert warnings_of(model, None, COARSE, num_samples=32) == []


def test_an_output_that_is_constant_has_no_signal(samples: np.ndarray) -> None:
    dead = layers.Dense(2, kernel_initializer="zeros", bias_initializer="ones")
    assert warnings_of(keras.Sequential([keras.Input((4,)), dead]), samples) == []


def test_ignoring_it_saves_the_time(
    model: Any, samples: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any) -> None:
        raise AssertionError("it was looked for")

    monkeypatch.setattr(quantization, "warn_of_losses", never)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuantizationLossWarning)
        qk.quantize(model, COARSE, samples=samples)
    with warnings.catch_warnings(), pytest.raises(AssertionError, match="looked for"):
        warnings.simplefilter("always", QuantizationLossWarning)
        qk.quantize(model, COARSE, samples=samples)


def test_a_large_mean_hides_no_loss(model: Any, samples: np.ndarray) -> None:
    network = keras.models.clone_model(model)
    network.set_weights(model.get_weights())
    network.get_layer("out").bias.assign([1000.0, -300.0])
    (told,) = warnings_of(network, samples, COARSE)
    assert "what makes samples differ in 2 of 2 channels, and rounding 'hidden'" in told

    inputs = keras.Input((4,))
    bias = keras.initializers.Constant(1000.0)
    x = layers.Dense(4, activation="relu")(inputs)
    assert not warnings_of(keras.Model(inputs, layers.Dense(2, bias_initializer=bias)(x)), samples)


def test_other_channels_hide_no_loss() -> None:
    rng = np.random.default_rng(0)
    pair = [rng.normal(size=(32, 4)) * scale for scale in (1.0, 1000.0)]
    inputs = [keras.Input((4,), name=name) for name in ("one", "other")]
    tower = keras.Sequential([layers.Dense(4, activation="relu"), layers.Dense(3)])
    network = keras.Model(inputs, layers.Concatenate(name="both")([tower(x) for x in inputs]))
    (told,) = warnings_of(network, [x.astype(np.float32) for x in pair])
    assert "'both' keeps" in told and "3 of 6 channels" in told


def test_channels_that_hardly_vary_have_nothing_to_lose(samples: np.ndarray) -> None:
    inputs = keras.Input((4,))
    out = layers.Dense(4, name="out", activation="relu")
    network = keras.Model(inputs, out(inputs))
    constant, seldom = [1e-9, 0, 0, 0], [0, 0, 1e-3, 0]
    kernel = np.float32([[0, 5, 0, 0], constant, seldom, np.zeros(4)]).T
    out.set_weights([kernel, np.float32([1, 100, -1.5e-3, 0])])
    assert not warnings_of(network, samples)
