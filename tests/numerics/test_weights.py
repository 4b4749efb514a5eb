"""Weights: steps on the grid, nothing saturates, channels stay where they are."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import exact_half_up, float32_weights

from quantkeras.errors import NonFiniteError, QuantizationError
from quantkeras.numerics import scale_to_grid, weights
from quantkeras.numerics.weights import grid_value, raw_steps, search_steps, steps_on_grid

positive = st.floats(2.0**-60, 2.0**60, width=32)


def previous_on_grid(s: int, k: int, scale_bits: int) -> Fraction:
    """The next smaller number of the grid."""
    if s > 2 ** (scale_bits - 1):
        return Fraction(s - 1) / Fraction(2) ** k
    return Fraction(2**scale_bits - 1) / Fraction(2) ** (k + 1)


@given(positive, st.integers(2, 16))
def test_steps_are_rounded_up_to_the_next_of_the_grid(raw, scale_bits):
    s, k = (int(part) for part in steps_on_grid(raw, scale_bits))
    assert 2 ** (scale_bits - 1) <= s < 2**scale_bits
    assert previous_on_grid(s, k, scale_bits) < Fraction(raw) <= Fraction(s) / Fraction(2) ** k


@given(positive, st.integers(1, 16))
def test_given_scales_go_to_the_nearest_of_the_grid(x, scale_bits):
    s, k = (int(part) for part in scale_to_grid(x, scale_bits))
    assert 2 ** (scale_bits - 1) <= s < 2**scale_bits
    spacing = Fraction(1) / Fraction(2) ** k
    below = spacing / 2 if s == 2 ** (scale_bits - 1) else spacing
    assert -below / 2 <= Fraction(x) - s * spacing < spacing / 2


@pytest.mark.parametrize("exponent", [-30, -7, 0, 1, 20])
@pytest.mark.parametrize("to_grid", [steps_on_grid, scale_to_grid])
def test_a_power_of_two_is_exact(to_grid, exponent):
    s, k = to_grid(2.0**exponent, 8)
    assert (int(s), int(k)) == (128, 7 - exponent)


def test_just_below_a_power_of_two_joins_the_next_octave():
    assert [int(part) for part in steps_on_grid(255.5)] == [128, -1]
    assert [int(part) for part in scale_to_grid(255.5)] == [128, -1]
    assert [int(part) for part in scale_to_grid(255.4)] == [255, 0]


@given(float32_weights((3, 2, 4)), st.integers(2, 16), st.integers(2, 16))
def test_no_weight_saturates(w, bits, scale_bits):
    s, k = steps_on_grid(raw_steps(w, bits), scale_bits)
    quotients = w / grid_value(s, k)
    unclipped = [exact_half_up(Fraction(float(q))) for q in quotients.reshape(-1)]
    assert max(map(abs, unclipped)) <= 2 ** (bits - 1) - 1


@given(float32_weights((2, 3, 4)))
@pytest.mark.parametrize("search", [False, True])
def test_channels_are_independent(search, w):
    w = w + np.float32(128.0)  # no dead channel: those borrow from the others
    find = search_steps if search else lambda w, bits: steps_on_grid(raw_steps(w, bits))
    s, k = find(w, 8)
    assert s.shape == k.shape == (4,)
    for c in range(4):
        alone = find(w[..., c : c + 1], 8)
        assert [part.tolist() for part in alone] == [[s[c]], [k[c]]]


def test_float32_arithmetic_alone_gives_the_same_bits():
    """The documented recipe, without frexp or float64: what another array library would do."""
    powers = np.ldexp(np.float32(1), np.arange(-126, 127)).astype(np.float32)
    w = np.random.default_rng(1).normal(size=(9, 400)).astype(np.float32)
    w *= np.ldexp(np.float32(1), np.arange(400) % 30 - 15).astype(np.float32)
    raw = np.abs(w).max(axis=0) / np.float32(127)
    octave = powers[np.searchsorted(powers, raw, side="right") - 1]
    step = np.ceil(raw / octave * np.float32(128)) / np.float32(128) * octave
    assert step.dtype == np.float32
    np.testing.assert_array_equal(grid_value(*steps_on_grid(raw_steps(w, 8))), step)


def test_channels_of_zeros_borrow_the_largest_step():
    steps = raw_steps(np.array([[0.0, 1.27, 12.7], [0.0, 0.5, 0.1]]), 8)
    assert steps[0] == steps[2] > steps[1]
    assert raw_steps(np.zeros((3, 2)), 8).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_non_finite_weights_name_their_channels(bad):
    w = np.ones((2, 2, 6))
    w[0, 1, 4] = bad
    for steps in (raw_steps, search_steps):
        with pytest.raises(NonFiniteError, match=r"channels \[4\]"):
            steps(w, 8)
    with pytest.raises(NonFiniteError, match=r"\[0, 1, 2, 3, 4, 5, 6, 7\] and others"):
        raw_steps(np.full((2, 9), bad), 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: raw_steps([[1.0]], 1), "2 to 16 bits, got 1"),
        (lambda: raw_steps([[1.0]], 17), "2 to 16 bits, got 17"),
        (lambda: steps_on_grid(1.0, 17), "scales have 1 to 16 bits"),
        (lambda: raw_steps([[1e35]], 8), "too large"),
        (lambda: search_steps([[1.0]], 8, factors=[1.5]), "factors"),
        (lambda: scale_to_grid(0.0), "above 0"),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(QuantizationError, match=message):
        call()


def squared_error(w: np.ndarray, bits: int, steps: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Per channel of the last axis, of weights rounded to these steps."""
    step, qmax = grid_value(*steps), 2 ** (bits - 1) - 1
    integers = np.clip(np.floor(w / step + np.float32(0.5)), -qmax, qmax)
    return ((integers * step.astype(np.float64) - w) ** 2).sum(axis=0)


def both_errors(w: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """With steps that cover the largest weight, and with those that the search finds."""
    covering = steps_on_grid(raw_steps(w, bits))
    return squared_error(w, bits, covering), squared_error(w, bits, search_steps(w, bits))


@given(float32_weights((12, 3)), st.sampled_from([2, 4, 8]))
def test_the_search_is_never_worse_than_the_range(w, bits):
    covered, searched = both_errors(w, bits)
    assert (searched <= covered * (1 + 1e-6)).all()


def test_the_search_cuts_an_outlier():
    w = np.random.default_rng(2).normal(size=(500, 2)).astype(np.float32)
    w[0, 0] = 8.0
    covered, searched = both_errors(w, 4)
    assert searched[0] < 0.6 * covered[0]


def test_the_search_finds_the_best_of_its_candidates():
    """Against the plain definition, one channel and one factor at a time."""
    w = np.random.default_rng(3).laplace(size=(40, 5)).astype(np.float32)
    factors = (1.0, 0.8, 0.6, 0.4)
    s, k = search_steps(w, 3, factors=factors)
    for c in range(5):
        steps = [grid_value(*steps_on_grid(raw_steps(w[:, c : c + 1], 3, f))) for f in factors]
        errors = [
            ((np.clip(np.floor(w[:, c] / t + 0.5), -3, 3) * t - w[:, c]) ** 2).sum() for t in steps
        ]
        assert grid_value(s, k)[c] == steps[int(np.argmin(errors))]


def test_the_search_does_not_depend_on_its_blocks(monkeypatch):
    w = np.random.default_rng(4).normal(size=(50, 7)).astype(np.float32)
    whole = search_steps(w, 4)
    monkeypatch.setattr(weights, "_BLOCK", 120)
    np.testing.assert_array_equal(whole, search_steps(w, 4))
