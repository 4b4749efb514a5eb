"""FixedPoint: exact arithmetic whose register widths follow from the types alone."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import exact_half_up, finite_floats

from quantkeras import FixedPoint
from quantkeras.errors import FormatError, IntegerOverflow, NonFiniteError
from quantkeras.numerics import Format


@pytest.mark.parametrize(
    ("frac", "integer", "value"), [(1, 6, 3.0), (3, 25, 3.125), (6, 201, 3.140625)]
)
def test_pi_with_eight_bits(frac, integer, value):
    pi = FixedPoint.quantize(np.pi, bits=8, frac=frac, signed=False)
    assert (int(pi.values), float(pi.to_float())) == (integer, value)


def exact(x: FixedPoint) -> list[Fraction]:
    """The numbers, in rational arithmetic."""
    frac = np.broadcast_to(x.frac, x.shape).reshape(-1)
    return [
        Fraction(int(v)) / Fraction(2) ** int(f)
        for v, f in zip(x.values.reshape(-1), frac, strict=True)
    ]


@st.composite
def fixed_points(draw: st.DrawFn, size: int = 3, max_bits: int = 14) -> FixedPoint:
    """Arrays (size,) with the ends of their range likely, per tensor or per channel."""
    signed = draw(st.booleans())
    bits = draw(st.integers(2, max_bits))
    value_bits = bits - signed
    low, high = (-(2**value_bits) if signed else 0), 2**value_bits - 1
    number = st.one_of(st.integers(low, high), st.sampled_from([low, high]))
    values = draw(st.lists(number, min_size=size, max_size=size))
    fracs = st.integers(-6, 9)
    frac = draw(st.one_of(fracs, st.lists(fracs, min_size=size, max_size=size)))
    return FixedPoint(np.array(values), frac, bits, signed)


@given(fixed_points(), fixed_points())
def test_arithmetic_is_exact_and_fits_its_type(a, b):
    """The constructor checks the range, so a result that exists is inside its type."""
    pairs = list(zip(exact(a), exact(b), strict=True))
    assert exact(a + b) == [x + y for x, y in pairs]
    assert exact(a - b) == [x - y for x, y in pairs]
    assert exact(a * b) == [x * y for x, y in pairs]
    assert exact(-a) == [-x for x, _ in pairs]


@given(fixed_points(), fixed_points())
def test_comparison_is_that_of_the_numbers(a, b):
    pairs = list(zip(exact(a), exact(b), strict=True))
    assert (a == b).tolist() == [x == y for x, y in pairs]
    assert (a != b).tolist() == [x != y for x, y in pairs]
    assert (a < b).tolist() == [x < y for x, y in pairs]
    assert (a <= b).tolist() == [x <= y for x, y in pairs]
    assert (a > b).tolist() == [x > y for x, y in pairs]
    assert (a >= b).tolist() == [x >= y for x, y in pairs]


@pytest.mark.parametrize("signed_a", [True, False])
@pytest.mark.parametrize("signed_b", [True, False])
@pytest.mark.parametrize("bits", [2, 5])
def test_results_are_no_wider_than_the_worst_case(signed_a, signed_b, bits):
    """One bit less would not hold what the ends of the operands' types give."""
    types = Format(bits, signed_a, 0), Format(bits, signed_b, 0)
    pairs = [(a, b) for a in (types[0].qmin, types[0].qmax) for b in (types[1].qmin, types[1].qmax)]
    left, right = np.array(pairs).T
    a, b = FixedPoint(left, 0, bits, signed_a), FixedPoint(right, 0, bits, signed_b)
    for result in (a + b, a - b, a * b):
        half = 2 ** (result.value_bits - 1)
        assert ((result.values < -half) | (result.values >= half)).any()


@given(fixed_points(), st.integers(-12, 12), st.integers(2, 20), st.booleans())
def test_rescale_rounds_half_up_and_saturates(x, frac, bits, signed):
    target = Format(bits, signed, frac)
    expected = [
        min(max(exact_half_up(v * Fraction(2) ** frac), target.qmin), target.qmax) for v in exact(x)
    ]
    y = x.rescale(frac, bits, signed)
    assert y.values.tolist() == expected
    assert (y.bits, y.signed, int(y.frac)) == (bits, signed, frac)


@given(fixed_points(), st.integers(-5, 5))
def test_shifts_move_the_point(x, n):
    assert exact(x >> n) == [v / Fraction(2) ** n for v in exact(x)]
    assert exact(x << n) == [v * Fraction(2) ** n for v in exact(x)]
    np.testing.assert_array_equal((x << n).values, x.values)


