"""Functions that are none of Keras': by a registered formula, or found element-wise by trying them.

A function is element-wise when each number of its result depends on the number at the same place
only, and not on where that place is. This is tried out, not proved: on tensors of several shapes,
with the numbers in another order and in other company.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..shapes import Shape
from ..user_functions import UserFunction, checked_formula, registered_formula
from .opaque_layers import clone_with_weights
from .trial import grid, try_function, wide

Array = NDArray[Any]


@dataclass(frozen=True)
class EagerFormula:
    """The formula of an element-wise Keras function: the function itself, run in float32.

    ``rank`` is the rank of the unbatched tensors that it is called on.
    """

    function: Callable[..., Any]
    rank: int = 3

    def __call__(self, x: Array) -> NDArray[np.float64]:
        column = np.asarray(x, np.float32).reshape(-1, *(1,) * self.rank)
        result = self.function(keras.ops.convert_to_tensor(column))
        return np.asarray(keras.ops.convert_to_numpy(result), np.float64).reshape(np.shape(x))


def function_name(function: Any) -> str:
    """What to call a function in reports and in ``register_function``."""
    if isinstance(function, keras.layers.Lambda):
        return str(function.name)
    if isinstance(function, keras.layers.Layer):
        return type(function).__name__
    return str(getattr(function, "__name__", type(function).__name__))


def registered_name(function: Any) -> str | None:
    """The name under which a formula is registered for a function, Lambda or layer class."""
    if isinstance(function, keras.layers.Lambda):
        names = [function.name, function_name(function.function)]
    else:
        kept = type(function) if isinstance(function, keras.layers.Layer) else function
        names = [keras.saving.get_registered_name(kept), function_name(function)]
    found = registered_formula(*(name for name in names if isinstance(name, str)))
    return None if found is None else found[0]


def user_function(name: str, keras_function: Any) -> UserFunction:
    """The function with the formula registered for ``name``, else the one found by running it.

    ``keras_function`` is trusted to be element-wise.
    """
    found = registered_formula(name)
    formula = EagerFormula(keras_function) if found is None else found[1]
    return UserFunction(name, formula, keras_function)


def registered_spec(function: Any, shape: Shape = (4,)) -> dict[str, Any] | None:
    """The spec of a function, Lambda or custom layer whose formula the user has registered.

    ``shape``: unbatched shape of a tensor it takes. Raises ValueError for a formula that does not
    agree with what the function computes on numbers between -8 and 8.
    """
    name = registered_name(function)
    found = registered_formula(name)
    if name is None or found is None:
        return None
    keras_function = _own(function)
    x = grid(shape)
    wanted = try_function(keras_function, x)
    if wanted is not None:
        checked_formula(name, found[1], x, wanted)
    return _spec(UserFunction(name, found[1], keras_function))


def probed_spec(function: Any, shape: Shape) -> dict[str, Any] | None:
    """The spec of a function or Lambda that is found element-wise; None when it is not."""
    if elementwise_fault(function, shape) is not None:
        return None
    own = _own(function)
    return _spec(UserFunction(function_name(function), EagerFormula(own, len(shape)), own))


def elementwise_fault(function: Any, shape: Shape) -> str | None:
    """Why ``function`` is not element-wise on tensors (n, *shape), as a predicate; else None."""
    x = wide(shape)
    result = try_function(function, x)
    if result is None:
        return f"does not run on a tensor of shape {x.shape}"
    if result.shape != x.shape:
        return f"makes shape {result.shape[1:]} of {x.shape[1:]}"
    if not np.isfinite(result[np.abs(x) < 1.0]).all():
        return "is not finite near 0"
    if not _same(result, try_function(function, x)):
        return "gives different results for the same numbers"
    order = np.random.default_rng(1).permutation(x.size)
    column = x.reshape(-1, *(1,) * len(shape))[order]
    other = try_function(function, column)
    if other is None or other.shape != column.shape:
        return f"works on tensors of shape {x.shape[1:]} only, so not on each number alone"
    if not _same(other.ravel(), result.ravel()[order]):
        return "is not element-wise: a result depends on other numbers or on its position"
    few = try_function(function, column[:5])
    if not _same(other[:5], few):
        return "is not element-wise: a result depends on the other numbers in the batch"
    return None


def _same(a: Array, b: Array | None) -> bool:
    # Vector and scalar code of a backend differ in the last digits.
    return b is not None and np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)


def _own(function: Any) -> Any:
    """A layer of our own for one that belongs to the user's model; functions as they are."""
    if isinstance(function, keras.layers.Layer):
        return clone_with_weights(function, function.name)
    return function


def _spec(user: UserFunction) -> dict[str, Any]:
    return {"kind": "activation", "function": "user", "user": user}
