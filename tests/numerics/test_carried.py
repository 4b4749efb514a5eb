"""Integers in floats: products that are cut into pieces for the BLAS are the whole products."""

import numpy as np
import pytest

from quantkeras.numerics import cache_blocks as pieces
from quantkeras.numerics.arrays import IntArrays
from quantkeras.numerics.carried import CarriedArrays, Carriers
from quantkeras.numerics.layer_windows import Window

CARRIERS = Carriers(product="float64", total="float64")


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-127, 128, shape)


@pytest.mark.parametrize("rows", [0, 1, 8, 9, 64, 65, 100])
@pytest.mark.parametrize("limit", [1, 6 * 5 * 4 - 1, 6 * 5 * 8, 6 * 5 * 1000])
def test_dense_in_pieces(monkeypatch, rows, limit):
    monkeypatch.setattr(pieces, "SINGLE_THREAD_WORK", limit)
    x, weights = draw(rows, 6), draw(6, 5)
    found = CarriedArrays(CARRIERS).dense(x.astype(np.float64), weights)
    assert np.array_equal(found, x @ weights)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("per_piece", [3, 8, 16])
def test_convolution_in_pieces(monkeypatch, groups, per_piece):
    work = 3 * 3 * (4 // groups) * (6 // groups)  # multiplications of one output pixel and group
    monkeypatch.setattr(pieces, "SINGLE_THREAD_WORK", per_piece * work)
    window = Window((3, 3), (1, 1), "same")
    x, weights = draw(3, 7, 9, 4), draw(3, 3, 4 // groups, 6)
    found = CarriedArrays(CARRIERS).conv2d(x.astype(np.float64), weights, window, groups, None)
    assert np.array_equal(found, IntArrays().conv2d(x, weights, window, groups, None))


def test_dense_of_maps_keeps_its_shape():
    x, weights = draw(2, 3, 4, 6), draw(6, 5)
    found = CarriedArrays(CARRIERS).dense(x.astype(np.float64), weights)
    assert np.array_equal(found, x @ weights)
