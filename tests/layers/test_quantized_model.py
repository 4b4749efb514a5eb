"""Quantized models tell of data of another kind than the samples, however they are fed."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from parameters import slow

import quantkeras as qk
from quantkeras.errors import InputMismatchWarning
from quantkeras.layers import QuantizedModel

layers = keras.layers

# Keras's own words on an array where a list was expected, and the other way round.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The structure of `inputs`"),
    pytest.mark.filterwarnings("ignore:Your input ran out of data"),  # of unknown length
]

RAW = np.linspace(255, 0, 36).reshape(12, 3).round().astype(np.uint8)
UNIT = RAW / np.float32(255)
LABELS = np.zeros((12, 2), np.float32)


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    values = keras.Input((3,), name="values")
    return keras.Model(values, layers.Dense(2, bias_initializer="ones", name="head")(values))


@pytest.fixture(scope="module")
def original() -> keras.Model:
    """Takes floats of 0..1."""
    return qk.quantize(network(), samples=UNIT)


@pytest.fixture
def model(original) -> keras.Model:
    """The same, and nothing has been told yet."""
    clone = keras.models.clone_model(original)
    clone.set_weights(original.get_weights())
    clone.compile("sgd", "mse")
    return clone


class Batches(keras.utils.PyDataset):
    """Raw numbers, in batches."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return RAW[4 * index : 4 * index + 4], LABELS[:4]


def batches(raw: np.ndarray = RAW) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in (0, 4, 8):
        yield raw[start : start + 4].astype(np.float32), LABELS[:4]


def dataset(raw: np.ndarray = RAW) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((raw.astype(np.float32), LABELS)).batch(4)


def count(found: Any) -> int:
    return sum(w.category is InputMismatchWarning for w in found)


QUIET = {"verbose": 0}

FED: dict[str, Callable[[keras.Model], Any]] = {
    "predict": lambda m: m.predict(RAW, **QUIET),
    "predict of a dict": lambda m: m.predict({"values": RAW}, **QUIET),
    "predict of a dataset": lambda m: m.predict(dataset(), **QUIET),
    "predict of a generator": lambda m: m.predict(batches(), steps=3, **QUIET),
    "predict of a PyDataset": lambda m: m.predict(Batches(), **QUIET),
    "predict_on_batch": lambda m: m.predict_on_batch(RAW),
    "evaluate": lambda m: m.evaluate(RAW, LABELS, **QUIET),
    "evaluate of a dataset": lambda m: m.evaluate(dataset(), **QUIET),
    "fit": lambda m: m.fit(RAW, LABELS, **QUIET),
    "validation": lambda m: m.fit(UNIT, LABELS, validation_data=(RAW, LABELS), **QUIET),
    "train_on_batch": lambda m: m.train_on_batch(RAW, LABELS),
    "a call": lambda m: m(RAW),
    "a call with a tensor": lambda m: m(keras.ops.convert_to_tensor(RAW)),
}


QUICK = ("predict", "a call")


@pytest.mark.parametrize("name", [*QUICK, *slow(*(name for name in FED if name not in QUICK))])
def test_another_scale_is_told_once(model, name) -> None:
    feed = FED[name]
    with pytest.warns(InputMismatchWarning, match="'values' is fed .* from .* to 255") as found:
        feed(model)
        feed(model)
    assert count(found) == 1


@pytest.mark.slow
def test_what_is_right_is_not_told(model) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputMismatchWarning)
        model.predict(UNIT * 1.3, **QUIET)
        model.evaluate(dataset(UNIT), **QUIET)
        model.fit(UNIT, LABELS, validation_data=(UNIT, LABELS), **QUIET)
        model(UNIT[:1])
        keras.Model(model.inputs, model(model.inputs))  # symbolic
        model.predict(np.full((2, 3), np.nan), **QUIET)


def test_fractions_into_an_integer_input(original) -> None:
    integers = qk.quantize(network(), samples=RAW)
    with pytest.warns(InputMismatchWarning, match="float32 .* integers from 0 to 255"):
        integers.predict(UNIT, **QUIET)


