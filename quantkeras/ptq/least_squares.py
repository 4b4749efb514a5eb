"""The weights that serve a layer best on the inputs that it really gets.

In front of a layer of a quantized model the inputs x are already a little wrong. The weights W
with the least E|W'x - y|^2, y the float output, make up for a part of it. All that is needed of
any number of samples are the second moments H = E[x x'] and C = E[x y']; with a bias both about
their means, and the bias then is E[y] - W'E[x]. How far W may follow these samples away from the
float weights W0 (a ridge: the term ``penalty * mean(diag H) * |W - W0|^2``) is chosen on samples
held out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PENALTIES = (0.01, 0.1, 1.0, 10.0)
"""Ridges that are tried; beyond the last one the float weights are kept as they are."""
SMALLEST_PENALTY, CAUTIOUS_PENALTY = PENALTIES[0], PENALTIES[2]


class RowSums:
    """Sums of rows x (groups, n, k), y (groups, n, o) and of their products."""

    def __init__(self, groups: int, k: int, o: int) -> None:
        self.count = 0
        self.origin_x = np.zeros((groups, 1, k), np.float32)
        self.origin_y = np.zeros((groups, 1, o), np.float32)
        self.x = np.zeros((groups, k))
        self.y = np.zeros((groups, o))
        self.xx = np.zeros((groups, k, k))
        self.xy = np.zeros((groups, k, o))

    def add(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
        """More rows."""
        if not self.count:  # sums about a point in their midst lose no digits
            self.origin_x = x.mean(axis=1, keepdims=True)
            self.origin_y = y.mean(axis=1, keepdims=True)
        x, y = x - self.origin_x, y - self.origin_y
        self.count += x.shape[1]
        self.x += x.sum(axis=1, dtype=np.float64)
        self.y += y.sum(axis=1, dtype=np.float64)
        self.xx += x.transpose(0, 2, 1) @ x
        self.xy += x.transpose(0, 2, 1) @ y

    def means(self) -> tuple[Array, Array]:
        """E[x] (groups, k), E[y] (groups, o)."""
        count = max(self.count, 1)
        return (
            self.origin_x[:, 0] + self.x / count,
            self.origin_y[:, 0] + self.y / count,
        )

    def products(self, centred: bool) -> tuple[Array, Array]:
        """(H, C): (groups, k, k) and (groups, k, o); centred: about the means."""
        count = max(self.count, 1)
        x, y = self.x / count, self.y / count
        h = self.xx / count - x[:, :, None] * x[:, None, :]
        c = self.xy / count - x[:, :, None] * y[:, None, :]
        if centred:
            return h, c
        mean_x, mean_y = self.means()
        return (
            h + mean_x[:, :, None] * mean_x[:, None, :],
            c + mean_x[:, :, None] * mean_y[:, None, :],
        )


@dataclass(frozen=True)
class Problem:
    """Minimise tr((W - best)' metric (W - best)): metric (groups, k, k), best (groups, k, o).

    penalty: the ridge chosen, infinite where best are the float weights.
    """

    metric: Array
    best: Array
    penalty: float

    def loss(self, weights: Array) -> float:
        """Mean squared error of the output above the least possible, summed over channels."""
        gap = weights - self.best
        return float((gap * (self.metric @ gap)).sum())


def pose(parts: tuple[RowSums, RowSums], weights: Array, centred: bool) -> Problem:
    """The problem of the samples of both parts; the ridge is chosen by solving one part alone.

    weights: W0, (groups, k, o).
    """
    fitted, held_out = (part.products(centred) for part in parts)
    n, m = (part.count for part in parts)
    h, c = ((n * a + m * b) / max(n + m, 1) for a, b in zip(fitted, held_out, strict=True))
    penalty = CAUTIOUS_PENALTY
    if n and m:
        candidates = [solved(*fitted, weights, p) for p in PENALTIES]
        losses = [_error(w, *held_out) for w in (*candidates, weights)]
        penalty = (*PENALTIES, np.inf)[int(np.argmin(losses))]
    metric = h + _ridge(h, SMALLEST_PENALTY if np.isinf(penalty) else penalty)
    best = weights if np.isinf(penalty) else solved(h, c, weights, penalty)
    return Problem(metric, best, float(penalty))


def solved(h: Array, c: Array, weights: Array, penalty: float) -> Array:
    """The weights of least squared error under a ridge around ``weights``."""
    ridge = _ridge(h, penalty)
    return np.asarray(np.linalg.solve(h + ridge, c + ridge @ weights))


def _ridge(h: Array, penalty: float) -> Array:
    typical = np.einsum("gii->g", h) / h.shape[1]
    typical = np.where(typical > 0, typical, 1.0)  # no input ever: any weights will do
    return np.asarray(penalty * typical[:, None, None] * np.eye(h.shape[1]))


def _error(weights: Array, h: Array, c: Array) -> float:
    """Mean squared error of weights but for a constant, summed over channels."""
    return float((weights * (h @ weights - 2 * c)).sum())
