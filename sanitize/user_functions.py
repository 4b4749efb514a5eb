"""Element-wise functions of the user's: how they are held, and formulas given for them by name.

A network may call a function that is not one of Keras': a Lambda, an Activation with a function
written by hand, a layer class of one's own. Where it works on each number alone, the graph holds it
as a :class:`UserFunction`. Its formula is found by running the Keras function, or is given:

    sanitize.register_function("my_swish", lambda x: x / (1 + numpy.exp(-1.7 * x)))

From then on every Activation with a function of the name ``my_swish``, every Lambda of this name,
and every layer of a class ``my_swish`` is that formula.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Formula = Callable[[NDArray[np.float64]], Any]

_formulas: dict[str, Formula] = {}


@dataclass(frozen=True, repr=False)
class UserFunction:
    """A function of one number that the graph knows by its values only.

    Attributes:
        name: what models call it.
        formula: float64 array of any shape -> float64 array of that shape, element by element.
        keras_function: what a Keras model calls for it, a function on tensors or a layer.
    """

    name: str
    formula: Formula
    keras_function: Any

    def __repr__(self) -> str:
        return f"<{self.name}>"


def register_function(name: str, formula: Formula) -> None:
    """Give the NumPy formula of the function that Keras models call ``name``.

    Whether it agrees with the layer is checked where a model with that layer is read.

    Args:
        name: the name of a function in an ``Activation`` or an ``activation=`` argument, of a
            Lambda layer or its function, or of a layer class.
        formula: a float64 array of any shape -> an array of the same shape, element by element. A
            formula that is registered already is replaced.

    Raises:
        ValueError: for a formula that does not keep the shape.
        TypeError: for what is no function.

    Example:
        ``register_function("cube", lambda x: x**3)``
    """
    if not callable(formula):
        raise TypeError(f"the formula for '{name}' is a {type(formula).__name__}, not a function")
    for shape in ((7,), (2, 3), (2, 1, 3)):
        x = np.linspace(-2.0, 2.0, int(np.prod(shape))).reshape(shape)
        with np.errstate(all="ignore"):
            found = np.shape(formula(x))
        if found != shape:
            raise ValueError(
                f"the formula for '{name}' makes shape {found} of shape {shape}: it is not"
                " element-wise. Write it with NumPy functions that work on each number alone"
            )
    _formulas[name] = formula


def unregister_function(name: str) -> None:
    """Forget the formula for a function.

    Args:
        name: what it was registered as.

    Raises:
        KeyError: when there is none.
    """
    if name not in _formulas:
        raise KeyError(f"no formula is registered for '{name}'")
    del _formulas[name]


def registered_formula(*names: str | None) -> tuple[str, Formula] | None:
    """The first of these names that a formula is registered for, and the formula.

    A name that Keras knows as 'package>name' counts by its last part too.
    """
    for name in names:
        for form in (name, re.sub(r"^.*>", "", name or "")):
            if form and form in _formulas:
                return form, _formulas[form]
    return None


def checked_formula(name: str, formula: Formula, x: NDArray[Any], wanted: NDArray[Any]) -> None:
    """Raise ValueError, with the first number that differs, unless formula(x) is ``wanted``.

    ``wanted`` is what the Keras function makes of ``x``, in float32.
    """
    with np.errstate(all="ignore"):
        found = np.asarray(formula(x.astype(np.float64)), np.float64)
    advice = "Correct the formula, or leave it out with sanitize.unregister_function"
    if found.shape != wanted.shape:
        raise ValueError(
            f"the formula registered for '{name}' makes shape {found.shape} of an input for which"
            f" the layer makes {wanted.shape}. {advice}"
        )
    same = np.isclose(found, wanted, rtol=1e-4, atol=1e-5, equal_nan=True)
    if not same.all():
        where = np.unravel_index(int(np.argmin(same)), same.shape)
        at = f" of {x[where]:g}" if x.shape == wanted.shape else ""
        raise ValueError(
            f"the formula registered for '{name}' makes {found[where]:g}{at} where the layer"
            f" makes {wanted[where]:g}. {advice}"
        )
