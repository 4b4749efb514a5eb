"""Average pooling over padded borders, where fewer elements are under the window."""

import itertools

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact
from harness import LayerHarness, case_of, side_by_side
from parameters import slow

from quantkeras.layers import QuantizedAdd, QuantizedAveragePooling2D
from quantkeras.numerics.layer_windows import Pool, Window


class TestAveragePoolingSame(LayerHarness):
    variant = True
    layer = QuantizedAveragePooling2D
    arguments = {"pool_size": 3, "strides": 2, "padding": "same"}
    tolerance = 1e-2  # 1/n has scale_bits bits


class TestAddAveragePoolingSame(LayerHarness):
    variant = True
    layer = QuantizedAdd
    arguments = {"relu": True, "pool": Pool("average", Window((3, 2), (1, 3), "same"))}
    shapes = ((5, 6, 3), (5, 6, 3))
    rectified = True
    tolerance = 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("size", [(2, 5), *slow((2, 2), (3, 3), (4, 1))])
@pytest.mark.parametrize("padding", ["same", *slow("valid")])
def test_borders_of_every_parity(size, padding):
    """Strides and maps of all sorts, each a branch of one model."""
    cases = {}
    for strides, shape in itertools.product([(1, 1), (2, 3), (3, 2)], [(5, 6), (6, 5), (7, 7)]):
        arguments = {"pool_size": size, "strides": strides, "padding": padding}
        name = "strides{}x{}_map{}x{}".format(*strides, *shape)
        cases[name] = case_of(
            name, layer=QuantizedAveragePooling2D, shapes=((*shape, 2),), arguments=arguments
        )
    model, arrays = side_by_side({name: (case, (8, 8, True)) for name, case in cases.items()})
    assert_exact(model, arrays, graph=False)
    for (name, case), x in zip(cases.items(), arrays, strict=True):
        wanted = as_numpy(keras.layers.AveragePooling2D(**case.arguments)(x))
        found = as_numpy(model.get_layer(name).float_call(x))
        np.testing.assert_allclose(found, wanted, rtol=2**-7, atol=1e-6, err_msg=name)
