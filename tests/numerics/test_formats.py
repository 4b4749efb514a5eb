"""Formats: ranges, numbers in and out, and their way through movements of data."""

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import exact_half_up, finite_floats, formats

from quantkeras.errors import FormatError, NonFiniteError, QuantizationError
from quantkeras.numerics import Format


@pytest.mark.parametrize(
    ("bits", "signed", "qmin", "qmax"),
    [(2, True, -2, 1), (8, True, -128, 127), (8, False, 0, 255), (32, False, 0, 2**32 - 1)],
)
def test_limits(bits, signed, qmin, qmax):
    fmt = Format(bits, signed, 3)
    assert (fmt.qmin, fmt.qmax, float(fmt.lsb)) == (qmin, qmax, 0.125)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8, 16, 32])
def test_small_and_large_ranges_get_the_same_resolution(bits, signed):
    """Fractional bits are never clamped: 0.001 is held as finely as 100, relative to its size."""
    for max_abs in (1e-12, 0.001, 0.3, 1.0, 1.5, 100.0, 3e7):
        fmt = Format.for_range(max_abs, bits, signed)
        top = Fraction(float(fmt.lsb)) * 2**fmt.value_bits
        assert top / 2 < Fraction(max_abs) <= top


def test_zero_range_takes_the_largest_of_the_others():
    assert Format.for_range([0.0, 4.0, 0.5], 8, True).frac.tolist() == [5, 5, 8]
    assert Format.for_range([0.0, 1e-45], 8, False).frac.tolist() == [8, 8]
    assert Format.for_range(0.0, 8, True) == Format.for_range(1.0, 8, True)


@pytest.mark.parametrize(
    ("ranges", "error", "message"),
    [
        ([-1.0], QuantizationError, ">= 0"),
        ([np.nan], NonFiniteError, "ranges"),
        ([1e300], QuantizationError, "too large"),
    ],
)
def test_bad_ranges_are_refused(ranges, error, message):
    with pytest.raises(error, match=message):
        Format.for_range(ranges, 8, True)


@pytest.mark.parametrize(
    ("bits", "frac", "message"),
    [(1, 0, "2 to 32 bits"), (33, 0, "2 to 32"), (8, 127, "float32"), (8, -121, "float32")],
)
def test_impossible_formats_are_refused(bits, frac, message):
    with pytest.raises(FormatError, match=message):
        Format(bits, True, frac)


def test_fractional_bits_are_integers_and_read_only():
    with pytest.raises(TypeError, match="fractional bits must be integers"):
        Format(8, True, 1.0)
    given_frac = np.array([1, 2])
    fmt = Format(8, True, given_frac)
    given_frac[0] = 7
    assert fmt.frac.tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        fmt.frac[0] = 0


@given(formats(max_bits=32), st.lists(finite_floats(), min_size=1, max_size=5))
def test_quantize_is_the_saturated_exact_half_up(fmt, xs):
    step = Fraction(2) ** -int(fmt.frac)
    expected = [min(max(exact_half_up(Fraction(x) / step), fmt.qmin), fmt.qmax) for x in xs]
    assert fmt.quantize(xs).tolist() == expected


@given(formats(channels=3), st.data())
def test_values_of_a_format_survive_the_way_through_float32(fmt, data):
    integers = data.draw(
        st.lists(st.integers(fmt.qmin, fmt.qmax), min_size=3, max_size=3).map(np.array)
    )
    values = fmt.dequantize(integers)
    assert values.dtype == np.float32
    for value, integer, frac in zip(values, integers, fmt.frac, strict=True):
        assert Fraction(float(value)) == int(integer) * Fraction(2) ** -int(frac)
    np.testing.assert_array_equal(fmt.quantize(values), integers)


def test_wide_formats_dequantize_to_float64():
    fmt = Format(32, False, 7)
    assert fmt.dequantize([2**32 - 1]).tolist() == [(2**32 - 1) / 128]


def test_dequantize_checks_the_range():
    with pytest.raises(QuantizationError, match=r"do not fit uint8\.4: 0 \.\. 255"):
        Format(8, False, 4).dequantize([256])


@given(st.one_of(formats(), formats(channels=4)))
def test_config_round_trip(fmt):
    again = Format.from_config(json.loads(json.dumps(fmt.to_config())))
    assert again == fmt and hash(again) == hash(fmt)


def test_equality_needs_every_part():
    fmt = Format(8, True, [1, 2])
    others = [Format(7, True, [1, 2]), Format(8, False, [1, 2]), Format(8, True, [1, 3]), 8]
    assert all(fmt != other for other in others)
    assert Format(8, True, [2, 2]) != Format(8, True, 2) == Format(8, True, [2, 2]).compact()


def test_misfits_are_format_errors():
    with pytest.raises(FormatError):
        Format(8, True, [0, 3, -2, 5]).broadcast_to((3,))


def test_text_form():
    assert str(Format(8, True, 5)) == "int8.5"
    assert str(Format(8, True, [0, 3, -2, 5])) == "int8.-2..5"
