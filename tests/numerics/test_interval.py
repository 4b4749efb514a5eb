"""Intervals, proved by sampling: what is drawn inside stays inside, and the ends are reached."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import integer_arrays, intervals

from quantkeras.errors import AccumulatorTooWide, QuantizationError
from quantkeras.numerics import (
    Format,
    Interval,
    bits_needed,
    carrier,
    saturate,
    shift_round,
)
from quantkeras.numerics.interval import (
    conv_interval,
    cover_intervals,
    depthwise_interval,
    elementwise_interval,
    join_intervals,
)


def dense_interval(x: Interval, weights: np.ndarray) -> Interval:
    """Sums of a dense layer: a convolution that sees one place."""
    return conv_interval(x, weights[None, None])


def draw_inside(x: Interval, size: int, seed: int = 0) -> np.ndarray:
    """(size, channels) integers of the interval."""
    rng = np.random.default_rng(seed)
    return rng.integers(
        x.lo.astype(np.int64), x.hi.astype(np.int64), (size, *x.lo.shape), endpoint=True
    )


def extremes(x: Interval, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (in,) that make sum(x * w) smallest and largest, for one output's weights (in,)."""
    return np.where(w > 0, x.lo, x.hi), np.where(w > 0, x.hi, x.lo)


biases = integer_arrays((3,), -1000, 1000)
shifts = integer_arrays((3,), 0, 6)


@given(intervals(4), integer_arrays((4, 3), -127, 127), biases, shifts)
def test_dense(x, w, bias, shift):
    bound = dense_interval(x, w).plus(bias, shift)
    added = bias << shift
    assert bound.contains(draw_inside(x, 50) @ w + added)
    for c in range(3):
        low, high = extremes(x, w[:, c])
        assert low @ w[:, c] + added[c] == bound.lo[c]
        assert high @ w[:, c] + added[c] == bound.hi[c]


@given(intervals(4), integer_arrays((4, 3), -7, 7), biases, st.integers(0, 2**32))
def test_partial_sums_in_any_order(x, w, bias, seed):
    bound = dense_interval(x, w).plus(bias, None)
    rng = np.random.default_rng(seed)
    terms = np.concatenate([draw_inside(x, 1, seed)[0][:, None] * w, bias[None]])
    for subset in itertools.product([False, True], repeat=5):
        assert (np.abs(terms[np.array(subset)].sum(axis=0)) <= bound.partial).all()
    running = np.cumsum(rng.permutation(terms), axis=0)
    assert (np.abs(running) <= bound.partial).all()


@given(intervals(4), integer_arrays((2, 3, 2, 6), -127, 127), integer_arrays((4,), -300, 300))
def test_grouped_convolution_with_padding(x, w, pad):
    """Windows of free and padded positions, as at a border; two groups of two channels."""
    bound = conv_interval(x, w, groups=2, pad_value=pad)
    rng = np.random.default_rng(0)
    window = draw_inside(x, 40 * 6).reshape(40, 2, 3, 4)
    window = np.where(rng.random((40, 2, 3, 1)) < 0.3, pad, window)
    acc = np.concatenate(
        [
            np.einsum("nhwc,hwco->no", window[..., 2 * g : 2 * g + 2], w[..., 3 * g : 3 * g + 3])
            for g in (0, 1)
        ],
        axis=1,
    )
    assert bound.contains(acc)
    assert (bound.partial >= np.maximum(abs(bound.lo), abs(bound.hi))).all()


@given(intervals(4), integer_arrays((2, 2, 4, 3), -127, 127))
def test_convolution_reaches_its_bounds(x, w):
    bound = conv_interval(x, w)
    for c in range(3):
        low, high = extremes(x, w[..., c])
        assert (low * w[..., c]).sum() == bound.lo[c]
        assert (high * w[..., c]).sum() == bound.hi[c]


@given(intervals(3), integer_arrays((2, 2, 3, 2), -127, 127), integer_arrays((6,), -99, 99))
def test_depthwise_reaches_its_bounds(x, w, bias):
    bound = depthwise_interval(x, w, pad_value=0).plus(bias, None)
    wide = x.including(0)
    for c in range(3):
        for m in range(2):
            taps = w[:, :, c, m]
            low = np.where(taps > 0, wide.lo[c], wide.hi[c])
            high = np.where(taps > 0, wide.hi[c], wide.lo[c])
            assert (low * taps).sum() + bias[2 * c + m] == bound.lo[2 * c + m]
            assert (high * taps).sum() + bias[2 * c + m] == bound.hi[2 * c + m]


@given(intervals(3), intervals(3), st.integers(0, 5), biases)
def test_addition(a, b, shift, bias):
    bound = elementwise_interval("add", a.shifted(shift), b).plus(bias, None)
    assert bound.contains((draw_inside(a, 30) << shift) + draw_inside(b, 30, 1) + bias)
    np.testing.assert_array_equal(bound.lo, (a.lo << shift) + b.lo + bias)
    np.testing.assert_array_equal(bound.hi, (a.hi << shift) + b.hi + bias)


@given(intervals(3), st.integers(1, 49))
def test_pool_sums(x, count):
    bound = x.times(count)
    assert bound.contains(draw_inside(x, 20 * count).reshape(20, count, 3).sum(axis=1))
    np.testing.assert_array_equal(bound.lo, x.lo * count)
    np.testing.assert_array_equal(bound.hi, x.hi * count)


