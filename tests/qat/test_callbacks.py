"""Callbacks and the distilling model: what they change during a training, and what not."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact, without_tail
from parameters import slow_rows

from quantkeras import (
    DampenOscillations,
    Distiller,
    FreezeRanges,
    OscillationMeter,
    ProgressiveBits,
    QuantizationParams,
    quantize,
    retrain,
    set_ranges,
)
from quantkeras.errors import QuantizationError
from quantkeras.layers import WeightedLayer

X = np.random.default_rng(3).normal(size=(48, 6, 6, 3)).astype("float32")
Y = X.mean((1, 2)).argmax(-1)
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def teacher(softmax: bool = False) -> keras.Model:
    keras.utils.set_random_seed(1)
    image = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(5, 3, activation="relu", name="first")(image)
    x = keras.layers.Conv2D(5, 3, activation="relu", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(3, activation="softmax" if softmax else None, name="head")(x)
    return keras.Model(image, x)


def student(model: keras.Model, bits: int = 3) -> keras.Model:
    return quantize(model, QuantizationParams(weight_bits=bits, activation_bits=bits), X)


def trained(
    model: keras.Model, callbacks: list, epochs: int = 3, rate: float = 1e-2, eager: bool = False
):
    """eager: a step costs more, and none has to be compiled, which takes seconds."""
    model.compile(keras.optimizers.Adam(rate), CROSS_ENTROPY, run_eagerly=eager)
    return model.fit(X, Y, batch_size=16, epochs=epochs, verbose=0, callbacks=callbacks).history


class Watch(keras.callbacks.Callback):
    """Notes something of the model after each epoch."""

    def __init__(self, look):
        super().__init__()
        self.look = look
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(self.look(self.model))


# -- bits ---


@pytest.mark.slow
def test_progressive_bits_go_down_to_what_the_model_has():
    model = student(teacher())
    watch = Watch(lambda m: (m.get_layer("second").weight_quantizer.bits,
                             m.get_layer("second").output_quantizer.bits,
                             m.get_layer("first").weight_quantizer.bits))  # fmt: skip
    trained(model, [ProgressiveBits(7, epochs=2), watch], epochs=4, eager=True)
    assert watch.seen == [(7, 7, 8), (5, 5, 8), (3, 3, 8), (3, 3, 8)]
    assert_exact(model, X, graph=False)


@pytest.mark.slow
def test_a_training_that_ends_early_leaves_the_bits_of_the_model():
    model = student(teacher())
    trained(model, [ProgressiveBits(8, epochs=10)], epochs=1, eager=True)
    assert model.get_layer("second").weight_quantizer.bits == 3
    assert_exact(model, X, graph=False)


@pytest.mark.slow
def test_bits_change_what_is_computed_in_the_compiled_step():
    """The step is compiled anew: with 8 bits the loss is that of 8 bits."""
    losses = {}
    for bits, callbacks in {8: [], 3: [ProgressiveBits(8, epochs=1)]}.items():
        model = student(teacher(), bits)
        losses[bits] = trained(model, callbacks, epochs=1, rate=0.0)["loss"][0]
    plain = trained(student(teacher()), [], epochs=1, rate=0.0, eager=True)["loss"][0]
    assert abs(losses[3] - losses[8]) < 0.2 * abs(plain - losses[8])


# -- ranges ---


@pytest.mark.slow
def test_frozen_ranges_stay_and_weights_go_on():
    model = set_ranges(student(teacher()), "learned")
    ranges = Watch(lambda m: np.array(m.get_layer("first").output_quantizer.log2_range))
    kernels = Watch(lambda m: np.array(m.get_layer("first").kernel))
    trained(model, [FreezeRanges(2), ranges, kernels], epochs=4)
    assert (ranges.seen[0] != ranges.seen[1]).any()
    np.testing.assert_array_equal(ranges.seen[1], ranges.seen[3])
    assert (kernels.seen[2] != kernels.seen[3]).any()
    assert_exact(model, X, graph=False)


# -- oscillation ---


def distance_from_grid(model: keras.Model) -> float:
    layer = model.get_layer("second")
    numbers = layer.numbers()
    kernel = np.array(layer.channel_last(layer.kernel)) / np.array(numbers.step)
    limit = layer.weight_quantizer.qmax
    return float(np.abs(kernel - np.clip(np.round(kernel), -limit, limit)).mean())


@pytest.mark.slow
def test_damping_draws_weights_to_their_integers():
    plain, damped = student(teacher()), student(teacher())
    trained(plain, [], epochs=4)
    trained(damped, [DampenOscillations(0.5, epochs=2)], epochs=4)
    assert distance_from_grid(damped) < 0.5 * distance_from_grid(plain)
    assert damped.get_layer("second").kernel.regularizer is None
    assert_exact(damped, X, graph=False)


@pytest.mark.slow
def test_damping_keeps_a_regularizer_and_puts_it_back():
    model = student(teacher())
    kernel = model.get_layer("second").kernel
    own = kernel.regularizer = keras.regularizers.L2(0.1)
    model.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY, run_eagerly=True)
    without = model.fit(X, Y, epochs=1, verbose=0).history["loss"][0]
    damping = DampenOscillations(1e-6, epochs=1)
    damped = model.fit(X, Y, epochs=1, verbose=0, callbacks=[damping]).history["loss"][0]
    assert damped == pytest.approx(without, rel=1e-3) and kernel.regularizer is own


@pytest.mark.slow
def test_the_meter_counts_weights_that_go_to_and_fro():
    model = student(teacher())
    layer = next(x for x in model.layers if isinstance(x, WeightedLayer))
    total = sum(x.kernel.shape.num_elements() for x in model.layers if isinstance(x, WeightedLayer))
    meter = OscillationMeter(every=1, window=3)
    meter.set_model(model)
    kernel = np.array(layer.kernel)
    moved = kernel.copy()
    moved.flat[0] = -np.sign(kernel.flat[0]) * np.abs(kernel).max()
    for batch, values in enumerate([kernel, moved, kernel]):
        layer.kernel.assign(values)
        meter.on_train_batch_end(batch)
    assert meter.share() == pytest.approx(1 / total)
    history = trained(model, [meter], epochs=1, eager=True)
    assert 0 <= history["oscillating"][0] <= 1


# -- distillation ---


def shares(model: keras.Model, softmax: bool, temperature: float = 1.0) -> np.ndarray:
    outputs = as_numpy(model(X))
    if softmax:
        return outputs
    powers = np.exp((outputs - outputs.max(-1, keepdims=True)) / temperature)
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.slow
@pytest.mark.parametrize("softmax", [False, True])
def test_a_student_learns_from_its_teacher_without_labels(softmax):
    model = teacher(softmax)
    quantized = set_ranges(student(model), "learned")
    taught = shares(model, softmax)
    before = np.abs(shares(quantized, softmax) - taught).mean()
    distiller = Distiller(quantized, model, weight=1.0)
    assert distiller.from_logits is not softmax
    distiller.compile(keras.optimizers.Adam(5e-3))
    losses = distiller.fit(X, batch_size=16, epochs=12, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert np.abs(shares(quantized, softmax) - taught).mean() < before
    assert_exact(without_tail(quantized), X, graph=False)


def test_the_loss_is_that_of_the_docstring():
    model = teacher()
    quantized = student(model)
    distiller = Distiller(quantized, model, weight=0.25, temperature=2.0)
    distiller.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY, run_eagerly=True)
    found = distiller.evaluate(X, Y, batch_size=48, verbose=0)

    own, taught = shares(quantized, False, 2.0), shares(model, False, 2.0)
    divergence = (taught * np.log(taught / own)).sum(-1).mean() * 4.0
    entropy = float(CROSS_ENTROPY(Y, quantized(X)))
    assert found == pytest.approx(0.75 * entropy + 0.25 * divergence, rel=1e-4)


def test_regression_compares_values():
    model = teacher()
    distiller = Distiller(student(model), model, loss="mse", weight=1.0)
    distiller.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    own, taught = as_numpy(distiller.student(X)), as_numpy(model(X))
    wanted = ((own - taught) ** 2).mean() / (taught**2).mean()
    found = distiller.fit(X, batch_size=48, verbose=0).history["loss"][0]
    assert found == pytest.approx(wanted, rel=1e-3)


@pytest.mark.slow
def test_the_teacher_stays_as_it_is():
    model = teacher()
    before = model.get_weights()
    distiller = Distiller(student(model), model)
    trained(distiller, [], epochs=1, eager=True)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    assert model.trainable_variables and model.trainable
    assert not {id(v) for v in model.variables} & {id(v) for v in distiller.variables}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "cosine"}, "must be one of kl, mse"),
        *slow_rows(
            ({"weight": 0.0}, "above 0 and at most 1"),
            ({"temperature": -1.0}, "must be positive"),
        ),
    ],
)
def test_distiller_errors(options, message):
    model = teacher()
    with pytest.raises(QuantizationError, match=message):
        Distiller(student(model), model, **options)


def test_teacher_and_student_must_agree():
    model = teacher()
    other = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Flatten()])
    with pytest.raises(QuantizationError, match="must be the same"):
        Distiller(student(model), other)


# -- the recipe ---


@pytest.mark.slow
def test_retrain_puts_it_together():
    model = teacher()
    quantized = student(model)
    history = retrain(
        quantized, X, Y, teacher=model, epochs=6, batch_size=16, learning_rate=1e-2,
        dampening=1e-3, verbose=0,
    )  # fmt: skip
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert_exact(quantized, X)


def ranges_of(model):
    layers = [layer for layer in model.layers if isinstance(layer, WeightedLayer)]
    return [np.array(layer.weight_quantizer.factor) for layer in layers]


@pytest.mark.slow
@pytest.mark.parametrize("ranges", ["frozen", "learned"])
def test_retrain_learns_ranges_on_demand_and_leaves_them_frozen(ranges):
    model = student(teacher())
    retrain(model, X, Y, epochs=1, ranges=ranges, verbose=0)
    assert any((factor != 1).any() for factor in ranges_of(model)) == (ranges == "learned")
    assert model.get_layer("first").output_quantizer.range_mode == "frozen"
    assert_exact(model, X, graph=False)


@pytest.mark.slow
def test_retrain_takes_datasets_and_needs_something_to_learn_from():
    import tensorflow as tf

    model = teacher(softmax=True)
    pairs = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    assert len(retrain(student(model), pairs, epochs=2, verbose=0).history["loss"]) == 2
    images = tf.data.Dataset.from_tensor_slices(X).batch(16)
    retrain(student(model), images, teacher=model, epochs=1, verbose=0)
    with pytest.raises(QuantizationError, match="labels, or the float model"):
        retrain(student(model), images)
    with pytest.raises(QuantizationError, match="steps_per_epoch"):
        retrain(student(model), pairs.repeat(), epochs=1)
    with pytest.raises(QuantizationError, match="no quantized layers"):
        retrain(teacher(), X, Y)
    with pytest.raises(QuantizationError, match="ranges 'warm': must be one of frozen"):
        retrain(student(model), pairs, ranges="warm")


@pytest.mark.parametrize(
    "make",
    [
        lambda: ProgressiveBits(9),
        lambda: ProgressiveBits(epochs=0),
        lambda: DampenOscillations(0.0),
        lambda: DampenOscillations(epochs=0),
        lambda: OscillationMeter(every=0),
    ],
)
def test_callback_errors(make):
    with pytest.raises(QuantizationError, match="must be"):
        make()
