"""The committed weights: size, accuracy on the embedded images, and what the files contain."""

import importlib
import os

import keras
import numpy as np
import pytest
from parameters import slow

from model_zoo import TRAINED, cifar10_demo, mlp, training
from model_zoo.datasets import load_mnist

MOST_BYTES = {
    "resnet8": 1_000_000,
    "mobilenet_tiny": 1_000_000,
    "shufflenet": 1_000_000,
    "mlp": 500_000,
}
# Share of the 1,000 embedded test images that float arithmetic gets right, less a point of slack.
LEAST_ACCURACY = {"resnet8": 0.83, "mobilenet_tiny": 0.825, "shufflenet": 0.798}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_weights_are_small_and_plain(name):
    path = training.WEIGHTS / f"{name}.keras"
    assert path.stat().st_size <= MOST_BYTES[name]
    model = keras.saving.load_model(path)
    assert not model.compiled
    assert {weight.dtype for weight in model.weights} == {"float32"}


@pytest.mark.parametrize(
    "name",
    slow("resnet8", "mobilenet_tiny", "shufflenet"),
)
def test_accuracy_on_the_embedded_images(name):
    _, (images, labels) = cifar10_demo()
    model = importlib.import_module(f"model_zoo.{name}").load()
    assert training.accuracy(model, images, labels) >= LEAST_ACCURACY[name]


@pytest.mark.skipif("QUANTKERAS_DATA" not in os.environ, reason="QUANTKERAS_DATA is not set")
def test_mlp_accuracy_on_the_mnist_test_images():
    _, (images, labels) = load_mnist()
    assert training.accuracy(mlp.load(), images, labels) >= 0.98


def test_loaded_logits_and_probabilities_agree():
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1)).astype(np.float32)
    probabilities = mlp.load()(images, training=False)
    logits = mlp.load(classifier_activation=None)(images, training=False)
    np.testing.assert_allclose(keras.ops.softmax(logits), probabilities, atol=1e-6)
