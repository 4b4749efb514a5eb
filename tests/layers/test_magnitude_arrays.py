"""The proof of a layer whose weights are tensors says what that of a program says."""

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact
from keras import layers, ops

from quantkeras.api import quantize
from quantkeras.layers import WeightedLayer
from quantkeras.layers.keras_arrays import MagnitudeArrays
from quantkeras.numerics import Interval
from quantkeras.numerics.bounds import layer_bounds
from quantkeras.numerics.layer import LayerParams, LayerSpec, run_layer
from quantkeras.numerics.layer_windows import Window
from quantkeras.runtime.program_bounds import program_bounds

WINDOW = Window((2, 3), padding="same")
CASES = [
    (LayerSpec("dense"), (4, 3)),
    (LayerSpec("conv2d", WINDOW), (2, 3, 4, 3)),
    (LayerSpec("conv2d", WINDOW, groups=2), (2, 3, 2, 6)),
    (LayerSpec("depthwise_conv2d", WINDOW), (2, 3, 4, 2)),
]


@pytest.mark.parametrize("shape", [(1,), (4,), (5, 6, 4)])
@pytest.mark.parametrize(("spec", "size"), CASES, ids=lambda value: str(getattr(value, "kind", "")))
def test_magnitudes_are_the_bound_of_partial_sums(spec, size, shape, rng) -> None:
    weights, largest = rng.integers(-127, 128, size), rng.integers(1, 256, shape)
    params = LayerParams(weights=ops.convert_to_tensor(np.abs(weights).astype(np.float32)))
    arrays, x = MagnitudeArrays(), ops.convert_to_tensor(largest.astype(np.float32))
    found = as_numpy(run_layer(spec, params, [x], arrays))

    shared = spec.groups > 1 or len(shape) > 1
    seen = np.full(shape, largest.max()) if shared else largest
    symmetric = Interval(-seen, seen)
    bound = layer_bounds(spec, LayerParams(weights=weights), [symmetric], [(5, 6, 4)], "layer")
    assert found.shape == bound.accumulator.partial.shape
    np.testing.assert_array_equal(found, bound.accumulator.partial.astype(np.float64))


def test_sums_of_a_float32_layer_stay_below_its_limit(rng) -> None:
    """Kernels so large that the guard has to double their steps, in layers of every layout."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3, 3, 8))
    x = layers.ReLU()(layers.Conv2D(256, 3, padding="same", groups=2, name="groups")(inputs))
    x = layers.ReLU()(layers.Conv2DTranspose(4, 3, name="transposed")(x))
    x = layers.ReLU()(layers.DepthwiseConv2D(3, name="depthwise")(x))
    model = keras.Model(inputs, layers.Dense(2, name="dense")(layers.Flatten()(x)))
    for layer in model.layers:
        if layer.weights:
            layer.kernel.assign(np.abs(layer.kernel) / 8 + 1)
    samples = rng.uniform(0, 1, (4, 3, 3, 8)).astype(np.float32)
    quantized = quantize(model, samples=samples)
    weighted = [layer for layer in quantized.layers if isinstance(layer, WeightedLayer)]
    for layer in weighted:
        layer.carrier = "float32"
    bounds = program_bounds(assert_exact(quantized, samples))
    reached = [bounds[layer.name].peak for layer in weighted]
    assert max(reached) < 2**24 < 4 * max(reached)
