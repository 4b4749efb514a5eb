"""What differs between the backends of Keras: whether they compute in float64, and where not."""

import keras
import numpy as np
import pytest
from exactness import as_numpy
from keras import layers, ops
from parameters import slow_rows

import quantkeras
from quantkeras.errors import AccumulatorTooWide
from quantkeras.layers import exact_ops


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(7).uniform(0, 1, (8, 64)).astype(np.float32)


@pytest.fixture
def no_float64(monkeypatch):
    """As on a backend that computes in float32 only."""
    monkeypatch.setattr(exact_ops, "float64_available", lambda: False)


def wide_network():
    """One whose sums leave float32: 16-bit integers."""
    inputs = keras.Input((64,))
    x = layers.Dense(8, activation="relu", name="first")(inputs)
    return keras.Model(inputs, layers.Dense(2, name="last")(x))


def wide(samples):
    params = quantkeras.QuantizationParams(activation_bits=16, output_bits=16)
    return quantkeras.quantize(wide_network(), params, samples=samples)


def test_a_layer_that_needs_float64_is_refused_where_there_is_none(samples, monkeypatch):
    quantized = wide(samples)
    assert quantized.get_layer("first").carrier == "float64"
    expected = quantized(samples[:2])
    monkeypatch.setattr(exact_ops, "float64_available", lambda: False)
    with pytest.raises(AccumulatorTooWide, match=r"'first'.*2\*\*24.*convert.*KERAS_BACKEND"):
        quantized(samples[:2])
    program = quantkeras.convert(quantized)  # which needs no floats
    np.testing.assert_array_equal(program.predict(samples[:2]), expected)


@pytest.mark.slow
@pytest.mark.usefixtures("no_float64")
def test_without_float64_every_layer_is_fitted_to_float32(samples):
    quantized = wide(samples)
    assert {quantized.get_layer(name).carrier for name in ("first", "last")} == {"float32"}
    assert quantkeras.verify(quantized, quantkeras.convert(quantized), samples).exact


@pytest.mark.usefixtures("no_float64")
@pytest.mark.parametrize(("gain", "fits"), [*slow_rows((1.0, True)), (1e6, False)])
def test_joins_too_far_apart_for_float32_are_refused_without_float64(samples, gain, fits):
    inputs = keras.Input((64,))
    one = layers.Dense(4, kernel_initializer="ones", name="one")(inputs)
    other = layers.Dense(4, kernel_initializer=keras.initializers.Constant(gain))(inputs)
    joined = layers.Add(name="join")([one, other])
    model = keras.Model(inputs, layers.Dense(2)(joined))
    if not fits:
        with pytest.raises(AccumulatorTooWide, match="'join'.*float32"):
            quantkeras.quantize(model, samples=samples)
        return
    quantized = quantkeras.quantize(model, samples=samples)
    assert quantkeras.verify(quantized, quantkeras.convert(quantized), samples).exact


@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
def test_float64_stays_float64(backend, monkeypatch):
    """On any backend; and what stands in on PyTorch gives the same on this one."""
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    values = np.array([-(2.0**40) - 0.5, -3.0, -0.25, 0.0, 0.75, 3.0, 2.0**40 + 0.5])
    x, y = ops.convert_to_tensor(values), ops.convert_to_tensor(values[::-1].copy())
    found = {
        "floor": (exact_ops.floor(x), np.floor(values)),
        "minimum": (exact_ops.minimum(x, y), np.minimum(values, values[::-1])),
        "maximum": (exact_ops.maximum(x, y), np.maximum(values, values[::-1])),
        "matmul": (exact_ops.matmul(x[None], x[:, None]), [[(values * values).sum()]]),
    }
    for name, (result, wanted) in found.items():
        assert keras.backend.standardize_dtype(result.dtype) == "float64", name
        np.testing.assert_array_equal(as_numpy(result), wanted, name)


def test_layers_in_layers_are_no_defaults_of_classes():
    """PyTorch looks for them where neither the instance nor its class has the name."""
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(3, 3, activation="swish")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    quantized = quantkeras.quantize(model, samples=np.ones((8, 6, 6, 2), np.float32))
    inner = [
        (type(layer), name)
        for layer in quantized.layers
        for name, value in vars(layer).items()
        if isinstance(value, keras.layers.Layer)
    ]
    assert len(inner) >= 4
    assert not [(kind.__name__, name) for kind, name in inner if hasattr(kind, name)]
