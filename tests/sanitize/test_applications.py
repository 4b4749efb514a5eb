"""Architectures of keras.applications: read without opaque nodes, sanitized without loss."""

import keras
import pytest
from float_networks import (
    kinds,
    predictions,
    random_batch,
    randomized,
    relative_error,
)

from sanitize import sanitize_graph
from sanitize.keras_io import read_keras, write_keras

applications = keras.applications
SMALL = {"weights": None, "input_shape": (32, 32, 3)}
HEADLESS = {**SMALL, "include_top": False, "pooling": "avg"}

#: Name -> (arguments, kinds that may be left beside convolutions, dense, relu, add and pools).
NETWORKS = {
    "MobileNetV2": ({**SMALL, "alpha": 0.35}, {"softmax"}),
    "MobileNet": ({**SMALL, "alpha": 0.25}, {"softmax", "flatten"}),
    "MobileNetV3Small": (HEADLESS, {"activation", "multiply"}),
    "ResNet50": (HEADLESS, set()),
    "ResNet50V2": (HEADLESS, {"pad"}),
    "VGG16": (HEADLESS, set()),
    "DenseNet121": (HEADLESS, {"concat"}),
    "EfficientNetB0": (HEADLESS, {"activation", "multiply"}),
    "EfficientNetV2B0": (HEADLESS, {"activation", "multiply"}),
    "InceptionV3": ({**HEADLESS, "input_shape": (75, 75, 3)}, {"concat"}),
    "Xception": ({**HEADLESS, "input_shape": (71, 71, 3)}, set()),
    "NASNetMobile": (HEADLESS, {"concat", "pad", "slice"}),
    "InceptionResNetV2": ({**HEADLESS, "input_shape": (75, 75, 3)}, {"concat"}),
}
PLAIN = {
    "conv2d", "depthwise_conv2d", "dense", "relu", "add", "max_pool", "avg_pool", "global_avg_pool",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_application(name):
    arguments, others = NETWORKS[name]
    model = randomized(getattr(applications, name)(**arguments))
    graph = read_keras(model)
    assert "opaque" not in kinds(graph)
    result, _ = sanitize_graph(graph)
    assert set(kinds(result)) <= PLAIN | others
    x = random_batch(model, size=2)
    written = write_keras(result)
    assert relative_error(predictions(model, x), predictions(written, x)) < 1e-4
    keras.backend.clear_session()
