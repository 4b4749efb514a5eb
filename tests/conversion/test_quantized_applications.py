"""keras.applications from end to end: sanitized, quantized, converted, and exact on images.

One member of each family, the smallest, on the smallest images it takes. The weights are random and
so are the statistics of BatchNormalization, so that folding one wrongly shows.
"""

import keras
import numpy as np
import pytest
from exactness import assert_exact, without_tail

from model_zoo.batchnorm_statistics import patch_images, randomize_batchnorm
from quantkeras import coverage, quantize
from sanitize import sanitize_graph
from sanitize.graph import Graph
from sanitize.keras_io import read_keras
from sanitize.rewriting_check import largest_differences, run_for_comparison, saturated

#: Name -> arguments beside those that all have in common.
FAMILIES = {
    "MobileNet": {"alpha": 0.25},
    "MobileNetV2": {"alpha": 0.35},
    "MobileNetV3Small": {"alpha": 0.75},
    "VGG16": {},
    "ResNet50": {},
    "ResNet50V2": {},
    "Xception": {"input_shape": (71, 71, 3)},
    "DenseNet121": {},
    "EfficientNetB0": {},
    "EfficientNetV2B0": {},
    "InceptionV3": {"input_shape": (75, 75, 3)},
    "InceptionResNetV2": {"input_shape": (75, 75, 3)},
    "NASNetMobile": {},
}


def sanitize_error(before: Graph, after: Graph, x: np.ndarray) -> float:
    """Largest difference of the logits relative to the largest logit of an image, in float64."""
    logits = [
        run_for_comparison(graph, dict.fromkeys(graph.inputs, x), saturated(graph))
        for graph in (before, after)
    ]
    return float(largest_differences(*logits).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_application_becomes_integers(name):
    keras.utils.set_random_seed(0)
    arguments = {"weights": None, "input_shape": (32, 32, 3), "classes": 10, **FAMILIES[name]}
    model = getattr(keras.applications, name)(**arguments)
    pictures = patch_images(32, arguments["input_shape"][0])
    randomize_batchnorm(model, 0, pictures.astype(np.float32))

    graph = read_keras(model)
    sanitized, _ = sanitize_graph(graph, verify=False)  # quantize verifies the same below
    assert sanitize_error(graph, sanitized, pictures[:4]) < 1e-4

    quantized = quantize(model, samples=pictures[-4:])
    found = coverage(quantized)
    floats = [layer for layer in found.layers if layer.status in ("float", "partly")]
    assert [layer.reason for layer in floats] == ["softmax at the end"], found.summary
    assert floats[0].name == model.layers[-1].name

    program = assert_exact(without_tail(quantized), pictures[:2], graph=False)
    assert program.float_tail == ()
    logits = program.predict(pictures)
    assert np.ptp(logits, axis=0).max() > 0.05 * np.abs(logits).max(), "images look all the same"
    keras.backend.clear_session()
