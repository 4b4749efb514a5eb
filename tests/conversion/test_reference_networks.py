"""Published and zoo networks: quantized with default settings, they convert and agree exactly."""

import importlib

import keras
import numpy as np
import pytest
from exactness import assert_exact, flat_predictions
from parameters import slow

from quantkeras.api import quantize
from quantkeras.conversion import convert
from quantkeras.files.model_files import load_model
from quantkeras.layers import Dequantizer

ZOO = {
    "resnet8": {},
    "mlp": {},
    "ds_cnn": {},
    "autoencoder": {},
    "wakeword": {},
    "vww_mobilenet": {"size": 32},
    "mobilenet_tiny": {},
    "shufflenet": {},
}


def images(model, count=4, seed=0):
    """uint8 pictures, or normal numbers where the input is none."""
    rng = np.random.default_rng(seed)
    shape = (count, *model.inputs[0].shape[1:])
    if len(shape) == 4 and shape[-1] in (1, 3):
        return rng.integers(0, 256, shape).astype(np.uint8)
    return rng.normal(size=shape).astype(np.float32)


def up_to_dequantizers(model):
    ends = [layer.output for layer in model.layers if isinstance(layer, Dequantizer)]
    return keras.Model(model.input, ends)


def check(model, x):
    """All but a final function becomes integer."""
    quantized = quantize(model, samples=x, strict=True)
    program = convert(quantized)
    assert all(entry.type in ("softmax", "sigmoid") for entry in program.float_tail)
    assert_exact(up_to_dequantizers(quantized), x)
    wanted, found = flat_predictions(model, x), flat_predictions(quantized, x)
    for a, b in zip(wanted, found, strict=True):
        assert np.abs(a - b).max() <= 0.25 * max(np.abs(a).max(), 1e-6)
    return quantized, program


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet8.h5", "kws_ref_model.h5", "ad01.h5"])
def test_reference_networks(name, shared_dir):
    model = load_model(shared_dir / "models" / name)
    check(model, images(model))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", *slow("autoencoder")])
def test_small_zoo_networks(name):
    model = importlib.import_module(f"model_zoo.{name}").build(**ZOO[name])
    check(model, images(model))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in ZOO if n not in ("mlp", "autoencoder")])
def test_zoo_networks(name):
    keras.utils.set_random_seed(1)
    model = importlib.import_module(f"model_zoo.{name}").build(**ZOO[name])
    check(model, images(model))
