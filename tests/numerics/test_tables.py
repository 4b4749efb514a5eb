"""Look-up tables agree with the function, rounded once."""

from fractions import Fraction

import numpy as np
import pytest
from strategies import exact_half_up

from quantkeras.errors import NonFiniteError, QuantizationError
from quantkeras.numerics import Format, build_table, look_up


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("bits", [2, 8, 11])
@pytest.mark.parametrize("signed", [True, False])
def test_every_entry_is_the_rounded_function(bits, signed):
    entry, result = Format(bits, signed, 4), Format(8, False, 8)
    table = build_table(sigmoid, entry, result)
    assert table.shape == (2**bits,)
    for i, y in enumerate(table.tolist()):
        value = Fraction(float(sigmoid(np.float64((i + entry.qmin) / 16))))
        assert y == min(exact_half_up(value * 256), 255)


def test_ties_go_up():
    table = build_table(lambda x: x, Format(4, True, 1), Format(4, True, 0))
    assert table.tolist() == [-4, -3, -3, -2, -2, -1, -1, 0, 0, 1, 1, 2, 2, 3, 3, 4]


def test_look_up():
    entry = Format(8, True, 4)
    table = build_table(np.abs, entry, Format(8, False, 4))
    x = np.arange(-128, 128).reshape(2, 16, 8)
    np.testing.assert_array_equal(look_up(table, x, entry.qmin), np.abs(x))
    with pytest.raises(QuantizationError, match=r"outside a table for -128 \.\. 127"):
        look_up(table, [128], entry.qmin)


@pytest.mark.parametrize(
    ("entry_frac", "result_frac"), [([0, 3], [2, 1]), (3, [2, 1]), ([0, 3], 2)]
)
def test_tables_per_channel(entry_frac, result_frac):
    entry, result = Format(6, True, entry_frac), Format(8, True, result_frac)
    table = build_table(np.tanh, entry, result)
    assert table.shape == (64, 2)
    x = np.random.default_rng(0).integers(-32, 32, (5, 3, 2))
    expected = result.quantize(np.tanh(entry.dequantize(x).astype(np.float64)))
    np.testing.assert_array_equal(look_up(table, x, entry.qmin), expected)


@pytest.mark.parametrize(
    ("function", "entry", "error", "message"),
    [
        (np.tanh, Format(17, True, 0), QuantizationError, "17 bits is too large"),
        (np.tanh, Format(8, True, [[0, 1], [2, 3]]), QuantizationError, "per channel"),
        (np.sum, Format(8, True, 0), QuantizationError, "element-wise"),
        (lambda x: np.where(x == 3, np.nan, x), Format(8, True, 0), NonFiniteError, "at 3"),
    ],
)
def test_what_cannot_be_tabulated(function, entry, error, message):
    with pytest.raises(error, match=message):
        build_table(function, entry, Format(8, True, 0))
