"""Rounding and shifting agree with exact rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import exact_half_up, finite_floats, int64s

from quantkeras.errors import IntegerOverflow, NonFiniteError, QuantizationError
from quantkeras.numerics import ceil_log2, pow2, round_half_up, saturate, shift_round


def test_truth_table_of_half_up():
    x = [-2.5, -1.5, -0.5, 0.49999999999999994, 0.5, 1.5, 2.5, -0.49999999999999994, -0.0]
    assert round_half_up(x).tolist() == [-2, -1, 0, 0, 1, 2, 3, 0, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_eighth_of_a_small_range(dtype):
    eighths = np.arange(-1000, 1001)
    expected = [exact_half_up(Fraction(int(n), 8)) for n in eighths]
    rounded = round_half_up((eighths / 8).astype(dtype))
    assert rounded.dtype == dtype
    assert rounded.tolist() == expected


@given(finite_floats())
def test_float64_half_up_is_exact(x):
    assert Fraction(float(round_half_up(x))) == exact_half_up(Fraction(x))


@given(finite_floats(width=32))
def test_float32_half_up_is_exact(x):
    assert Fraction(float(round_half_up(np.float32(x)))) == exact_half_up(Fraction(x))


def test_large_odd_numbers_keep_their_value():
    odd = np.array([2.0**52 + 1, 2.0**53 - 1, -(2.0**52) - 1])
    np.testing.assert_array_equal(round_half_up(odd), odd)
    odd32 = np.array([2.0**23 + 1, 2.0**24 - 1], dtype=np.float32)
    np.testing.assert_array_equal(round_half_up(odd32), odd32)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_numbers_are_refused(bad):
    with pytest.raises(NonFiniteError, match="1 NaN or infinite elements of 3"):
        round_half_up([1.0, bad, 2.0])


def test_a_finite_sum_beyond_the_largest_float_is_no_infinity():
    assert round_half_up([1e308, 1e308]).tolist() == [1e308, 1e308]


def test_shift_round_exhaustively_for_small_widths():
    values = np.arange(-(2**9), 2**9)
    for n in range(-4, 12):
        expected = [exact_half_up(Fraction(int(v)) / Fraction(2) ** n) for v in values]
        assert shift_round(values, n).tolist() == expected


def test_shift_round_is_the_published_equation():
    values = np.arange(-5000, 5000)
    for n in range(1, 14):
        np.testing.assert_array_equal(shift_round(values, n), (values + 2 ** (n - 1)) >> n)


@given(int64s(), st.integers(-70, 140))
def test_shift_round_is_exact_or_refused(v, n):
    exact = exact_half_up(Fraction(v) / Fraction(2) ** n)
    if -(2**63) <= exact < 2**63:
        assert int(shift_round(v, n)) == exact
    else:
        with pytest.raises(IntegerOverflow, match=f"{v}.*64-bit"):
            shift_round(v, n)


@given(st.lists(st.tuples(int64s(40), st.integers(-20, 80)), min_size=1, max_size=9))
def test_shifts_per_channel_are_the_scalar_ones(pairs):
    v, n = (np.array(column) for column in zip(*pairs, strict=True))
    together = shift_round(np.stack([v, v]), n)
    assert together.tolist() == [[int(shift_round(a, b)) for a, b in pairs]] * 2


def test_shifts_broadcast_and_empty_arrays_pass():
    assert shift_round(np.zeros((2, 3, 4), np.int8), np.arange(4)).shape == (2, 3, 4)
    assert shift_round(np.zeros((0, 4), np.int64), np.arange(4)).shape == (0, 4)


def test_integers_are_required():
    with pytest.raises(TypeError, match="must be integers"):
        shift_round([1.0], 1)
    with pytest.raises(TypeError, match="shifts must be integers"):
        shift_round([1], 1.0)
    with pytest.raises(IntegerOverflow):
        shift_round(np.uint64(2**63), 1)


def test_saturate():
    assert saturate([-300, -128, 0, 127, 300], -128, 127).tolist() == [-128, -128, 0, 127, 127]
    assert saturate([[5, 5]], [0, 0], [3, 9]).tolist() == [[3, 5]]
    with pytest.raises(QuantizationError, match="empty range"):
        saturate([0], 1, 0)


def test_pow2_is_exact_over_its_range():
    n = np.arange(-1022, 1024)
    assert all(Fraction(float(p)) == Fraction(2) ** int(e) for p, e in zip(pow2(n), n, strict=True))
    for outside in (-1023, 1024):
        with pytest.raises(QuantizationError, match="-1022 <= n <= 1023"):
            pow2(outside)


@given(finite_floats())
def test_logarithms_are_exact(x):
    assume(x > 0)
    up = int(ceil_log2(x))
    assert Fraction(2) ** (up - 1) < Fraction(x) <= Fraction(2) ** up


@pytest.mark.parametrize("x", [0.0, -1.0])
def test_logarithms_need_positive_numbers(x):
    with pytest.raises(QuantizationError, match="above 0"):
        ceil_log2([1.0, x])
