"""What can be proved about signs."""

import numpy as np
import pytest
from float_networks import sequential
from keras import layers, ops

from sanitize.keras_io import read_keras
from sanitize.signs import is_non_negative


def last(*parts):
    graph = read_keras(sequential(*parts))
    return is_non_negative(graph, graph.outputs[0])


def positive_kernel():
    layer = layers.DepthwiseConv2D(3, bias_initializer="ones")
    model = sequential(layers.ReLU(), layer)
    layer.set_weights([np.abs(weight) for weight in layer.get_weights()])
    return model


@pytest.mark.parametrize(
    "parts, wanted",
    [
        ([layers.ReLU()], True),
        ([layers.ReLU(), layers.MaxPooling2D(2), layers.Flatten()], True),
        ([layers.Activation("sigmoid"), layers.ZeroPadding2D(1)], True),
        ([layers.Lambda(ops.absolute)], True),
        ([layers.ReLU(), layers.Rescaling(2.0, 1.0)], True),
        ([layers.ReLU(), layers.Rescaling(2.0, -1.0)], False),
        ([layers.ReLU(), layers.Conv2D(3, 3)], False),
        ([layers.Activation("tanh")], False),
        ([layers.Flatten()], False),
    ],
)
def test_proofs(parts, wanted):
    assert last(*parts) is wanted


def test_sums_of_products_without_minus():
    graph = read_keras(positive_kernel())
    assert is_non_negative(graph, graph.outputs[0])
