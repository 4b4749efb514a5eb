"""Quantized additions, concatenations, ReLUs and poolings: ten lines each, see harness.py."""

from harness import LayerHarness

from quantkeras.layers import (
    QuantizedAdd,
    QuantizedAveragePooling2D,
    QuantizedConcatenate,
    QuantizedGlobalAveragePooling2D,
    QuantizedReLU,
)
from quantkeras.numerics.layer_windows import Pool, Window

MAP = (5, 6, 3)
WIDTHS = tuple((8, bits, bits % 2 == 0) for bits in (2, 3, 4, 5, 6, 7, 16))


class TestAdd(LayerHarness):
    related = True
    layer = QuantizedAdd
    shapes = (MAP, MAP)
    widths = WIDTHS


class TestAddThreeMixed(LayerHarness):
    variant = True
    eager_training = False
    layer = QuantizedAdd
    arguments = {"relu": True}
    shapes = (MAP, MAP, MAP)
    signed_inputs = (True, False, True)
    input_bits = (8, 4, 6)
    rectified = True


class TestAddClipAverage(LayerHarness):
    variant = True
    layer = QuantizedAdd
    arguments = {"relu": True, "max_value": 1.5, "pool": Pool("global_average")}
    shapes = (MAP, MAP)
    rectified = True


class TestAddMaxPool(LayerHarness):
    variant = True
    layer = QuantizedAdd
    arguments = {"pool": Pool("max", Window((2, 2), (2, 1), "same"))}
    shapes = (MAP, MAP)


class TestAddAccumulator(LayerHarness):
    variant = True
    layer = QuantizedAdd
    shapes = ((4,), (4,))
    accumulator = True


class TestConcatenate(LayerHarness):
    related = True
    layer = QuantizedConcatenate
    shapes = ((4, 5, 2), (4, 5, 3))
    widths = WIDTHS


class TestConcatenateMixed(LayerHarness):
    variant = True
    layer = QuantizedConcatenate
    arguments = {"axis": 2}
    shapes = ((3, 2, 3), (3, 4, 3), (3, 1, 3))
    signed_inputs = (True, False, True)
    input_bits = (4, 8, 6)


class TestConcatenateVectors(LayerHarness):
    variant = True
    layer = QuantizedConcatenate
    arguments = {"relu": True}
    shapes = ((4,), (2,))
    rectified = True


class TestConcatenateAccumulator(LayerHarness):
    variant = True
    layer = QuantizedConcatenate
    shapes = ((2, 2, 2), (2, 2, 1))
    accumulator = True


class TestReLU(LayerHarness):
    variant = True
    layer = QuantizedReLU
    rectified = True


class TestReLUClipAverage(LayerHarness):
    variant = True
    layer = QuantizedReLU
    arguments = {"max_value": 0.8, "pool": Pool("average", Window((2, 3), (2, 2)))}
    rectified = True


class TestReLUAccumulator(LayerHarness):
    variant = True
    layer = QuantizedReLU
    arguments = {"max_value": 0.8}
    rectified = True
    accumulator = True


class TestGlobalAveragePooling(LayerHarness):
    variant = True
    layer = QuantizedGlobalAveragePooling2D
    arguments = {"keepdims": True}
    tolerance = 1e-2  # 1/n has scale_bits bits


class TestGlobalAveragePoolingAccumulator(LayerHarness):
    variant = True
    layer = QuantizedGlobalAveragePooling2D
    accumulator = True
    tolerance = 1e-2


class TestAveragePooling(LayerHarness):
    related = True
    layer = QuantizedAveragePooling2D
    arguments = {"pool_size": (2, 3), "strides": (1, 2)}
    signed_inputs = (False,)
    rectified = True
    tolerance = 1e-2