FUNCTIONS = {
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


@pytest.mark.parametrize("kind", FUNCTIONS)
@given(intervals(3, 9), intervals(3, 9))
def test_elementwise_bounds_are_what_all_pairs_reach(kind, a, b):
    bound = elementwise_interval(kind, a, b)
    for c in range(3):
        pairs = itertools.product(range(a.lo[c], a.hi[c] + 1), range(b.lo[c], b.hi[c] + 1))
        found = [int(FUNCTIONS[kind](x, y)) for x, y in pairs]
        assert (bound.lo[c], bound.hi[c]) == (min(found), max(found))
        assert bound.partial[c] >= max(map(abs, found))


def test_elementwise_bounds_broadcast():
    bound = elementwise_interval("multiply", Interval(-2, 3), Interval([0, -7], [5, 1]))
    assert (bound.lo.tolist(), bound.hi.tolist()) == ([-10, -21], [15, 14])


@given(st.lists(intervals(3), min_size=1, max_size=4))
def test_a_cover_is_the_smallest_interval_around_all(xs):
    cover = cover_intervals(xs)
    assert all(cover.contains(draw_inside(x, 20)) for x in xs)
    for c in range(3):
        assert cover.lo[c] == min(x.lo[c] for x in xs)
        assert cover.hi[c] == max(x.hi[c] for x in xs)
        assert cover.partial[c] == max(x.partial[c] for x in xs)


@given(
    intervals(3, 2**20),
    integer_arrays((3,), 128, 255),
    integer_arrays((3,), -3, 30),
    integer_arrays((3,), 0, 5000),
)
def test_relu_and_rescale_follow_the_integers(x, scale, shift, max_value):
    limited = x.relu(max_value)
    result = limited.rescaled(scale, shift, -128, 127)
    acc = np.concatenate([draw_inside(x, 50), x.lo[None].astype(int), x.hi[None].astype(int)])
    clipped = np.clip(acc, 0, max_value)
    assert limited.contains(clipped)
    assert limited.times(scale).contains(clipped * scale)
    y = saturate(shift_round(clipped * scale, shift), -128, 127)
    assert result.contains(y)
    np.testing.assert_array_equal(result.lo, y.min(axis=0))
    np.testing.assert_array_equal(result.hi, y.max(axis=0))


def test_formats_and_alignment():
    x = Interval.of_format(Format(8, False, [0, 3]))
    assert (int(x.lo), int(x.hi)) == (0, 255)
    assert x.shifted([3, 0]).hi.tolist() == [255 << 3, 255]
    assert x.shifted(None) is x


def test_concatenation():
    joined = join_intervals([Interval(0, 255), Interval([-4, 0], [3, 1])], [1, 2])
    assert (joined.lo.tolist(), joined.hi.tolist()) == ([0, -4, 0], [255, 3, 1])


def test_bounds_beyond_64_bits_are_exact():
    """A bound that overflowed would prove nothing."""
    x = Interval(-(2**90), 2**90)
    bound = dense_interval(x, np.full((1000, 1), 127))
    assert bound.hi.tolist() == [127_000 * 2**90]
    wide = np.full((1000, 1), 2**40)
    assert dense_interval(Interval(0, 2**31), wide).hi.tolist() == [1000 * 2**71]


@pytest.mark.parametrize(
    ("bound", "expected"),
    [(2**24 - 1, "float32"), (2**24, "float64"), (2**53 - 1, "float64")],
)
def test_carrier(bound, expected):
    assert carrier(bound, "conv") == expected
    assert carrier(Interval(0, 1, partial=bound), "conv") == expected


def test_too_wide_an_accumulator_names_the_layer():
    with pytest.raises(AccumulatorTooWide, match=r"'block_3/conv'.* 55 bits"):
        carrier(2**53, "block_3/conv")


def test_the_carrier_bound_is_the_place_where_floats_give_in():
    """One more than the bound is the first integer whose successor float32 cannot hold."""
    exact, lost = np.float32(2**24 - 1) + np.float32(1), np.float32(2**24) + np.float32(1)
    assert int(exact) == 2**24 and int(lost) != 2**24 + 1


@pytest.mark.parametrize("bits", [2, 8, 24, 32, 63])
def test_bits_needed(bits):
    ends = Interval([-(2 ** (bits - 1)), 0, -(2 ** (bits - 1)) - 1], [0, 2 ** (bits - 1) - 1, 0])
    assert bits_needed(ends).tolist() == [bits, bits, bits + 1]


def test_zero_needs_one_bit():
    assert bits_needed(Interval(0, 0)).tolist() == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: Interval(1, 0),
        lambda: Interval(0, 1).times(-1),
        lambda: dense_interval(Interval([0, 0], [1, 1]), np.ones((3, 2), int)),
        lambda: dense_interval(Interval(0, 1), np.full((3, 2), 2**61)),
    ],
)
def test_misuse_is_refused(call):
    with pytest.raises(QuantizationError):
        call()


def test_only_integers_have_bounds():
    with pytest.raises(TypeError, match="bounds are integers"):
        Interval(0.5, 1)
