"""What is said to somebody who hands in the wrong model, or one that stays float in part."""

import keras
import numpy as np
import pytest
from keras import layers

import quantkeras
from quantkeras.calibration.batches import SampleError
from quantkeras.cli import main
from quantkeras.errors import ModelFileError, QuantizationError
from quantkeras.ptq import auto_quantize
from quantkeras.quantization.params import ParamsError


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(4).normal(size=(8, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def quantized(samples):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3, name="head")], name="small")
    return quantkeras.quantize(model, samples=samples)


def test_a_quantized_model_is_not_quantized_again(quantized, samples):
    with pytest.raises(QuantizationError, match=r"'small' is quantized already.*float model"):
        quantkeras.quantize(quantized, samples=samples)


def test_a_quantized_model_is_not_equalized(quantized):
    with pytest.raises(QuantizationError, match="quantized already"):
        quantkeras.equalize(quantized)


def test_a_quantized_model_within_another_is_found(quantized, samples):
    inputs = keras.Input((6,))
    outer = keras.Model(inputs, layers.Dense(2)(quantized(inputs)))
    with pytest.raises(QuantizationError, match="quantized already"):
        quantkeras.quantize(outer, samples=samples)


@pytest.mark.parametrize("model", [None, b"an ONNX model"])
def test_convert_says_what_it_takes(model):
    with pytest.raises(QuantizationError, match="convert takes a quantized keras.Model.*as_onnx"):
        quantkeras.convert(model)


@pytest.mark.parametrize(
    "verb",
    ["calibrate", "correct_bias", "adaround", "coverage", "set_ranges", "live_batchnorm", "verify"],
)
@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, "not NoneType; quantize makes one"),
        ("net.keras", "not 'net.keras'; load files with load_model"),
        ("float", "model 'plain' has no quantized layers.*call quantize first"),
    ],
)
def test_what_takes_quantized_models_says_so(verb, given, found, quantized, samples):
    if given == "float":
        given = keras.Sequential([keras.Input((6,)), layers.Dense(3)], name="plain")
    more = {
        "correct_bias": [samples],
        "adaround": [samples],
        "set_ranges": ["moving"],
        "live_batchnorm": [samples],
        "verify": [quantkeras.convert(quantized)],
    }
    with pytest.raises(QuantizationError, match=found):
        getattr(quantkeras, verb)(given, *more.get(verb, []))


def test_sanitize_on_the_command_line_takes_float_models(quantized, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    quantkeras.save_model(quantized, "q.keras")
    assert main(["sanitize", "-m", "q.keras"]) == 2
    assert "'small' is quantized already" in capsys.readouterr().err
    with pytest.raises(TypeError, match="not a bytes.*read_onnx"):
        quantkeras.sanitize(b"an ONNX model")


def test_strict_names_layers_by_their_class_and_gives_a_remedy(samples):
    inputs = keras.Input((6,))
    x = layers.LayerNormalization(name="ln")(layers.Dense(4)(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    with pytest.raises(QuantizationError, match=r"'ln' \(LayerNormalization\)") as caught:
        quantkeras.quantize(model, samples=samples, strict=True)
    assert str(caught.value).endswith("or quantize without strict.")
    assert "runs" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"weight_bits": 4}, r"qparams is a dict.*from_config"),
        ("settings.json", r"qparams is a str.*QuantizationParams\.load"),
        (np.zeros((8, 6), np.float32), r"qparams is a ndarray.*samples="),
    ],
)
def test_what_are_no_settings_is_told_how_to_be_some(given, remedy):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    with pytest.raises(ParamsError, match=remedy):
        quantkeras.quantize(model, given)
    with pytest.raises(ParamsError, match=remedy):
        auto_quantize(model, np.zeros((8, 6), np.float32), eval_fn=lambda _: 0.0, qparams=given)


@pytest.mark.parametrize("built", [True, False])
def test_a_model_is_no_data(built):
    model = keras.Sequential([*([keras.Input((6,))] if built else []), layers.Dense(3)])
    with pytest.raises(SampleError, match=r"Samples are a Sequential; expected arrays.*generator"):
        quantkeras.quantize(model, samples=model)


def test_a_function_that_gives_no_samples_is_told_what_it_has_to_be(quantized):
    with pytest.raises(SampleError, match=r"without arguments \(missing .*'path'\); give a func"):
        quantkeras.calibrate(quantized, lambda path: [path])
    with pytest.raises(SampleError, match="returned a NoneType; it has to return batches"):
        quantkeras.calibrate(quantized, lambda: None)


def test_save_model_says_what_it_writes(quantized, tmp_path):
    with pytest.raises(ModelFileError, match="a keras.Model, not a NoneType"):
        quantkeras.save_model(None, tmp_path / "none.keras")
    with pytest.raises(ModelFileError, match="not a Program; .*its own save"):
        quantkeras.save_model(quantkeras.convert(quantized), tmp_path / "program.keras")
    assert not list(tmp_path.iterdir())
