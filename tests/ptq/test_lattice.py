"""The search for integers, and the least squares behind it, against brute force."""

from itertools import product

import numpy as np
import pytest

from quantkeras.ptq.lattice import descend, in_sequence, nearest, search
from quantkeras.ptq.least_squares import Problem, RowSums, pose


def problem(k, o, groups=1, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(groups, 40, k)) @ rng.normal(size=(groups, k, k))
    metric = rows.transpose(0, 2, 1) @ rows / 40 + 0.05 * np.eye(k)
    return Problem(metric, rng.normal(size=(groups, k, o)), 0.01)


@pytest.mark.parametrize("seed", range(8))
def test_the_search_comes_near_the_best_of_all_integers(seed):
    posed, step = problem(4, 1, seed=seed), np.full((1, 1, 1), 0.7)
    every = np.array(list(product(range(-3, 4), repeat=4)), float)[:, None, :, None]
    best = min(posed.loss(q * step) for q in every)
    found = search(posed, step, 3, 20)
    assert posed.loss(found * step) <= 1.35 * best
    assert posed.loss(found * step) <= posed.loss(nearest(posed.best, step, 3) * step)


def test_stages_never_make_it_worse_and_stay_in_range():
    posed, step = problem(150, 6, groups=2), np.full((2, 1, 6), 0.4)
    first = nearest(posed.best, step, 7)
    second = in_sequence(posed, step, 7)
    third = descend(posed, second, step, 7, 50)
    losses = [posed.loss(q * step) for q in (first, second, third)]
    assert losses[0] > 1.5 * losses[1] > 1.5 * losses[2] / 1.01
    assert np.abs(third).max() <= 7 and (third == np.round(third)).all()
    # Nothing can be won any more by moving one weight.
    slope = posed.metric @ (posed.best - third * step)
    gain = np.abs(slope) - 0.5 * step * np.einsum("gii->gi", posed.metric)[:, :, None]
    inside = np.abs(third) < 7
    assert np.mean(gain[inside] > 1e-9) < 0.01


def test_groups_are_problems_of_their_own():
    both, step = problem(12, 3, groups=2), np.full((2, 1, 3), 0.5)
    together = search(both, step, 7, 30)
    for g in (0, 1):
        alone = Problem(both.metric[g : g + 1], both.best[g : g + 1], 0.01)
        np.testing.assert_array_equal(together[g : g + 1], search(alone, step[:1], 7, 30))


def summed(x, y, pieces):
    sums = RowSums(1, x.shape[1], y.shape[1])
    for a, b in zip(np.array_split(x, pieces), np.array_split(y, pieces), strict=True):
        sums.add(a[None].astype(np.float32), b[None].astype(np.float32))
    return sums


@pytest.mark.parametrize("pieces", [1, 7])
def test_sums_are_moments_however_they_are_cut(pieces, rng):
    x, y = rng.normal(100, 1, size=(90, 5)), rng.normal(-40, 2, size=(90, 3))
    sums = summed(x, y, pieces)
    (mean_x, mean_y), (h, c) = sums.means(), sums.products(True)
    np.testing.assert_allclose(mean_x[0], x.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(mean_y[0], y.mean(axis=0), rtol=1e-6)
    joint = np.cov(np.concatenate([x, y], axis=1).T, bias=True)
    np.testing.assert_allclose(h[0], joint[:5, :5], atol=2e-5)
    np.testing.assert_allclose(c[0], joint[:5, 5:], atol=2e-5)
    h, c = sums.products(False)
    np.testing.assert_allclose(h[0], x.T @ x / 90, rtol=1e-6)
    np.testing.assert_allclose(c[0], x.T @ y / 90, rtol=1e-6)


def test_weights_leave_the_float_ones_only_for_a_reason(rng):
    weights = rng.normal(size=(6, 4))
    clean = rng.normal(size=(400, 6))
    halved = clean / 2  # what the layer really gets
    parts = [summed(halved[i::2], clean[i::2] @ weights, 3) for i in (0, 1)]
    followed = pose(tuple(parts), weights[None], centred=True)
    assert followed.penalty == 0.01
    np.testing.assert_allclose(followed.best[0], 2 * weights, rtol=0.05, atol=0.05)
    # Too few samples, and nothing but noise to fit: what is held out says so.
    few = clean[:12]
    parts = [summed(few[i::2], few[i::2] @ weights + rng.normal(size=(6, 4)), 1) for i in (0, 1)]
    stayed = pose(tuple(parts), weights[None], centred=True)
    assert stayed.penalty >= 1.0
    alone = pose((parts[0], RowSums(1, 6, 4)), weights[None], centred=True)
    assert alone.penalty == 1.0


def test_inputs_that_are_always_zero_do_no_harm(rng):
    x = np.zeros((20, 3))
    sums = summed(x, np.ones((20, 2)), 1)
    weights = rng.normal(size=(1, 3, 2))
    posed = pose((sums, sums), weights, centred=True)
    step = np.full((1, 1, 2), 0.3)
    np.testing.assert_array_equal(search(posed, step, 7, 5), nearest(weights, step, 7))