@given(
    st.lists(finite_floats(), min_size=1, max_size=4),
    st.integers(2, 63),
    st.integers(-70, 70),
    st.booleans(),
)
def test_quantize_is_the_saturated_exact_half_up(xs, bits, frac, signed):
    q = FixedPoint.quantize(xs, bits, frac, signed)
    expected = [
        min(max(exact_half_up(Fraction(x) * Fraction(2) ** frac), q.qmin), q.qmax) for x in xs
    ]
    assert q.values.tolist() == expected


@given(st.lists(finite_floats(32), min_size=1, max_size=4), st.integers(2, 16), st.booleans())
def test_automatic_fractional_bits_are_those_of_the_format(xs, bits, signed):
    largest = max(map(abs, xs))
    assume(largest == 0 or 1e-30 < largest < 1e30)
    q = FixedPoint.quantize(xs, bits, signed=signed)
    assert q.format == Format.for_range(largest, bits, signed)


def test_per_channel_quantization():
    x = np.array([[0.001, 100.0], [-0.0007, 30.0]])
    q = FixedPoint.quantize(x, 8, per_channel=True)
    assert q.frac.tolist() == [16, 0]
    assert q.values.tolist() == [[66, 100], [-46, 30]]
    whole = q.per_tensor()
    assert (whole.frac.tolist(), whole.bits) == (16, 24)
    assert (whole == q).all()


def test_alignment_widens_the_coarser_operand_only():
    a, b = FixedPoint([100], 2, 8), FixedPoint([100], 5, 8)
    left, right = a.align(b)
    assert (left.values.tolist(), left.bits) == ([800], 11)
    assert (right.values.tolist(), right.bits) == ([100], 8)


def test_integers_and_numpy_scalars_are_operands():
    x = FixedPoint([3, -5], 1, 8)
    assert (
        exact(x + 2) == exact(2 + x) == exact(np.int64(2) + x) == [Fraction(7, 2), Fraction(-1, 2)]
    )
    assert exact(1 - x) == [Fraction(-1, 2), Fraction(7, 2)]
    assert exact(3 * x) == [Fraction(9, 2), Fraction(-15, 2)]
    assert (x < 0).tolist() == [False, True]
    assert (x == "x") is False


def test_floats_are_refused_as_operands():
    with pytest.raises(TypeError, match="quantize it first"):
        FixedPoint([1], 0, 8) + 0.5


def test_promote():
    x = FixedPoint([-128], 3, 8)
    assert (x.promote(16) == x).all() and x.promote(16).bits == 16
    with pytest.raises(FormatError, match="use rescale"):
        x.promote(7)


def test_saturation_report():
    q = FixedPoint.quantize([[200.0, 1.0], [-200.0, 2.0], [127.0, 3.0]], 8, frac=[0, 0])
    report = q.saturation()
    assert (report.low.tolist(), report.high.tolist(), report.size) == ([1, 0], [2, 0], 3)
    assert report.share.tolist() == [1.0, 0.0]
    assert float(FixedPoint.quantize([3.0, 200.0], 8, frac=0).saturation().share) == 0.5


def test_what_64_bits_cannot_hold_is_refused():
    wide = FixedPoint([2**40], 0, 42)
    with pytest.raises(IntegerOverflow, match="84 bits"):
        wide * wide
    with pytest.raises(IntegerOverflow):
        wide + (wide >> 30)
    full = FixedPoint([-(2**63)], 0, 64)
    for grow in (lambda: full + full, lambda: -full, lambda: full - full, lambda: full + 1):
        with pytest.raises(IntegerOverflow):
            grow()
    with pytest.raises(IntegerOverflow, match=r"do not fit 0 \.\. 255"):
        FixedPoint([-1], 0, 8, signed=False)
    with pytest.raises(IntegerOverflow, match="64-bit"):
        wide.rescale(30, 8)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FixedPoint([0], 0, 1),
        lambda: FixedPoint([0], 0, 0, signed=False),
        lambda: FixedPoint([1, 2], [0, 0, 0], 8),
        lambda: FixedPoint([0], 901, 8),
        lambda: FixedPoint(3, [0], 8),
    ],
)
def test_impossible_types_are_refused(make):
    with pytest.raises(FormatError):
        make()


def test_non_finite_numbers_are_refused():
    with pytest.raises(NonFiniteError):
        FixedPoint.quantize([np.nan], 8)


def test_text_form():
    assert str(FixedPoint(12, 2, 8)) == "FixedPoint int8 frac=2: 3.0"
