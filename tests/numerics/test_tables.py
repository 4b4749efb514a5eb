"""Look-ups in tables, by tensor and by channel."""

import numpy as np
import pytest

from quantkeras.errors import QuantizationError
from quantkeras.numerics import look_up


def test_look_up(rng):
    table = rng.integers(0, 256, 256)
    x = np.arange(-128, 128).reshape(2, 16, 8)
    np.testing.assert_array_equal(look_up(table, x, -128), table.reshape(2, 16, 8))
    for outside in (-129, 128):
        with pytest.raises(QuantizationError, match=r"outside a table for -128 \.\. 127"):
            look_up(table, [outside], -128)


def test_tables_per_channel(rng):
    table, x = rng.integers(-9, 9, (64, 2)), rng.integers(-32, 32, (5, 3, 2))
    found = look_up(table, x, -32)
    for channel in range(2):
        expected = look_up(table[:, channel], x[..., channel], -32)
        np.testing.assert_array_equal(found[..., channel], expected)
