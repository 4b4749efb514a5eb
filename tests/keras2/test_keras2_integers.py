"""Networks of Keras 2 files become integers as others do, TensorFlow functions included."""

from pathlib import Path

import numpy as np
import pytest

from quantkeras import convert, coverage, load_model, quantize, verify

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "keras2"
NETWORKS = (
    "convolutions",
    "hard_swish",
    "movement_functions",
    "pieces",
    "residual_functions",
    "transfer_learning",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_all_layers_become_integer(name):
    x = np.load(FOLDER / f"{name}.npz")["x"]
    quantized = quantize(load_model(FOLDER / f"{name}.h5"), samples=x, strict=True)
    left = {layer.reason for layer in coverage(quantized).layers if layer.status == "float"}
    assert left <= {"softmax at the end"}
    report = verify(quantized, convert(quantized), x[:2])
    assert report.exact, report


@pytest.mark.filterwarnings("ignore:.*stay float:UserWarning")
@pytest.mark.slow
def test_what_has_no_integer_form_is_named():
    x = np.load(FOLDER / "arithmetic.npz")["x"]
    report = coverage(quantize(load_model(FOLDER / "arithmetic.h5"), samples=x))
    left = {layer.name for layer in report.layers if layer.status == "float"}
    assert left == {"tf.math.greater", "tf.where"}
    assert "Greater has no integer form" in report["tf.math.greater"].reason
