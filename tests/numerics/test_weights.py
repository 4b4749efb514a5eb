"""Weights: steps on the grid, nothing saturates, channels stay where they are."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import exact_half_up, float32_weights

from quantkeras.errors import NonFiniteError, QuantizationError
from quantkeras.numerics import quantize_weights, scale_to_grid, weights
from quantkeras.numerics.weights import (
    CHANNEL_AXES,
    grid_value,
    raw_steps,
    round_weights,
    search_steps,
    step_for_bias,
    steps_on_grid,
)

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
    integers = round_weights(w, s, k, bits)
    assert integers.reshape(-1).tolist() == unclipped


@given(float32_weights((3, 2, 4)), st.integers(2, 8))
def test_weights_are_within_half_a_step(w, bits):
    integers, s, k = quantize_weights(w, bits)
    step = grid_value(s, k).astype(np.float64)
    assert (np.abs(integers * step - w) <= step / 2 * (1 + 2**-20)).all()


@given(float32_weights((2, 2, 3, 2)), st.sampled_from([(3,), (2,), (2, 3), (3, 2), (-1,)]))
def test_channels_are_independent(w, axes):
    w = w + np.float32(1.0)  # no dead channel: those borrow from the others
    integers, s, k = quantize_weights(w, 8, axes)
    assert integers.shape == w.shape
    moved = np.moveaxis(w, axes, range(len(axes)))
    moved_integers = np.moveaxis(integers, axes, range(len(axes)))
    rows = moved.reshape(s.size, -1)
    for c, (row, row_integers) in enumerate(
        zip(rows, moved_integers.reshape(s.size, -1), strict=True)
    ):
        alone = quantize_weights(row, 8, ())
        assert (int(alone.s), int(alone.k)) == (s[c], k[c])
        np.testing.assert_array_equal(alone.values, row_integers)


@pytest.mark.parametrize(
    ("kind", "shape", "channels"),
    [
        ("conv2d", (3, 3, 5, 7), 7),
        ("depthwise_conv2d", (3, 3, 5, 2), 10),
        ("conv2d_transpose", (3, 3, 7, 5), 7),
        ("dense", (5, 7), 7),
    ],
)
@pytest.mark.parametrize("method", ["max", "mse"])
def test_channels_of_every_kind(kind, shape, channels, method):
    w = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    integers, s, k = quantize_weights(w, 4, CHANNEL_AXES[kind], method=method)
    assert (integers.shape, s.shape, k.shape) == (shape, (channels,), (channels,))
    assert quantize_weights(w, 4, (), method=method).s.shape == ()


def test_float32_arithmetic_alone_gives_the_same_bits():
    """The documented recipe, without frexp or float64: what another array library would do."""
    powers = np.ldexp(np.float32(1), np.arange(-126, 127)).astype(np.float32)
    w = np.random.default_rng(1).normal(size=(9, 400)).astype(np.float32)
    w *= np.ldexp(np.float32(1), np.arange(400) % 30 - 15).astype(np.float32)
    raw = np.abs(w).max(axis=0) / np.float32(127)
    octave = powers[np.searchsorted(powers, raw, side="right") - 1]
    step = np.ceil(raw / octave * np.float32(128)) / np.float32(128) * octave
    q = w / step
    below = np.floor(q)
    expected = below + (q - below >= np.float32(0.5))
    assert step.dtype == expected.dtype == np.float32
    integers, s, k = quantize_weights(w, 8)
    np.testing.assert_array_equal(grid_value(s, k), step)
    np.testing.assert_array_equal(integers, expected)


def test_channels_of_zeros_borrow_the_largest_step():
    w = np.array([[0.0, 1.27, 12.7], [0.0, 0.5, 0.1]])
    integers, s, k = quantize_weights(w, 8)
    assert (s[0], k[0]) == (s[2], k[2])
    assert integers[:, 0].tolist() == [0, 0]
    nothing = quantize_weights(np.zeros((3, 2)), 8)
    assert grid_value(nothing.s, nothing.k).tolist() == [1.0, 1.0]


def test_min_step_keeps_the_bias_of_a_faint_channel_in_its_register():
    w, bias, lsb = np.array([[1e-9, 1.0], [0.0, 1.0]]), np.array([0.5, 0.25]), 2.0**-6
    alone = quantize_weights(w, 8)
    assert 0.5 / (grid_value(alone.s, alone.k)[0] * lsb) > 2**31
    _, s, k = quantize_weights(w, 8, min_step=step_for_bias(bias, lsb, bits=24))
    integers = bias / (grid_value(s, k).astype(np.float64) * lsb)
    assert (integers < 2**23).all() and integers[0] > 2**21


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_non_finite_weights_name_their_channels(bad):
    w = np.ones((2, 2, 3, 2))
    w[0, 1, 2, 0] = bad
    with pytest.raises(NonFiniteError, match=r"channels \[4\]"):
        quantize_weights(w, 8, (2, 3))
    with pytest.raises(NonFiniteError, match=r"\[0, 1, 2, 3, 4, 5, 6, 7\] and others"):
        quantize_weights(np.full((2, 9), bad), 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quantize_weights([[1.0]], 1), "2 to 16 bits, got 1"),
        (lambda: quantize_weights([[1.0]], 17), "2 to 16 bits, got 17"),
        (lambda: quantize_weights([[1.0]], 8, scale_bits=17), "scales have 1 to 16 bits"),
        (lambda: quantize_weights([[1.0]], 8, method="best"), "use 'max' or 'mse'"),
        (lambda: quantize_weights([[1e35]], 8), "too large"),
        (lambda: search_steps([[1.0]], 8, factors=[1.5]), "factors"),
        (lambda: scale_to_grid(0.0), "above 0"),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(QuantizationError, match=message):
        call()


def squared_error(w: np.ndarray, bits: int, method: str) -> np.ndarray:
    """Per channel of the last axis."""
    integers, s, k = quantize_weights(w, bits, method=method)
    return ((integers * grid_value(s, k).astype(np.float64) - w) ** 2).sum(axis=0)


@given(float32_weights((12, 3)), st.sampled_from([2, 4, 8]))
def test_the_search_is_never_worse_than_the_range(w, bits):
    assert (squared_error(w, bits, "mse") <= squared_error(w, bits, "max") * (1 + 1e-6)).all()


def test_the_search_cuts_an_outlier():
    w = np.random.default_rng(2).normal(size=(500, 2)).astype(np.float32)
    w[0, 0] = 8.0
    covered, searched = squared_error(w, 4, "max"), squared_error(w, 4, "mse")
    assert searched[0] < 0.6 * covered[0]


def test_the_search_finds_the_best_of_its_candidates():
    """Against the plain definition, one channel and one factor at a time."""
    w = np.random.default_rng(3).laplace(size=(40, 5)).astype(np.float32)
    factors = (1.0, 0.8, 0.6, 0.4)
    s, k = search_steps(w, 3, factors=factors)
    for c in range(5):
        steps = [grid_value(*steps_on_grid(raw_steps(w[:, c], 3, (), factor=f))) for f in factors]
        errors = [
            ((np.clip(np.floor(w[:, c] / t + 0.5), -3, 3) * t - w[:, c]) ** 2).sum() for t in steps
        ]
        assert grid_value(s, k)[c] == steps[int(np.argmin(errors))]


def test_the_search_does_not_depend_on_its_blocks(monkeypatch):
    w = np.random.default_rng(4).normal(size=(50, 7)).astype(np.float32)
    whole = search_steps(w, 4)
    monkeypatch.setattr(weights, "_BLOCK", 120)
    np.testing.assert_array_equal(whole, search_steps(w, 4))
