"""Quantized differences, products, maxima and minima: ten lines each, see harness.py."""

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact
from harness import LayerHarness, case_of, side_by_side
from parameters import slow

from quantkeras.calibration import calibrate
from quantkeras.layers import (
    Dequantizer,
    InputQuantizer,
    OutputQuantizer,
    QuantizedMaximum,
    QuantizedMinimum,
    QuantizedMultiply,
    QuantizedSubtract,
)
from quantkeras.numerics.layer_windows import Pool, Window

MAP = (5, 6, 3)
WIDTHS = tuple((8, bits, bits % 2 == 0) for bits in (2, 3, 5, 6, 7, 16))


class TestSubtract(LayerHarness):
    variant = True
    layer = QuantizedSubtract
    shapes = (MAP, MAP)
    widths = WIDTHS


class TestSubtractMixed(LayerHarness):
    variant = True
    layer = QuantizedSubtract
    arguments = {"relu": True, "max_value": 1.0, "pool": Pool("average", Window((2, 2), (2, 2)))}
    shapes = (MAP, (1, 1, 3))
    signed_inputs = (False, False)
    input_bits = (4, 7)
    rectified = True


class TestMultiply(LayerHarness):
    related = True
    layer = QuantizedMultiply
    shapes = (MAP, MAP)
    widths = WIDTHS


class TestMultiplyByChannels(LayerHarness):
    variant = True
    eager_training = False
    layer = QuantizedMultiply
    shapes = (MAP, (1, 1, 3))
    signed_inputs = (True, False)
    input_bits = (8, 5)


class TestMultiplyByPositions(LayerHarness):
    variant = True
    layer = QuantizedMultiply
    arguments = {"relu": True, "pool": Pool("max", Window((2, 2), (2, 2), "same"))}
    shapes = ((5, 6, 1), MAP)
    signed_inputs = (False, True)
    input_bits = (4, 8)
    rectified = True


class TestMultiplyAverage(LayerHarness):
    variant = True
    layer = QuantizedMultiply
    arguments = {"relu": True, "max_value": 2.0, "pool": Pool("global_average")}
    shapes = (MAP, MAP)
    rectified = True
    tolerance = 1e-2  # 1/n has scale_bits bits


class TestMultiplyAccumulator(LayerHarness):
    variant = True
    layer = QuantizedMultiply
    shapes = ((4,), (4,))
    accumulator = True


class TestMaximum(LayerHarness):
    variant = True
    layer = QuantizedMaximum
    shapes = (MAP, MAP)
    widths = WIDTHS


class TestMaximumThree(LayerHarness):
    variant = True
    layer = QuantizedMaximum
    shapes = (MAP, (1, 6, 3), MAP)
    signed_inputs = (True, False, True)
    input_bits = (8, 3, 6)


class TestMinimum(LayerHarness):
    variant = True
    layer = QuantizedMinimum
    arguments = {"pool": Pool("average", Window((3, 3), (2, 2), "same"))}
    shapes = (MAP, MAP)
    tolerance = 1e-2


class TestMinimumThree(LayerHarness):
    variant = True
    layer = QuantizedMinimum
    arguments = {"relu": True}
    shapes = ((7,), (7,), (7,))
    signed_inputs = (True, False, False)
    input_bits = (4, 8, 6)
    rectified = True


class TestMinimumAccumulator(LayerHarness):
    variant = True
    layer = QuantizedMinimum
    shapes = (MAP, MAP)
    accumulator = True


KINDS = (QuantizedSubtract, QuantizedMultiply, QuantizedMaximum, QuantizedMinimum)


@pytest.mark.parametrize("layer", [*KINDS[:2], *slow(*KINDS[2:])])
@pytest.mark.parametrize(
    "signs", [(False, True), *slow((True, True), (True, False), (False, False))]
)
def test_every_pair_of_signs_and_widths(layer, signs):
    """The widths in one model."""
    branches = {}
    for bits in ((8, 8), (2, 8), (6, 3), (16, 16)):
        case = case_of(
            f"{layer.__name__}{signs}{bits}",
            layer=layer,
            shapes=((4, 3), (4, 3)),
            signed_inputs=signs,
            input_bits=bits,
        )
        branches["bits{}_and_{}".format(*bits)] = case, (8, 8, True)
    model, arrays = side_by_side(branches)
    assert_exact(model, arrays, graph=False)


@pytest.mark.parametrize("layer", KINDS)
def test_a_value_with_itself(layer):
    """x * x and the like: both inputs are one tensor."""
    inputs = keras.Input((4, 3))
    quantizer = InputQuantizer(bits=8)
    x = quantizer(inputs)
    joined = layer(output_quantizer=OutputQuantizer(8), name="layer")([x, x])
    model = keras.Model(inputs, Dequantizer()(joined))
    samples = np.random.default_rng(3).normal(size=(32, 4, 3)).astype(np.float32) * [0.1, 1, 9]
    calibrate(model, samples)
    assert_exact(model, samples)
    if layer is QuantizedMultiply:
        output = model.get_layer("layer").output_quantizer
        squares = as_numpy(quantizer(samples)) ** 2
        saturated = np.minimum(squares, output.qmax * as_numpy(output.lsb()))
        assert (np.abs(as_numpy(model(samples)) - saturated) <= as_numpy(output.lsb()) / 2).all()
