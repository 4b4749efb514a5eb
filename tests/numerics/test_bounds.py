"""Bounds of the steps of a layer: they hold what is computed, and some input reaches them."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from layer_cases import LayerCase, layer_cases

from quantkeras.numerics import Format, Interval
from quantkeras.numerics.arrays import IntArrays
from quantkeras.numerics.bounds import LayerBounds, hull, layer_bounds
from quantkeras.numerics.layer import LayerParams, LayerSpec, run_layer
from quantkeras.numerics.windows import Pool, Window


def bounds_of(case: LayerCase) -> LayerBounds:
    inputs = [Interval.of_format(f) for f in case.formats]
    return layer_bounds(case.spec, case.params, inputs, case.shapes, "layer")


@given(layer_cases())
def test_every_step_stays_within_its_interval(case: LayerCase) -> None:
    bounds = bounds_of(case)
    raw = replace(case.params, scale=None, table=None)
    core = LayerSpec(**{**case.spec.__dict__, "relu": False, "pool": None})
    accumulator = run_layer(core, raw, case.inputs, IntArrays())
    total = run_layer(case.spec, raw, case.inputs, IntArrays())
    assert bounds.accumulator.contains(accumulator)
    assert bounds.total.contains(total)
    assert abs(accumulator).max() <= bounds.peak
    if case.params.scale is not None:
        halves = 2.0 ** (np.asarray(case.params.shift, float) - 1) * (case.params.shift > 0)
        formed = abs(total * case.params.scale) + halves
        assert formed.max() <= 2.0**bounds.rescale_bits


def test_some_input_reaches_the_bounds_of_a_convolution() -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (3, 3, 2, 4))
    params = LayerParams(weights=weights, bias=rng.integers(-999, 999, 4))
    spec, fmt = LayerSpec("conv2d", Window((3, 3))), Format(8, True, 0)
    bounds = layer_bounds(spec, params, [Interval.of_format(fmt)], [(3, 3, 2)], "conv")
    for channel in range(4):
        kernel = weights[..., channel]
        best = np.where(kernel > 0, fmt.qmax, fmt.qmin)[None]
        worst = np.where(kernel > 0, fmt.qmin, fmt.qmax)[None]
        for x, ends in ((best, bounds.accumulator.hi), (worst, bounds.accumulator.lo)):
            acc = run_layer(spec, params, [x], IntArrays())
            assert acc[0, 0, 0, channel] == ends[channel]


def test_padding_widens_what_a_convolution_sees() -> None:
    # Inputs are at least 1 after the shift of the format's range; padding brings in its own value.
    params = LayerParams(weights=np.array([[[[-1]]]]), pad_value=np.array([-40]))
    seen = Interval(1, 9)
    for padding, highest in (("valid", -1), (((0, 1), (0, 0)), 40)):
        spec = LayerSpec("conv2d", Window((1, 1), padding=padding))
        assert layer_bounds(spec, params, [seen], [(2, 2, 1)], "conv").accumulator.hi == highest


def test_average_pools_count_their_elements() -> None:
    fmt = Interval.of_format(Format(8, False, 0))
    spec = LayerSpec("identity", pool=Pool("global_average"))
    assert layer_bounds(spec, LayerParams(), [fmt], [(4, 5, 2)], "pool").total.hi == 20 * 255
    spec = LayerSpec("identity", pool=Pool("average", Window((2, 3))))
    assert layer_bounds(spec, LayerParams(), [fmt], [(4, 5, 2)], "pool").total.hi == 6 * 255


def test_tables_and_hulls() -> None:
    fmt = Interval.of_format(Format(2, False, 0))
    params = LayerParams(
        scale=np.array(1), shift=np.array(0), qmin=0, qmax=3, table=np.array([5, -7, 0, 2])
    )
    output = layer_bounds(LayerSpec("identity"), params, [fmt], [(3,)], "table").output
    assert (output.lo, output.hi) == (-7, 5)
    joined = hull([Interval([0, -3], [1, 2]), Interval(-1, 9)])
    assert (joined.lo, joined.hi) == (-3, 9)
