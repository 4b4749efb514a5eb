"""Quantized transposed convolutions: full harness cases, and a sweep of geometries."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from exactness import as_numpy, assert_exact
from harness import LayerHarness, case_of, side_by_side
from parameters import slow_rows

from quantkeras.layers import QuantizedConv2DTranspose, QuantizedDepthwiseConv2DTranspose
from quantkeras.numerics.layer_windows import Pool, Window
from sanitize.keras_io.depthwise_transpose import DepthwiseConv2DTranspose


class TestConv2DTranspose(LayerHarness):
    related = True
    eager_training = False
    layer = QuantizedConv2DTranspose
    arguments = {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"}
    shapes = ((4, 5, 3),)
    widths = ((2, 8, True), (4, 4, False), (6, 3, True), (16, 8, True), (8, 16, False))


class TestConv2DTransposeReLUMaxPool(LayerHarness):
    variant = True
    layer = QuantizedConv2DTranspose
    arguments = {
        "filters": 3,
        "kernel_size": (2, 3),
        "strides": (3, 1),
        "relu": True,
        "max_value": 0.9,
        "pool": Pool("max", Window((2, 3), (2, 1), "same")),
    }
    shapes = ((3, 4, 2),)
    signed_inputs = (False,)
    rectified = True


class TestConv2DTransposeAverage(LayerHarness):
    variant = True
    layer = QuantizedConv2DTranspose
    arguments = {
        "filters": 3,
        "kernel_size": 4,
        "strides": 2,
        "padding": "same",
        "relu": True,
        "pool": Pool("global_average"),
    }
    shapes = ((3, 4, 2),)
    rectified = True
    tolerance = 1e-2


class TestConv2DTransposeAccumulator(LayerHarness):
    variant = True
    layer = QuantizedConv2DTranspose
    arguments = {"filters": 2, "kernel_size": 2, "strides": 2, "use_bias": False}
    shapes = ((3, 4, 3),)
    accumulator = True


class TestDepthwiseConv2DTranspose(LayerHarness):
    variant = True
    eager_training = False
    layer = QuantizedDepthwiseConv2DTranspose
    arguments = {"kernel_size": 3, "strides": 2, "padding": "same", "depth_multiplier": 2}
    shapes = ((4, 5, 3),)
    widths = ((2, 8, True), (4, 4, False), (6, 3, True), (16, 8, True), (8, 16, False))


class TestDepthwiseConv2DTransposeReLU(LayerHarness):
    variant = True
    layer = QuantizedDepthwiseConv2DTranspose
    arguments = {"kernel_size": (1, 4), "strides": (2, 3), "relu": True, "use_bias": False}
    shapes = ((3, 4, 2),)
    rectified = True


GEOMETRIES = [
    # kernel, strides, padding, output padding, dilation
    ((3, 3), (1, 1), "same", None, (1, 1)),
    ((3, 2), (1, 1), "valid", None, (1, 1)),
    ((4, 4), (2, 2), "same", None, (1, 1)),
    ((3, 5), (2, 2), "valid", None, (1, 1)),
    ((2, 2), (2, 2), "same", None, (1, 1)),
    ((5, 2), (2, 3), "same", None, (1, 1)),
    ((2, 1), (3, 2), "valid", None, (1, 1)),
    ((1, 1), (2, 2), "same", None, (1, 1)),
    ((2, 2), (3, 3), "same", None, (1, 1)),
    ((1, 2), (3, 3), "valid", None, (1, 1)),
    ((3, 3), (2, 2), "same", (1, 1), (1, 1)),
    ((3, 3), (2, 2), "same", (0, 1), (1, 1)),
    ((3, 4), (3, 2), "valid", (1, 0), (1, 1)),
    ((3, 3), (3, 3), "same", (2, 0), (1, 1)),
    ((3, 2), (1, 1), "same", None, (2, 3)),
    ((3, 3), (1, 1), "valid", None, (2, 2)),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depthwise", "first"), [(False, 0), *slow_rows((False, 1), (True, 0), (True, 1))]
)
def test_geometries_mean_what_the_stock_layers_compute_and_are_exact(depthwise, first):
    """Each a branch of one model, every second of them from the first one on."""
    kind = QuantizedDepthwiseConv2DTranspose if depthwise else QuantizedConv2DTranspose
    stock = DepthwiseConv2DTranspose if depthwise else keras.layers.Conv2DTranspose
    cases = {}
    for number, (kernel, strides, padding, extra, dilation) in enumerate(GEOMETRIES[first::2]):
        arguments = {
            "kernel_size": kernel,
            "strides": strides,
            "padding": padding,
            "output_padding": extra,
            "dilation_rate": dilation,
        }
        name = f"geometry{number}"
        arguments |= {} if depthwise else {"filters": 4}
        cases[name] = case_of(name, layer=kind, shapes=((4, 5, 3),), arguments=arguments)
    model, arrays = side_by_side({name: (case, (8, 8, True)) for name, case in cases.items()})
    program = assert_exact(model, arrays, graph=False)
    for (name, case), x in zip(cases.items(), arrays, strict=True):
        layer, original = model.get_layer(name), stock(**case.arguments)
        original.build(x.shape)
        original.set_weights([layer.kernel, layer.bias])
        # Not every processor's kernels can dilate a transposed convolution; the compiler can.
        dilated = case.arguments["dilation_rate"] != (1, 1)
        compute = tf.function(original, jit_compile=True) if dilated else original
        wanted = as_numpy(compute(x))
        found = as_numpy(layer.float_call(x))
        np.testing.assert_allclose(found, wanted, atol=1e-5, err_msg=f"{case.arguments}")
        assert layer.compute_output_shape((None, 4, 5, 3)) == (None, *wanted.shape[1:]), name
        assert program[name].output_shape == wanted.shape[1:], name
