"""predict, evaluate, run, calibrate and verify tell of data of another kind than the samples."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest

import quantkeras as qk
from quantkeras.cli import main
from quantkeras.errors import QuantizationError

layers = keras.layers

FED = "input 'image' is fed"


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1.0, name="prepare")(image)
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    return keras.Model(image, layers.Dense(3, name="head")(layers.Flatten(name="flat")(x)))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Raw images, uint8."""
    return np.random.default_rng(0).integers(0, 256, (16, 6, 6, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def integers(pixels) -> keras.Model:
    """Takes uint8."""
    return qk.quantize(network(), samples=pixels)


@pytest.fixture(scope="module")
def floats(pixels) -> keras.Model:
    """Takes floats of 0..1."""
    image = keras.Input((6, 6, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    model = keras.Model(image, layers.Dense(3, name="head")(layers.Flatten(name="flat")(x)))
    return qk.quantize(model, samples=pixels / np.float32(255))


@pytest.mark.slow
def test_fractions_into_an_integer_input_are_refused(integers, pixels, tmp_path, capsys) -> None:
    program, small = qk.convert(integers), pixels / np.float32(255)
    for refused in (
        lambda: program.predict(small),
        lambda: program.evaluate(small, np.zeros(16)),
        lambda: qk.verify(integers, program, small),
        lambda: qk.calibrate(integers, small),
    ):
        with pytest.raises(QuantizationError, match=FED):
            refused()
    np.savez(tmp_path / "x.npz", image=small)
    program.save(tmp_path / "net.qkp")
    qk.save_model(integers, tmp_path / "net.keras")
    for name in ("net.qkp", "net.keras"):
        words = ["run", "-m", f"{tmp_path}/{name}", "-sa", f"{tmp_path}/x.npz"]
        assert main(words) != 0
        assert FED in capsys.readouterr().err


def test_another_scale_is_told_once(floats, pixels) -> None:
    program = qk.convert(floats)
    with pytest.warns(UserWarning, match=FED) as found:
        program.predict(pixels)
        program.predict(pixels)
        program.evaluate(pixels, np.zeros(16))
    assert len(found) == 1
    with pytest.warns(UserWarning, match=FED):
        qk.verify(floats, program, pixels)
    copy = keras.models.clone_model(floats)
    copy.set_weights(floats.get_weights())
    with pytest.warns(UserWarning, match=FED):
        qk.calibrate(copy, pixels)


@pytest.mark.slow
def test_what_is_right_is_not_told(integers, floats, pixels) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        program = qk.convert(integers)
        program.predict(pixels.astype(np.float32))
        qk.verify(integers, program, pixels.astype(np.float64) * 0.9)
        unit = pixels / np.float32(255)
        qk.convert(floats).predict(unit * 1.2)
        assert qk.verify(floats, qk.convert(floats), unit).exact


def test_samples_that_are_prepared_already(pixels) -> None:
    with pytest.warns(UserWarning, match="0 to 1 are multiplied by 0.0078.* in 'prepare'"):
        qk.quantize(network(), samples=pixels / np.float32(255))
