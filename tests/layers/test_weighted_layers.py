"""Quantized convolutions and dense layers, in every geometry: ten lines each, see harness.py."""

from harness import LayerHarness

from quantkeras.layers import QuantizedConv2D, QuantizedDense, QuantizedDepthwiseConv2D
from quantkeras.numerics.layer_windows import Pool, Window

ALL_WIDTHS = tuple(
    (w, a, w % 2 == 0) for w, a in zip((2, 3, 4, 5, 6, 7), (8, 7, 6, 5, 3, 2), strict=True)
)


class TestConv2D(LayerHarness):
    eager_training = False
    layer = QuantizedConv2D
    arguments = {"filters": 5, "kernel_size": 3, "padding": "same"}
    widths = (*ALL_WIDTHS, (16, 8, True), (8, 16, False))


class TestConv2DReLU(LayerHarness):
    variant = True
    layer = QuantizedConv2D
    arguments = {"filters": 4, "kernel_size": (1, 3), "relu": True, "use_bias": False}
    rectified = True
    signed_inputs = (False,)


class TestConv2DGroupsStrided(LayerHarness):
    variant = True
    layer = QuantizedConv2D
    arguments = {
        "filters": 6,
        "kernel_size": (3, 2),
        "groups": 2,
        "strides": (2, 1),
        "padding": "same",
    }
    shapes = ((7, 6, 4),)


class TestConv2DDilated(LayerHarness):
    variant = True
    layer = QuantizedConv2D
    arguments = {"filters": 3, "kernel_size": (2, 3), "dilation_rate": (3, 2), "padding": "same"}
    shapes = ((8, 7, 2),)


class TestConv2DExplicitPadding(LayerHarness):
    variant = True
    layer = QuantizedConv2D
    arguments = {
        "filters": 3,
        "kernel_size": 3,
        "strides": 2,
        "explicit_padding": ((2, 0), (1, 1)),
    }


class TestConv2DPadValue(LayerHarness):
    variant = True
    layer = QuantizedConv2D
    arguments = {
        "filters": 3,
        "kernel_size": (3, 2),
        "padding": "same",
        "strides": (1, 2),
        "has_pad_value": True,
    }


class TestConv2DPadValueExplicit(LayerHarness):
    variant = True
    layer = QuantizedConv2D
    arguments = {
        "filters": 3,
        "kernel_size": 2,
        "explicit_padding": ((1, 2), (0, 1)),
        "has_pad_value": True,
    }


class TestConv2DMaxPoolClip(LayerHarness):
    related = True
    layer = QuantizedConv2D
    arguments = {
        "filters": 4,
        "kernel_size": 3,
        "relu": True,
        "max_value": 0.9,
        "pool": Pool("max", Window((2, 3), (2, 1), "same")),
    }
    rectified = True


class TestConv2DMaxPoolExplicit(LayerHarness):
    variant = True
    layer = QuantizedConv2D
    arguments = {
        "filters": 3,
        "kernel_size": 1,
        "pool": Pool("max", Window((3, 2), (2, 2), ((1, 0), (0, 1)))),
    }


class TestConv2DAveragePool(LayerHarness):
    variant = True
    layer = QuantizedConv2D
    arguments = {
        "filters": 4,
        "kernel_size": 2,
        "relu": True,
        "max_value": 1.0,
        "pool": Pool("average", Window((3, 2), (1, 2))),
    }
    rectified = True


class TestConv2DGlobalAverage(LayerHarness):
    variant = True
    layer = QuantizedConv2D
    arguments = {"filters": 4, "kernel_size": 2, "relu": True, "pool": Pool("global_average")}
    rectified = True


class TestConv2DAccumulator(LayerHarness):
    variant = True
    layer = QuantizedConv2D
    arguments = {"filters": 4, "kernel_size": 3, "relu": True, "max_value": 1.0}
    rectified = True
    accumulator = True


class TestConv2DAccumulatorAverage(LayerHarness):
    variant = True
    layer = QuantizedConv2D
    arguments = {"filters": 4, "kernel_size": 2, "pool": Pool("global_average", keepdims=True)}
    accumulator = True


class TestDepthwiseConv2D(LayerHarness):
    related = True
    eager_training = False
    layer = QuantizedDepthwiseConv2D
    arguments = {"kernel_size": 3, "padding": "same", "depth_multiplier": 2}
    widths = (*ALL_WIDTHS, (16, 8, True), (8, 16, False))


class TestDepthwiseUnequalStrides(LayerHarness):
    variant = True
    layer = QuantizedDepthwiseConv2D
    arguments = {"kernel_size": (3, 2), "padding": "same", "strides": (1, 2), "relu": True}
    rectified = True
    shapes = ((7, 8, 3),)


class TestDepthwisePadValue(LayerHarness):
    variant = True
    layer = QuantizedDepthwiseConv2D
    arguments = {
        "kernel_size": 3,
        "strides": (3, 2),
        "explicit_padding": ((0, 1), (2, 1)),
        "depth_multiplier": 3,
        "has_pad_value": True,
    }


class TestDepthwiseDilatedAverage(LayerHarness):
    variant = True
    layer = QuantizedDepthwiseConv2D
    arguments = {
        "kernel_size": 2,
        "dilation_rate": (2, 3),
        "padding": "same",
        "relu": True,
        "max_value": 0.7,
        "pool": Pool("global_average"),
    }
    rectified = True


class TestDepthwiseAccumulator(LayerHarness):
    variant = True
    layer = QuantizedDepthwiseConv2D
    arguments = {"kernel_size": 2, "depth_multiplier": 2}
    accumulator = True


class TestDense(LayerHarness):
    related = True
    layer = QuantizedDense
    arguments = {"units": 7}
    shapes = ((11,),)
    widths = (*ALL_WIDTHS, (16, 8, True), (8, 16, False))


class TestDenseOnSequences(LayerHarness):
    variant = True
    eager_training = False
    layer = QuantizedDense
    arguments = {"units": 4, "relu": True, "max_value": 1.2}
    shapes = ((5, 6),)
    rectified = True


class TestDenseOnMaps(LayerHarness):
    variant = True
    layer = QuantizedDense
    arguments = {"units": 4, "use_bias": False}
    shapes = ((3, 4, 5),)


class TestDenseAccumulator(LayerHarness):
    variant = True
    layer = QuantizedDense
    arguments = {"units": 3}
    shapes = ((9,),)
    accumulator = True
