"""Data that are prepared in another way than the calibration samples were."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from quantkeras.errors import QuantizationError
from quantkeras.numerics import Format
from quantkeras.runtime import ProgramInput
from quantkeras.runtime.fed import check_fed

PIXELS = ProgramInput("x", (4, 4, 3), Format(8, False, np.array(0)))
UNIT = ProgramInput("x", (4, 4, 3), Format(8, False, np.array(8)))
SIGNED = ProgramInput("x", (4, 4, 3), Format(8, True, np.array(6)))
FAR = ProgramInput(
    "x", (4, 4, 3), Format(8, True, np.array(5)), None, np.array([300.0], np.float32)
)
NARROW = ProgramInput("x", (4, 4, 3), Format(3, False, np.array(3)))


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    """Of this module."""
    return np.random.default_rng(0)


def check(entry: ProgramInput, array: np.ndarray) -> None:
    check_fed([entry], {"x": np.asarray(array)}, set())


def images(rng: np.random.Generator, dtype: str = "uint8") -> np.ndarray:
    return rng.integers(0, 256, (8, 4, 4, 3)).astype(dtype)


def test_what_is_right_is_not_told(rng) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for dtype in ("uint8", "float32", "float64", "int64"):
            check(PIXELS, images(rng, dtype))
        check(PIXELS, images(rng) * np.float32(0.97))  # resized: fractions of any size
        check(PIXELS, images(rng) // 200)  # nearly black
        check(PIXELS, np.zeros((1, 4, 4, 3), np.float32))
        check(PIXELS, np.ones((2, 4, 4, 3), bool))
        check(UNIT, images(rng) / 255)
        check(UNIT, images(rng) / 255 * 1.3)  # somewhat brighter than the samples
        check(UNIT, np.float32(0.05) * rng.random((2, 4, 4, 3)))
        check(NARROW, rng.random((8, 4, 4, 3)) * 1.1)
        check(SIGNED, rng.normal(0, 0.9, (8, 4, 4, 3)))  # a tail beyond +-2
        outliers = rng.normal(0, 0.5, (8, 4, 4, 3))
        outliers[0] *= 1000
        check(SIGNED, outliers)
        check(FAR, rng.normal(300, 1, (8, 4, 4, 3)))


@pytest.mark.parametrize("scale, shift", [(1 / 255, 0.0), (2 / 255, -1.0), (4.5 / 255, -2.1)])
def test_fractions_that_integers_cannot_hold_are_an_error(rng, scale, shift) -> None:
    prepared = (images(rng) * scale + shift).astype(np.float32)
    with pytest.raises(QuantizationError, match=r"'x'.*float32 numbers from .* integers from 0 to"):
        check(PIXELS, prepared)


def test_another_scale_is_a_warning(rng) -> None:
    floats = ProgramInput("x", (4, 4, 3), Format(8, False, np.array(-1)))  # 0..510 in steps of 2
    wrong = [
        (UNIT, images(rng)),
        (UNIT, np.where(images(rng) < 200, 0, images(rng))),  # mostly black
        (UNIT, images(rng) / 127.5 - 1),
        (SIGNED, images(rng, "float32")),
        (floats, images(rng) / 255),
        (FAR, images(rng) / 255),
        (PIXELS, images(rng).astype("int16") * 16),
    ]
    for entry, array in wrong:
        with pytest.warns(UserWarning, match="input 'x' is fed .* calibrated for .* as the calib"):
            check(entry, array)


def test_it_is_told_once(rng) -> None:
    told: set[str] = set()
    with pytest.warns(UserWarning) as found:
        for _ in range(3):
            check_fed([UNIT], {"x": images(rng)}, told)
    assert len(found) == 1
