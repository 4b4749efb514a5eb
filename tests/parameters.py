"""Parameters of tests of which the quick suite runs only some."""

from typing import Any

import pytest


def slow(*values: Any) -> list[Any]:
    """Each a parameter that makes its test slow: ``parametrize("x", ["one", *slow("other")])``."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def slow_rows(*rows: tuple[Any, ...]) -> list[Any]:
    """The same where the test has several parameters: a row holds a value for each."""
    return [pytest.param(*row, marks=pytest.mark.slow) for row in rows]
