"""Running functions that are not known on numbers, to find out what they are."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..shapes import Shape

Array = NDArray[Any]


def _unfit() -> tuple[type[Exception], ...]:
    """What a function may raise because the tensor offered is not the one it was written for."""
    plain = (TypeError, ValueError, IndexError, AttributeError, RuntimeError, ArithmeticError)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return (*plain, tf.errors.OpError)
    return plain


UNFIT = _unfit()

#: What numbers are multiplied by to see whether a function of whole tensors is the same for all.
MAGNITUDES = (1.0, 1e-3, 1e3, 1e6)


def grid(shape: Shape) -> Array:
    """A batch (2, *shape) that holds numbers around the kinks of activation functions.

    Sizes that are not known are 4. The numbers are normal with deviation 4, and -8 to 8 in steps of
    an eighth as far as they fit.
    """
    sizes = [4 if size is None else size for size in shape]
    count = 2 * int(np.prod(sizes))
    values = np.random.default_rng(0).normal(size=count) * 4.0
    corners = np.linspace(-8.0, 8.0, 129)
    values[: min(count, corners.size)] = corners[:count]
    return values.reshape(2, *sizes).astype(np.float32)


def many(shape: Shape) -> Array:
    """The grid of ``shape``, with more rows where it holds too few numbers to tell much."""
    x = grid(shape)
    if x.size >= 256 or not x.size:
        return x
    rows = -(-512 // x.size)
    return grid((rows, *shape)).reshape(-1, *x.shape[1:])


def wide(shape: Shape) -> Array:
    """A batch (n, *shape) of at least 1024 numbers: the grid, and magnitudes from 1e-3 to 1e7.

    Both signs, every decade alike: a function that bends anywhere shows it here.
    """
    x = many(shape)
    rows = max(2, -(-768 // max(x[0].size, 1)))
    generator = np.random.default_rng(3)
    size = (rows, *x.shape[1:])
    tails = 10.0 ** generator.uniform(-3.0, 7.0, size) * generator.choice([-1.0, 1.0], size)
    return np.concatenate([x, tails.astype(np.float32)])


def try_function(function: Callable[..., Any], *arrays: Array) -> Array | None:
    """The function's result on these arrays as float32; None when it fails or returns no tensor."""
    try:
        with warnings.catch_warnings():
            # What a function says about a tensor it was not written for is no concern of the user.
            warnings.simplefilter("ignore")
            return _run(function, arrays)
    except UNFIT:
        return None


def _run(function: Callable[..., Any], arrays: Sequence[Array]) -> Array:
    result = function(*(keras.ops.convert_to_tensor(array) for array in arrays))
    return np.asarray(keras.ops.convert_to_numpy(result), np.float32)