def test_nothing_is_consumed(model) -> None:
    expected = model.predict(UNIT, **QUIET)
    assert np.array_equal(model.predict(dataset(UNIT), **QUIET), expected)
    assert np.array_equal(model.predict(batches(UNIT), steps=3, **QUIET), expected)
    opened = []

    def once() -> Iterator[np.ndarray]:
        opened.append(1)
        yield from (x for x, _ in batches(UNIT))

    import tensorflow as tf

    spec = tf.TensorSpec((None, 3), tf.float32)
    stream = tf.data.Dataset.from_generator(once, output_signature=spec)
    assert np.array_equal(model.predict(stream, **QUIET), expected)
    assert opened == [1]


@pytest.mark.slow
def test_several_inputs_by_name_and_by_order() -> None:
    keras.utils.set_random_seed(0)
    near, far = keras.Input((2,), name="near"), keras.Input((3,), name="far")
    joined = layers.Add()([layers.Dense(2)(near), layers.Dense(2, name="b")(far)])
    rng = np.random.default_rng(0)
    samples = {"near": rng.random((12, 2)), "far": rng.random((12, 3)) * 100}
    for nested in ([near, far], {"near": near, "far": far}):
        model = qk.quantize(keras.Model(nested, joined), samples=samples)
        with warnings.catch_warnings():
            warnings.simplefilter("error", InputMismatchWarning)
            model.predict(samples, **QUIET)
        with pytest.warns(InputMismatchWarning, match="'near'") as found:
            model.predict({"near": samples["near"] * 100, "far": samples["far"]}, **QUIET)
        assert count(found) == 1


@pytest.mark.slow
def test_random_ranges_say_nothing_of_data() -> None:
    with pytest.warns(UserWarning, match="No samples"):
        model = qk.quantize(network())
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputMismatchWarning)
        model.predict(RAW, **QUIET)
    qk.calibrate(model, UNIT)
    with pytest.warns(InputMismatchWarning, match="'values'"):
        model.predict(RAW, **QUIET)


def test_ranges_that_move_take_what_comes(model) -> None:
    qk.set_ranges(model, "moving")
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputMismatchWarning)
        model.fit(RAW, LABELS, **QUIET)


@pytest.mark.parametrize("suffix", ["keras", *slow("h5")])
def test_files_keep_the_class(model, tmp_path: Path, suffix) -> None:
    path = tmp_path / f"net.{suffix}"
    model.save(path)
    loaded = [keras.models.load_model(path, compile=False), qk.load_model(path)]
    # As files were written before there was the class.
    keras.Model(model.inputs, model.outputs).save(path)
    loaded.append(qk.load_model(path))
    for each in loaded:
        assert type(each) is QuantizedModel
        assert np.array_equal(each(UNIT), model(UNIT))


def test_copies_keep_the_class(model) -> None:
    copies = [
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        keras.models.model_from_json(model.to_json()),
    ]
    for each in copies:
        assert type(each) is QuantizedModel


def test_older_files_are_trained_on(model, tmp_path: Path) -> None:
    plain = keras.Model(model.inputs, model.outputs)
    plain.compile("adam", "mse", run_eagerly=True)
    plain.fit(UNIT, LABELS, **QUIET)
    plain.save(tmp_path / "net.keras")
    loaded = qk.load_model(tmp_path / "net.keras", compile=True)
    assert type(loaded) is QuantizedModel
    assert int(loaded.optimizer.iterations) == 1
    loaded.fit(UNIT, LABELS, **QUIET)


@pytest.mark.slow
def test_verify_tells_once_and_not_of_numbers_of_its_own(model) -> None:
    program = qk.convert(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputMismatchWarning)
        assert qk.verify(model, program).exact
    with pytest.warns(InputMismatchWarning) as found:
        qk.verify(model, program, RAW)
    assert count(found) == 1
