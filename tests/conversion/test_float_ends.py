"""convert tells of layers that stay float behind the program."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest

import quantkeras as qk
from quantkeras.cli import main
from quantkeras.errors import FloatTailWarning

layers = keras.layers

X = np.linspace(-1, 1, 8 * 6, dtype=np.float32).reshape(8, 6)


def quantized(end: str, float_layers: tuple[str, ...] = ()) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,), name="x")
    x = layers.Dense(4, activation="relu", name="a")(inputs)
    x = layers.Dense(4, name="b")(x)
    x = layers.Dense(3, activation=end, name="c")(x)
    params = qk.QuantizationParams(float_layers=float_layers)
    return qk.quantize(keras.Model(inputs, x), params, samples=X)


@pytest.mark.slow
def test_the_function_at_the_end_is_expected() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FloatTailWarning)
        for end in ("softmax", "sigmoid", "linear"):
            qk.convert(quantized(end))


@pytest.mark.slow
def test_layers_that_stay_float_are_named() -> None:
    model = quantized("softmax", ("c",))
    with pytest.warns(FloatTailWarning, match=r"'c' \(dense\)\. .*export_onnx") as found:
        program = qk.convert(model)
    told = [w for w in found if w.category is FloatTailWarning]
    assert len(told) == 1 and "convert_parts" not in str(told[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FloatTailWarning)
        assert qk.verify(model, program, X).exact
        qk.convert_parts(model)
        qk.coverage(model)


@pytest.mark.slow
def test_integers_behind_float_layers_are_named(tmp_path, capsys) -> None:
    model = quantized("linear", ("b",))
    with pytest.warns(FloatTailWarning, match=r"'b' \(dense\), 'c' .*convert_parts\(model\)"):
        qk.convert(model)
    qk.save_model(model, tmp_path / "q.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error", FloatTailWarning)  # the command says it in its own lines
        assert main(["convert", "-m", f"{tmp_path}/q.keras"]) == 0
    assert "stays in float: b" in capsys.readouterr().out


def test_layers_in_front_of_the_integers_are_named() -> None:
    with pytest.warns(UserWarning, match="'resize'"):
        model = beginning_in_float(6)
    with pytest.warns(FloatTailWarning, match="begins behind .*'resize'") as found:
        program = qk.convert(model)
    (told,) = [str(w.message) for w in found if w.category is FloatTailWarning]
    assert "It takes what these give, 'resize'; export_onnx" in told and "ends" not in told
    assert program.inputs[0].shape == (6, 6, 1)
    assert [tail.name for tail in program.float_tail] == ["resize"]
    assert qk.verify(model, program, IMAGES).exact


def test_floats_on_both_sides_are_named() -> None:
    with pytest.warns(UserWarning, match="'resize'"):
        model = beginning_in_float(6, ("c",))
    with pytest.warns(FloatTailWarning, match="begins behind .*'resize'.*; it ends .*'c'"):
        qk.convert(model)


IMAGES = np.linspace(-1, 1, 4 * 9, dtype=np.float32).reshape(4, 3, 3, 1)


def beginning_in_float(size: int, float_layers: tuple[str, ...] = ()) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3, 3, 1), name="x")
    x = layers.Resizing(size, size, name="resize")(inputs)
    x = layers.Conv2D(2, 2, name="b")(x)
    x = layers.Dense(2, name="c")(layers.Flatten()(x))
    params = qk.QuantizationParams(float_layers=float_layers)
    return qk.quantize(keras.Model(inputs, x), params, samples=IMAGES)
