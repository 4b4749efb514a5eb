"""Integers near real weights, for the least error of a layer's output instead of the weights.

Rounding each weight to the nearest integer is not the best for the output (Nagel et al. 2020,
"Up or down? Adaptive rounding for post-training quantization", arXiv:2004.10568): errors of
weights whose inputs go together can cancel. The output's error is the quadratic form
tr((W - best)' H (W - best)), so that no samples are needed to search:

1. one weight after the other is rounded, and those still to come make up for its error: the
   algorithm of GPTQ (Frantar et al. 2023, arXiv:2210.17323);
2. coordinate descent: each weight in turn goes to the integer that is the best for the others as
   they are, until none moves.

All output channels, and all groups, go in parallel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .least_squares import Problem

Array = NDArray[np.float64]

BLOCK = 64
"""Weights whose effect on the others is collected before it is applied."""
SETTLED = 5e-4
"""Part of the weights that may still move in the last sweep."""


def nearest(weights: Array, step: Array, qmax: int) -> Array:
    """Integers of weights (groups, k, o) for steps (groups, 1, o): half up, saturated."""
    return np.asarray(np.clip(np.floor(weights / step + 0.5), -qmax, qmax))


def search(problem: Problem, step: Array, qmax: int, sweeps: int) -> Array:
    """Integers (groups, k, o) in -qmax..qmax for the problem, found by 1. and 2.

    sweeps: at most that many rounds of coordinate descent. Never worse than :func:`nearest`.
    """
    first = nearest(problem.best, step, qmax)
    starts = (first, in_sequence(problem, step, qmax))
    start = min(starts, key=lambda q: problem.loss(q * step))
    return descend(problem, start, step, qmax, sweeps)


def in_sequence(problem: Problem, step: Array, qmax: int) -> Array:
    """Step 1: the inverse of H tells how later weights make up for the error of an earlier one."""
    weights = problem.best.copy()
    integers = np.zeros_like(weights)
    factor = np.linalg.cholesky(np.linalg.inv(problem.metric)).transpose(0, 2, 1)
    k = weights.shape[1]
    for start in range(0, k, BLOCK):
        stop = min(start + BLOCK, k)
        errors = np.zeros_like(weights[:, start:stop])
        for i in range(start, stop):
            integers[:, i] = nearest(weights[:, i], step[:, 0], qmax)
            diagonal = factor[:, i, i, None]
            errors[:, i - start] = (weights[:, i] - integers[:, i] * step[:, 0]) / diagonal
            later = factor[:, i, i + 1 : stop, None] * errors[:, i - start, None, :]
            weights[:, i + 1 : stop] -= later
        weights[:, stop:] -= factor[:, start:stop, stop:].transpose(0, 2, 1) @ errors
    return integers


def descend(problem: Problem, start: Array, step: Array, qmax: int, sweeps: int) -> Array:
    """Step 2 from the integers ``start``; the loss never grows."""
    metric, integers = problem.metric, start.copy()
    slope = metric @ (problem.best - integers * step)
    diagonal = np.einsum("gii->gi", metric)
    k = integers.shape[1]
    for _ in range(sweeps):
        moved = 0
        for begin in range(0, k, BLOCK):
            block = slice(begin, min(begin + BLOCK, k))
            change = _descended(
                metric[:, block, block], diagonal[:, block], slope[:, block], integers[:, block],
                step[:, 0], qmax,
            )  # fmt: skip
            integers[:, block] += change
            moved += int(np.count_nonzero(change))
            slope -= metric[:, :, block] @ (change * step)
        if moved <= SETTLED * integers.size:
            break
    return integers


def _descended(
    metric: Array, diagonal: Array, slope: Array, integers: Array, step: Array, qmax: int
) -> Array:
    """Changes of the integers of one block, (groups, block, o)."""
    slope = slope.copy()
    change = np.zeros_like(integers)
    for i in range(integers.shape[1]):
        wished = integers[:, i] + slope[:, i] / (diagonal[:, i, None] * step)
        change[:, i] = np.clip(np.floor(wished + 0.5), -qmax, qmax) - integers[:, i]
        slope -= metric[:, :, i, None] * (change[:, i] * step)[:, None, :]
    return change
