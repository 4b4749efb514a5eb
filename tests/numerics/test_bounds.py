"""Bounds of the steps of a layer: they hold what is computed, and some input reaches them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from layer_cases import LayerCase, layer_cases

from quantkeras.numerics import Format, Interval
from quantkeras.numerics.arrays import IntArrays
from quantkeras.numerics.bounds import LayerBounds, hull, layer_bounds
from quantkeras.numerics.layer import LayerParams, LayerSpec, run_layer
from quantkeras.numerics.layer_windows import Pool, Window


def bounds_of(case: LayerCase) -> LayerBounds:
    inputs = [Interval.of_format(f) for f in case.formats]
    return layer_bounds(case.spec, case.params, inputs, case.shapes, "layer")


def stages_of(case: LayerCase) -> dict[str, list[np.ndarray]]:
    """What :func:`run_layer` computes on the way."""
    stages: dict[str, list[np.ndarray]] = {}
    output = run_layer(case.spec, case.params, case.inputs, IntArrays(), stages.__setitem__)
    return {**stages, "output": [output]}


@given(layer_cases())
def test_every_step_stays_within_its_interval(case: LayerCase) -> None:
    bounds, stages = bounds_of(case), stages_of(case)
    for interval, x in zip(bounds.inputs, stages["inputs"], strict=True):
        assert interval.contains(x)
    (accumulator,), (total,) = stages["accumulator"], stages["total"]
    assert bounds.accumulator.contains(accumulator)
    assert bounds.total.contains(total)
    assert bounds.output.contains(stages["output"][0])
    assert abs(accumulator).max() <= bounds.peak
    if case.params.scale is not None:
        halves = 2.0 ** (np.asarray(case.params.shift, float) - 1) * (case.params.shift > 0)
        formed = abs(total * case.params.scale) + halves
        assert formed.max() <= 2.0**bounds.rescale_bits


MEAN = Pool("global_average")
WEIGHTS = {"dense": (2, 3), "conv2d": (1, 2, 2, 3), "depthwise_conv2d": (1, 2, 2, 2)}


@pytest.mark.parametrize(
    ("spec", "shape", "count"),
    [
        (LayerSpec("dense"), (2, 2), 1),
        (LayerSpec("dense", relu=True), (2,), 1),
        (LayerSpec("conv2d", Window((1, 2)), relu=True), (1, 2, 2), 1),
        (LayerSpec("depthwise_conv2d", Window((1, 2)), relu=True, pool=MEAN), (1, 2, 2), 1),
        *((LayerSpec(kind), (2,), 2) for kind in ("subtract", "multiply", "maximum")),
        (LayerSpec("add", relu=True), (2,), 3),
        (LayerSpec("concat"), (2,), 2),
        (LayerSpec("permute", dims=(1, 0)), (2, 3), 1),
        (LayerSpec("slice", slices=((0, 1, 1), (2, None, -2))), (2, 3), 1),
        (LayerSpec("identity", relu=True, pool=Pool("max", Window((2, 1)))), (2, 1, 2), 1),
        (LayerSpec("identity", relu=True, pool=Pool("average", Window((2, 1)))), (2, 1, 2), 1),
    ],
    ids=lambda value: value.kind if isinstance(value, LayerSpec) else "",
)
def test_corners_of_the_inputs_reach_every_bound(
    spec: LayerSpec, shape: tuple[int, ...], count: int, rng: np.random.Generator
) -> None:
    """No step but the products, sums and maxima of all inputs decides where the ends lie."""
    formats = [Format(4, bool(signed), 0) for signed in rng.integers(0, 2, count)]
    params = LayerParams()
    if spec.kind in WEIGHTS:
        params.weights = rng.integers(-7, 8, WEIGHTS[spec.kind])
    else:
        params.input_shifts = tuple(rng.integers(0, 3, shape[-1:]) for _ in formats)
    corners = np.array(list(itertools.product((0, 1), repeat=count * int(np.prod(shape)))))
    parts = np.split(corners, count, axis=1)
    inputs = [
        np.where(part, f.qmax, f.qmin).reshape(-1, *shape)
        for part, f in zip(parts, formats, strict=True)
    ]
    channels = run_layer(spec, params, inputs, IntArrays()).shape[-1]
    params.bias = rng.integers(-9, 10, channels)
    params.scale, params.shift = rng.integers(1, 9, channels), rng.integers(-1, 4, channels)
    params.qmin, params.qmax = -(2**15), 2**15 - 1
    case = LayerCase(spec, params, formats, inputs)
    bounds, stages = bounds_of(case), stages_of(case)
    for interval, (x,) in (
        (bounds.accumulator, stages["accumulator"]),
        (bounds.total, stages["total"]),
    ):
        rows = x.reshape(-1, channels)
        limits = (
            np.broadcast_to(interval.lo, x.shape[1:]),
            np.broadcast_to(interval.hi, x.shape[1:]),
        )
        low, high = (end.reshape(-1, channels) for end in limits)
        np.testing.assert_array_equal(rows.min(axis=0), low.min(axis=0))
        np.testing.assert_array_equal(rows.max(axis=0), high.max(axis=0))
    (output,) = stages["output"]
    assert (output.min(), output.max()) == (bounds.output.lo, bounds.output.hi)


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
    around = hull(Interval([0, -3], [1, 9]))
    assert (around.lo, around.hi) == (-3, 9)
