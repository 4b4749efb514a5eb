"""What a float layer has for its training goes along, or who trains is told."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from parameters import slow

import quantkeras as qk
from quantkeras.errors import TrainingWarning
from quantkeras.quantization.training_traits import UNTRAINED

layers = keras.layers

X = np.linspace(-1, 1, 8 * 6 * 6 * 3, dtype=np.float32).reshape(8, 6, 6, 3)
Y = np.zeros((8, 2), np.float32)


def network(normalized: bool = False, biases: bool = True) -> keras.Model:
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3), name="image")
    penalty = keras.regularizers.L2(0.5)
    x = layers.Conv2D(4, 3, kernel_regularizer=penalty, use_bias=not normalized, name="conv")(image)
    if normalized:
        x = layers.BatchNormalization(name="norm")(x)
    x = layers.DepthwiseConv2D(
        3, depthwise_regularizer=penalty, depthwise_constraint="non_neg", name="depthwise"
    )(layers.ReLU(name="relu")(x))
    x = layers.Dense(3, activation="relu", kernel_constraint="max_norm", name="hidden")(
        layers.Flatten(name="flat")(x)
    )
    model = keras.Model(image, layers.Dense(2, name="head")(x))
    if biases:
        for layer in model.layers:
            if getattr(layer, "bias", None) is not None:
                layer.bias.assign(np.full(layer.bias.shape, 0.1))
    model.get_layer("hidden").trainable = False
    return model


def step(model: keras.Model) -> None:
    model.compile("sgd", "mse", jit_compile=False)
    model.train_on_batch(X, Y)


def trainable(model: keras.Model) -> set[str]:
    return {variable.path.split("/")[0] for variable in model.trainable_variables}


@pytest.mark.parametrize("ranges", ["frozen", *slow("learned")])
def test_frozen_layers_stay_frozen(ranges: str, tmp_path) -> None:
    params = qk.QuantizationParams(ranges=ranges)
    quantized = qk.quantize(network(), params, samples=X)
    loaded = qk.load_model(qk.save_model(quantized, tmp_path / "q.keras"))
    for model in (quantized, loaded, qk.set_ranges(loaded, "learned")):
        assert not model.get_layer("hidden").trainable
        assert "hidden" not in trainable(model) and {"conv", "head"} <= trainable(model)


@pytest.mark.slow
def test_penalties_and_limits_go_along(tmp_path) -> None:
    quantized = qk.quantize(network(), samples=X)
    loaded = qk.load_model(qk.save_model(quantized, tmp_path / "q.h5"))
    for model in (quantized, loaded):
        conv, depthwise = model.get_layer("conv"), model.get_layer("depthwise")
        assert conv.kernel_regularizer.l2 == depthwise.depthwise_regularizer.l2 == 0.5
        assert isinstance(depthwise.depthwise_constraint, keras.constraints.NonNeg)
        assert len(model.losses) == 2
    with pytest.warns(TrainingWarning, match="kernel_constraint of 'hidden'"):
        step(loaded)
    assert (np.asarray(loaded.get_layer("depthwise").kernel) >= 0).all()


@pytest.mark.slow
def test_what_was_folded_is_named_when_training_begins() -> None:
    model = network(normalized=True)
    model.get_layer("conv").trainable = False
    quantized = qk.quantize(model, samples=X)  # without a word
    with pytest.warns(TrainingWarning) as found:
        step(quantized)
        step(quantized)
    (told,) = [str(w.message) for w in found if w.category is TrainingWarning]
    assert "trainable=False of 'conv', kernel_regularizer of 'conv'" in told


@pytest.mark.slow
def test_untrained_networks_with_frozen_ranges_hint_at_others() -> None:
    quantized = qk.quantize(network(biases=False), samples=X)
    with pytest.warns(TrainingWarning, match="looks untrained.*set_ranges"):
        step(quantized)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The float network looks untrained")
        step(quantized)  # once
        step(qk.set_ranges(qk.quantize(network(biases=False), samples=X), "moving"))
        step(qk.quantize(network(), samples=X))


@pytest.mark.parametrize("trained", [False, True])
def test_kernels_tell_where_nothing_else_does(trained: bool) -> None:
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, use_bias=False, kernel_initializer="he_normal")(inputs)
    x = layers.DepthwiseConv2D(3, use_bias=False, name="depthwise")(x)
    model = keras.Model(inputs, layers.Dense(2, use_bias=False)(layers.Flatten()(x)))
    if trained:
        kernel = model.get_layer("depthwise").kernel
        kernel.assign(kernel * 1.01)
    hints = [
        h for layer in qk.quantize(model, samples=X).layers for h in getattr(layer, "hints", ())
    ]
    assert hints == ([] if trained else [UNTRAINED])


def test_a_frozen_layer_that_is_shared_stays_frozen_at_all_its_places() -> None:
    shared = layers.Dense(3, trainable=False, name="shared")
    one, other = keras.Input((4,), name="one"), keras.Input((4,), name="other")
    x = layers.Add(name="sum")([shared(one), layers.ReLU(name="relu")(shared(other))])
    model = keras.Model([one, other], layers.Dense(2, name="head")(x))
    samples = np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)
    quantized = qk.quantize(model, samples=[samples, samples])
    assert not quantized.get_layer("shared").trainable
    assert trainable(quantized) == {"head"}
