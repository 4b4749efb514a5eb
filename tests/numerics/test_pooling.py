"""Average pooling, over borders too: sums times integers, divided once, are the exact means."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_cases import windows
from strategies import exact_half_up

from quantkeras.numerics import Format, Interval
from quantkeras.numerics.arrays import IntArrays
from quantkeras.numerics.bounds import layer_bounds
from quantkeras.numerics.carried import CarriedArrays, Carriers
from quantkeras.numerics.layer import LayerParams, LayerSpec, run_layer
from quantkeras.numerics.layer_windows import Pool, Window

ARRAYS = [IntArrays(), CarriedArrays(Carriers(total="float64"))]


def means(x: np.ndarray, window: Window) -> np.ndarray:
    """Fractions (oh, ow, c): the mean of those elements of x (h, w, c) that are under the window,
    as Keras counts them.
    """
    height, width, channels = x.shape
    (top, _), (left, _) = window.pads((height, width))
    out = np.zeros((*window.output_size((height, width)), channels), object)
    for r, s, c in np.ndindex(*out.shape):
        places = itertools.product(range(window.size[0]), range(window.size[1]))
        under = [
            int(x[y, z, c])
            for y, z in (
                (r * window.strides[0] - top + i, s * window.strides[1] - left + j)
                for i, j in places
            )
            if 0 <= y < height and 0 <= z < width
        ]
        out[r, s, c] = Fraction(sum(under), len(under))
    return out


@st.composite
def pooled_maps(draw: st.DrawFn) -> tuple[np.ndarray, Window]:
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low, high = draw(st.sampled_from([(0, 255), (-128, 127)]))
    x = rng.integers(low, high + 1, (height, width, draw(st.integers(1, 2))))
    return x, draw(windows(height, width, dilated=False))


@pytest.mark.parametrize("arrays", ARRAYS)
@given(case=pooled_maps())
def test_sums_over_the_area_are_the_means(arrays, case) -> None:
    x, window = case
    pool = Pool("average", window)
    sums = arrays.sum_pool(x[None], pool)[0].astype(np.int64)
    area = pool.area(x.shape[:2])
    found = [Fraction(int(v), area) for v in sums.flat]
    assert found == list(means(x, window).flat)


@pytest.mark.parametrize("arrays", ARRAYS)
@given(case=pooled_maps())
def test_a_rescale_by_one_over_the_area_rounds_the_means_half_up(arrays, case) -> None:
    x, window = case
    pool = Pool("average", window)
    area = pool.area(x.shape[:2])
    # Rounded up, so that ties stay ties or go up; off by less than the next mean is away.
    shift = 30
    params = LayerParams(
        scale=np.array(-(-(2**shift) // area)), shift=np.array(shift), qmin=0, qmax=255
    )
    x = abs(x)
    found = run_layer(LayerSpec("identity", pool=pool), params, [x[None]], arrays)[0]
    assert (
        found.astype(int).tolist() == np.frompyfunc(exact_half_up, 1, 1)(means(x, window)).tolist()
    )


@pytest.mark.parametrize("arrays", ARRAYS)
@given(st.integers(0, 2**32 - 1))
def test_negative_means_round_half_up_too(arrays, seed) -> None:
    # Elements under a 2 by 2 window: 4, 2 at an edge and 1 in the corner: 1/4 is exact.
    x = np.random.default_rng(seed).integers(-128, 128, (1, 5, 3, 2))
    window = Window((2, 2), (2, 2), "same")
    params = LayerParams(scale=np.array(1), shift=np.array(2), qmin=-128, qmax=127)
    found = run_layer(LayerSpec("identity", pool=Pool("average", window)), params, [x], arrays)
    assert (
        found[0].astype(int).tolist()
        == np.frompyfunc(exact_half_up, 1, 1)(means(x[0], window)).tolist()
    )


@pytest.mark.parametrize(
    ("window", "size", "area"),
    [
        (Window((3, 3), padding="same"), (8, 8), 36),  # 9, 6 and 4 elements
        (Window((3, 3), (3, 3)), (8, 8), 9),
        (Window((2, 2), (2, 2), "same"), (5, 3), 4),
        (Window((2, 2), (2, 2), "same"), (4, 4), 4),
        (Window((5, 5), padding="same"), (9, 9), 3600),  # 3, 4, 5 rows by as many columns
        (Window((3, 1), padding="same"), (1, 4), 1),
    ],
)
def test_areas(window: Window, size: tuple[int, int], area: int) -> None:
    pool = Pool("average", window)
    assert pool.area(size) == area
    factors = pool.border_factors(size)
    counts = pool.counts(size)
    assert (counts * (1 if factors is None else factors[..., 0]) == area).all()


def test_a_global_pool_divides_by_the_map() -> None:
    assert Pool("global_average").area((4, 5)) == 20
    assert Pool("global_average").border_factors((4, 5)) is None
    assert Pool("global_average").counts((4, 5)).tolist() == [[20]]


def test_padding_that_no_window_reaches_costs_nothing() -> None:
    pool = Pool("average", Window((2, 2), (2, 2), ((0, 1), (0, 1))))
    assert pool.area((4, 4)) == 4
    factors = pool.border_factors((4, 4))
    assert factors is None or (factors == 1).all()


@pytest.mark.parametrize("padding", ["same", "valid", ((2, 1), (0, 2))])
@pytest.mark.parametrize("fmt", [Format(8, False, 0), Format(8, True, 0)])
def test_every_position_reaches_the_bounds_of_a_sum(padding, fmt: Format) -> None:
    spec = LayerSpec("identity", pool=Pool("average", Window((3, 3), (1, 2), padding)))
    total = layer_bounds(spec, LayerParams(), [Interval.of_format(fmt)], [(5, 6, 1)], "pool").total
    for value, end in ((fmt.qmin, total.lo), (fmt.qmax, total.hi)):
        sums = run_layer(spec, LayerParams(), [np.full((1, 5, 6, 1), value)], IntArrays())
        assert (sums == int(end)).all()


@pytest.mark.parametrize(
    ("bits", "size", "carrier"), [(8, 5, "float32"), (13, 5, "float64"), (16, 7, "float64")]
)
def test_the_factors_count_in_the_choice_of_a_carrier(bits: int, size: int, carrier: str) -> None:
    # 255 * 3600 is below 2**24, 8191 * 3600 and 65535 * 176400 are not.
    spec = LayerSpec("identity", pool=Pool("average", Window((size, size), padding="same")))
    fmt = Format(bits, False, 0)
    bounds = layer_bounds(spec, LayerParams(), [Interval.of_format(fmt)], [(14, 14, 1)], "pool")
    carriers = Carriers.proved(bounds, "pool")
    assert (carriers.product, carriers.total) == ("float32", carrier)
    x = np.full((1, 14, 14, 1), fmt.qmax)
    found = run_layer(spec, LayerParams(), [x.astype(np.float32)], CarriedArrays(carriers))
    assert found.dtype == carrier
    assert np.array_equal(found, run_layer(spec, LayerParams(), [x], IntArrays()))


@given(pooled_maps())
def test_largest_elements_row_by_row(case) -> None:
    x, window = case
    found = CarriedArrays(Carriers()).max_pool(x[None].astype(np.float32), window)
    assert np.array_equal(found, IntArrays().max_pool(x[None], window))
