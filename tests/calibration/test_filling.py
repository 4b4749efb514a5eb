"""Which values are stretched to fill their formats."""

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact
from keras import layers
from parameters import slow_rows

from quantkeras import QuantizationParams
from quantkeras.api import quantize


def ratio_before(behind, params, samples):
    """Factors of the channels of a convolution that the layers ``behind`` read."""
    keras.utils.set_random_seed(1)
    image = keras.Input((6, 6, 4))
    x = layers.Conv2D(8, 3, activation="relu", name="source")(image)
    model = keras.Model(image, [layer(x) for layer in behind])
    quantized = quantize(model, params, samples=samples)
    assert_exact(quantized, samples[:2], graph=False)
    return as_numpy(quantized.get_layer("source").output_quantizer.ratio)


BEHIND = {
    "one": lambda: [layers.Conv2D(4, 1)],
    "two": lambda: [layers.Conv2D(4, 1), layers.Conv2D(4, 3)],
    "one that does not mind": lambda: [layers.Conv2D(4, 1), layers.DepthwiseConv2D(3)],
}


@pytest.mark.parametrize(
    ("behind", "bits", "filled"),
    [
        ("one", 4, True),
        ("two", 4, False),
        *slow_rows(("two", 8, True), ("one that does not mind", 4, True)),
    ],
)
def test_weights_of_few_bits_in_several_layers_stay_even(behind, bits, filled, rng):
    samples = rng.random((16, 6, 6, 4)).astype(np.float32)
    params = QuantizationParams(weight_bits=bits, last_weight_bits=bits)
    ratio = ratio_before(BEHIND[behind](), params, samples)
    assert (ratio != 1).any() == filled


def test_one_factor_for_all_channels_leaves_weights_even(rng):
    samples = rng.random((16, 6, 6, 4)).astype(np.float32)
    params = QuantizationParams(weight_bits=4, last_weight_bits=4, per_tensor_activations=True)
    ratio = ratio_before(BEHIND["two"](), params, samples)
    assert (ratio == ratio[0]).all() and ratio[0] > 1
