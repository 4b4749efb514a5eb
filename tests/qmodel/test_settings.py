"""The settings that a model was quantized with stay with it: in files, and inside other models."""

import keras
import numpy as np
import pytest
from keras import layers

import quantkeras as qk
from quantkeras.quantization.provenance import provenance_of

X = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
SETTINGS = qk.QuantizationParams(weight_bits=4, observer="percentile", buffer_bits=24)


def network():
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [
            keras.Input((6,), name="x"),
            layers.Dense(4, activation="relu", name="hidden"),
            layers.Dense(3, name="scores"),
            layers.Softmax(name="softmax"),
        ],
        name="inner",
    )


def quantized():
    return qk.quantize(network(), SETTINGS, samples=X)


def inside(model):
    image = keras.Input((6,), name="outer_x")
    return keras.Model(image, layers.Rescaling(2.0, name="twice")(model(image)), name="outer")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("made", [quantized, lambda: inside(quantized())], ids=["alone", "inside"])
def test_files_keep_them(made, suffix, tmp_path):
    model = made()
    loaded = qk.load_model(qk.save_model(model, tmp_path / f"net{suffix}"))
    assert qk.params_of(loaded) == SETTINGS == qk.params_of(model)
    assert provenance_of(loaded) == provenance_of(model)


@pytest.mark.parametrize("hold", [lambda model: model, inside], ids=["alone", "inside"])
def test_a_copy_is_calibrated_again_as_the_model_was(hold, tmp_path):
    """Not by the extremes, which this sample would move."""
    beyond = np.concatenate([X, 100 * X[:1]])
    model = quantized()
    loaded = qk.load_model(qk.save_model(hold(model), tmp_path / "net.keras"))
    qk.calibrate(model, beyond)
    qk.calibrate(loaded, beyond)
    for wanted, found in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_model_inside_another_is_reported_and_exported():
    model = quantized()
    report = qk.coverage(inside(model))
    assert report.layers == qk.coverage(model).layers
    assert report.summary == "2 of 3 layers integer; float: softmax (softmax at the end)"
    exported = qk.export_onnx(inside(model))
    assert "MatMulInteger" in [node.op_type for node in exported.graph.node]


def test_accumulators_are_fitted_to_what_they_were():
    outer = inside(qk.quantize(network(), qk.QuantizationParams(buffer_bits=19), samples=X))
    quantizer = outer.get_layer("inner").get_layer("hidden").weight_quantizer
    quantizer.bits = 16
    qk.calibrate(outer, X)
    assert quantizer.bits < 16
