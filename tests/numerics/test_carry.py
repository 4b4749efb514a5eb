"""What belongs to the elements of a tensor goes where a movement of data puts them."""

import numpy as np
import pytest

from quantkeras.errors import QuantizationError
from quantkeras.numerics.arrays import IntArrays
from quantkeras.numerics.carry import carry, places_behind
from quantkeras.numerics.layer import LayerParams, LayerSpec, run_layer
from quantkeras.numerics.layer_windows import Pool, Window

SHAPE = (2, 3, 4)
ARRAYS = {
    "one": np.array([7]),
    "number": np.array(7),
    "channels": np.array([1, 2, 3, 4]),
    "rows": np.array([5, 6]).reshape(2, 1, 1),
    "columns": np.array([5, 6, 7]).reshape(3, 1),
    "all": np.arange(24).reshape(SHAPE),
}
SPECS = [
    LayerSpec("identity"),
    LayerSpec("flatten"),
    LayerSpec("reshape", shape=(6, 4)),
    LayerSpec("reshape", shape=(3, 2, 4)),
    LayerSpec("reshape", shape=(4, -1)),
    *(LayerSpec("permute", dims=dims) for dims in [(1, 0, 2), (2, 0, 1), (0, 2, 1)]),
    LayerSpec("slice", slices=((0, 2, 1), (2, None, -2), (1, 4, 2))),
    LayerSpec("slice", slices=((1, 2, 1),) * 3),
    LayerSpec("upsample", size=(2, 3)),
]
PAD = LayerSpec("pad", pads=((1, 0), (0, 2)))
POOL = LayerSpec("identity", pool=Pool("max", Window((2, 2))))


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_every_element_keeps_its_number(name, spec):
    array = ARRAYS[name]
    wanted = run_layer(spec, LayerParams(), [np.broadcast_to(array, SHAPE)[None]], IntArrays())[0]
    found = carry(array, spec, SHAPE)
    np.testing.assert_array_equal(np.broadcast_to(found, wanted.shape), wanted)
    assert found.ndim < 2 or not (found == found[:1]).all()


@pytest.mark.parametrize("name", ARRAYS)
def test_elements_inside_a_padding_keep_theirs(name):
    array, inside = ARRAYS[name], (slice(1, None), slice(None, -2))
    found = np.broadcast_to(carry(array, PAD, SHAPE), (3, 5, 4))
    np.testing.assert_array_equal(found[inside], np.broadcast_to(array, SHAPE))
    assert set(found.ravel()) == set(array.ravel())


def test_numbers_per_channel_stay_so():
    channels = ARRAYS["channels"]
    stay = [LayerSpec("permute", dims=(1, 0, 2)), LayerSpec("upsample", size=(2, 2)), PAD, POOL]
    for spec in stay:
        assert carry(channels, spec, SHAPE) is channels
        assert carry(channels, spec, (None, None, 4)) is channels
    part = LayerSpec("slice", slices=((0, 1, 1), (1, 3, 1), (3, None, -2)))
    for shape in (SHAPE, (None, None, 4)):
        assert carry(channels, part, shape).tolist() == [4, 2]
    assert carry(ARRAYS["one"], LayerSpec("flatten"), (None, 3)).shape == (1,)


def test_where_sizes_must_be_known():
    channels = ARRAYS["channels"]
    assert carry(channels, LayerSpec("reshape", shape=(-1, 4)), (None, 3, 4)) is channels
    with pytest.raises(QuantizationError, match="sizes must all be known"):
        carry(channels, LayerSpec("flatten"), (None, 3, 4))


def test_a_pool_joins_only_what_is_alike():
    for name in ("rows", "columns", "all"):
        with pytest.raises(QuantizationError, match=r"\(2, 3, 4\) is pooled, .* by position"):
            carry(ARRAYS[name], POOL, SHAPE)
    assert carry(np.ones((2, 3, 4)), POOL, SHAPE).tolist() == [1] * 4


def test_places_are_those_of_the_flattened_array():
    places = places_behind((4,), LayerSpec("permute", dims=(2, 0, 1)), SHAPE)
    np.testing.assert_array_equal(places, np.broadcast_to(np.arange(4)[:, None, None], (4, 2, 3)))
    assert places_behind((4,), PAD, SHAPE) is None
