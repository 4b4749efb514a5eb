"""Live batch normalization: the same function to begin with, exact at every moment, foldable."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact
from hypothesis import given
from hypothesis import strategies as st

import quantkeras as qk
from quantkeras.errors import QuantizationError
from quantkeras.layers import LiveBatchNorm
from quantkeras.qat.batchnorm_training import live_layers

X = np.random.default_rng(3).normal(size=(64, 8, 8, 3)).astype("float32")
Y = X.mean((1, 2)).argmax(-1)
LABELS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _float_model() -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, padding="same", name="first")(inputs)
    x = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(x))
    y = keras.layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    y = keras.layers.Conv2D(6, 1, name="point")(y)
    x = keras.layers.ReLU()(keras.layers.Add()([x, y]))
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Conv2D(6, 3, use_bias=False, name="unbiased")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    return keras.Model(inputs, keras.layers.Dense(4, name="scores")(x))


def _quantized(bits: int = 4) -> keras.Model:
    params = qk.QuantizationParams(weight_bits=bits, activation_bits=bits)
    return qk.quantize(_float_model(), params, X)


def _trained(model: keras.Model, epochs: int = 2, eager: bool = True) -> keras.Model:
    """eager: a step costs more, and none has to be compiled, which takes seconds."""
    qk.set_ranges(model, "learned")
    model.compile(keras.optimizers.Adam(1e-2), LABELS, run_eagerly=eager)
    model.fit(X, Y, batch_size=32, epochs=epochs, verbose=0)
    return model


@pytest.mark.slow
def test_the_copy_begins_as_the_model_and_leaves_it_alone() -> None:
    model = _quantized()
    before = as_numpy(model(X))
    live = qk.live_batchnorm(model, X)
    assert [layer.name for layer in live_layers(live)] == ["first", "depthwise", "point"]
    assert not live_layers(model)
    for layer in live_layers(live):
        np.testing.assert_array_equal(layer.batchnorm.ratio(), 1)
        found, wanted = layer.numbers(), model.get_layer(layer.name).numbers()
        np.testing.assert_array_equal(found.qkernel, wanted.qkernel)
        np.testing.assert_array_equal(found.step, wanted.step)
        np.testing.assert_allclose(found.qbias, wanted.qbias, rtol=0, atol=1)
    np.testing.assert_array_equal(as_numpy(model(X)), before)


@pytest.mark.slow
def test_training_is_exact_at_every_moment_and_folds_to_the_same_integers() -> None:
    live = _trained(qk.live_batchnorm(_quantized(), X), eager=False)
    assert any((np.array(x.batchnorm.ratio()) != 1).any() for x in live_layers(live))
    assert_exact(live, X)
    qk.reestimate_batchnorm(live, X)
    assert_exact(live, X, graph=False)
    folded = qk.fold_batchnorm(live)
    assert not live_layers(folded)
    np.testing.assert_array_equal(as_numpy(folded(X)), as_numpy(live(X)))
    assert_exact(folded, X, graph=False)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [pytest.param(".keras", marks=pytest.mark.slow), ".h5"])
def test_a_live_model_is_saved_and_trained_on(tmp_path: Path, suffix: str) -> None:
    live = _trained(qk.live_batchnorm(_quantized(), X, momentum=0.9), epochs=1)
    path = tmp_path / f"live{suffix}"
    live.save(path)
    loaded = qk.load_model(path)
    assert [x.batchnorm.momentum for x in live_layers(loaded)] == [0.9] * 3
    np.testing.assert_array_equal(as_numpy(loaded(X)), as_numpy(live(X)))
    _trained(loaded, epochs=1)
    assert_exact(loaded, X, graph=False)


@given(
    st.integers(0, 2**32 - 1),
    st.floats(-4, 4).filter(lambda g: abs(g) > 1e-3),
    st.floats(0.01, 100),
)
def test_normalizing_is_what_keras_does(seed: int, gamma: float, step: float) -> None:
    """On products of the unfolded kernel; moving statistics follow in the same units."""
    rng = np.random.default_rng(seed)
    products = rng.normal(rng.normal(), 1 + rng.random(), (32, 4, 4, 2)).astype("float32")
    stock = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, beta_initializer="ones")
    stock.build(products.shape)
    ours = LiveBatchNorm(momentum=0.9, epsilon=1e-5)
    ours.build((2,))
    stock.gamma.assign([gamma, 1.0])
    ours.gamma.assign([gamma, 1.0])
    steps = np.array([step, 1 / step], np.float32)
    accumulator = products * np.array(ours.ratio()) / steps
    found = np.array(ours.normalized(keras.ops.convert_to_tensor(accumulator), steps)) * steps + 1
    np.testing.assert_allclose(found, stock(products, training=True), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(ours.moving_mean, stock.moving_mean, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(ours.moving_variance, stock.moving_variance, rtol=1e-3)


@pytest.mark.slow
def test_reestimation_finds_the_statistics_of_the_quantized_layers() -> None:
    live = qk.live_batchnorm(_quantized(), X)
    right = [np.array(x.batchnorm.moving_variance) for x in live_layers(live)]
    before = as_numpy(live(X))
    for layer in live_layers(live):
        layer.batchnorm.restate(np.full(6, 5.0), np.full(6, 9.0))
    assert abs(as_numpy(live(X)) - before).max() > 0.1
    qk.reestimate_batchnorm(live, X)
    for layer, variance in zip(live_layers(live), right, strict=True):
        np.testing.assert_allclose(layer.batchnorm.moving_variance, variance, rtol=0.2, atol=1e-3)
    assert abs(as_numpy(live(X)) - before).mean() < 0.1 * abs(before).mean()


@pytest.mark.slow
def test_retrain_live_trains_the_model_in_place() -> None:
    model = _quantized()
    before = model.predict(X, verbose=0)
    losses = qk.retrain(
        model,
        X,
        Y,
        epochs=6,
        batch_size=16,
        learning_rate=5e-2,
        ranges="learned",
        batchnorm="live",
        verbose=0,
    ).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert not live_layers(model)
    assert model.get_layer("first").weight_quantizer.range_mode == "frozen"
    assert (model.predict(X, verbose=0) != before).any()
    assert_exact(model, X)
    accuracy = np.mean(as_numpy(model(X)).argmax(-1) == Y)
    assert accuracy > np.mean(before.argmax(-1) == Y)


@pytest.mark.slow
def test_a_quantized_model_inside_another_is_trained_folded() -> None:
    outer = keras.Sequential([keras.Input((8, 8, 3)), _quantized()])
    with pytest.raises(QuantizationError, match="no convolution"):
        qk.live_batchnorm(outer, X)
    before = as_numpy(outer(X))
    qk.retrain(outer, X, Y, epochs=1, batch_size=32, verbose=0)
    assert (as_numpy(outer(X)) != before).any()


@pytest.mark.slow
def test_the_damping_loss_sees_the_folded_kernel() -> None:
    live = _trained(qk.live_batchnorm(_quantized(), X))
    layer = live_layers(live)[0]
    assert (np.array(layer.batchnorm.ratio()) != 1).any()
    damping = qk.DampenOscillations(strength=0.5)
    damping.set_model(live)
    damping.on_train_begin()
    damping.on_epoch_begin(0)
    numbers = layer.numbers()
    step, kernel = np.array(numbers.step), np.array(layer.flat_kernel())
    limit = layer.weight_quantizer.qmax * step
    distance = np.clip(kernel, -limit, limit) - np.array(numbers.qkernel) * step
    found = layer.kernel.regularizer(layer.kernel)
    damping.on_train_end()
    np.testing.assert_allclose(found, 0.5 * np.sum(distance**2), rtol=1e-5)
    assert found > 0


def test_misuse_is_refused(rng: np.random.Generator) -> None:
    model = _quantized()
    live = qk.live_batchnorm(model, X)
    with pytest.raises(QuantizationError, match="live batch normalizations already"):
        qk.live_batchnorm(live, X)
    with pytest.raises(QuantizationError, match="call fold_batchnorm first"):
        qk.adaround(live, X)
    with pytest.raises(QuantizationError, match="momentum 1: must be"):
        qk.live_batchnorm(model, X, momentum=1)
    with pytest.raises(QuantizationError, match="no quantized layers"):
        qk.live_batchnorm(_float_model(), X)
    with pytest.raises(QuantizationError, match="batchnorm .warm.: must be one of folded, live"):
        qk.retrain(model, X, Y, batchnorm="warm")
    inputs = keras.Input((5,))
    dense = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    samples = rng.normal(size=(16, 5)).astype("float32")
    with pytest.raises(QuantizationError, match="no convolution"):
        qk.live_batchnorm(qk.quantize(dense, samples=samples), samples)
