"""Element-wise functions behind the rescale of a hardware layer: as formula, as table.

The integers that enter a table are ``i = qmin..qmax`` of a per-tensor format with a power-of-two
step, and what leaves it is ``round(f(i * lsb) / output_lsb)``. While ranges move, so do both
steps. So :func:`value_rows` lists float32(f(i * 2**e)) for every exponent e that a step may have,
once and for all in float64; choosing a row, dividing it by a power of two and rounding are exact
operations, and the Keras model and the hardware get the same table whatever the backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from sanitize.functions import apply_activation
from sanitize.keras_io.function_layers import activation_layer
from sanitize.keras_io.own_layers import own_layers
from sanitize.keras_io.user import EagerFormula
from sanitize.user_functions import UserFunction, registered_formula

from ..errors import QuantizationError

Tensor = Any

LOWEST_EXPONENT, HIGHEST_EXPONENT = -100, 27
"""Steps of what enters a table: 2**-100 to 2**27."""


class ValueRows(NamedTuple):
    """values, slopes: float32 (exponents, integers): f and its derivative at i * 2**e."""

    values: np.ndarray
    slopes: np.ndarray


class ElementFunction:
    """One function, given by the attributes of an ``activation`` node of the float graph.

    The slope of a prelu is a weight of the layer and is passed where it is needed.

    Args:
        attrs: {"function": name, its parameters}; see :mod:`sanitize.functions`.
    """

    def __init__(self, attrs: Mapping[str, Any]) -> None:
        self.attrs = dict(attrs)
        self.is_prelu = self.attrs["function"] == "prelu"
        self._rows: dict[tuple[int, bool], ValueRows] = {}
        self._layer: Any = None
        if not self.is_prelu:
            with own_layers():
                self._layer = activation_layer({"kind": "activation", **attrs})

    @property
    def name(self) -> str:
        """The function's name, for reports."""
        user = self.attrs.get("user")
        return str(self.attrs["function"] if user is None else user.name)

    def rows(self, bits: int, signed: bool) -> ValueRows:
        """Work out values and slopes for all steps; not for prelu.

        The first time is not to be inside a graph: a user function may have to be run for them.

        Args:
            bits: width of the integers that enter, sign included.
            signed: whether they have one.

        Returns:
            The function and its derivative at each integer times each step.
        """
        if (bits, signed) not in self._rows:
            user = self.attrs.get("user")
            key = user if user is not None else tuple(sorted(self.attrs.items()))
            self._rows[bits, signed] = value_rows(key, bits, signed)
        return self._rows[bits, signed]

    def on_tensor(self, x: Tensor, alpha: Tensor | None = None) -> Tensor:
        """Compute the unquantized meaning.

        Args:
            x: values of any shape.
            alpha: the slope of a prelu, (c,); None for other functions.

        Returns:
            Values of the same shape.
        """
        if self.is_prelu:
            return prelu(x, alpha)
        return self._layer(x)

    def to_config(self) -> dict[str, Any]:
        """JSON-able; a user function is saved as the Keras function that it is in the model."""
        user = self.attrs.get("user")
        if user is None:
            return dict(self.attrs)
        function = keras.saving.serialize_keras_object(user.keras_function)
        return {"function": "user", "name": user.name, "keras_function": function}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ElementFunction:
        """Make one of its config, the inverse of :meth:`to_config`.

        Args:
            config: the attributes; Keras's error if a user function is not registered.

        Returns:
            The function.
        """
        if config["function"] != "user" or "user" in config:
            return cls(config)
        function = keras.saving.deserialize_keras_object(config["keras_function"])
        found = registered_formula(config["name"])
        formula = EagerFormula(function) if found is None else found[1]
        return cls({"function": "user", "user": UserFunction(config["name"], formula, function)})


def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """``x`` where positive, else ``alpha * x``: one rounding, whatever multiply-add is used."""
    return ops.maximum(x, 0.0) + alpha * ops.minimum(x, 0.0)


def minimum_of(attrs: Mapping[str, Any], unsigned_input: bool = False) -> float:
    """The smallest value of a function, sampled; of non-negative arguments if asked."""
    if attrs["function"] == "prelu":
        return 0.0 if unsigned_input else -np.inf
    magnitudes = np.concatenate([np.linspace(0, 16, 4097), np.exp2(np.arange(4, 24))])
    points = magnitudes if unsigned_input else np.concatenate([-magnitudes[::-1], magnitudes])
    with np.errstate(all="ignore"):
        values = apply_activation(attrs, {}, points)
    return float(values[np.isfinite(values)].min(initial=np.inf))


@lru_cache(maxsize=64)
def value_rows(key: Any, bits: int, signed: bool) -> ValueRows:
    """See the module; key: the sorted attributes as a tuple, or a UserFunction."""
    attrs = {"function": "user", "user": key} if isinstance(key, UserFunction) else dict(key)
    low = -(2 ** (bits - 1)) if signed else 0
    integers = np.arange(low, low + 2**bits, dtype=np.float64)
    exponents = np.arange(LOWEST_EXPONENT, HIGHEST_EXPONENT + 1)
    x = np.ldexp(integers, exponents[:, None])
    apart = 1e-4 * np.maximum(np.abs(x), np.ldexp(1.0, exponents[:, None]))
    with np.errstate(all="ignore"):
        values = apply_activation(attrs, {}, x)
        rise = apply_activation(attrs, {}, x + apart) - apply_activation(attrs, {}, x - apart)
        slopes = rise / (2 * apart)
    return ValueRows(_finite(values), _finite(slopes))


def _finite(values: np.ndarray) -> np.ndarray:
    """float32; beyond its range the largest number, and 0 where the function has no value."""
    largest = float(np.finfo(np.float32).max)
    clipped = np.clip(np.nan_to_num(values, nan=0.0), -largest, largest)
    return np.asarray(clipped, np.float32)


def row_of(rows: np.ndarray, exponent: Tensor) -> Tensor:
    """The row of a step 2**exponent; exponent: (1,), an integer in a float."""
    index = ops.cast(exponent, "int32") - LOWEST_EXPONENT
    index = ops.clip(index, 0, HIGHEST_EXPONENT - LOWEST_EXPONENT)
    return ops.take(ops.convert_to_tensor(rows), ops.reshape(index, ()), axis=0)


def check_exponent(exponent: float, layer: str) -> None:
    """QuantizationError, naming the layer, for a step that no table is made for."""
    if not LOWEST_EXPONENT <= exponent <= HIGHEST_EXPONENT:
        raise QuantizationError(
            f"layer {layer!r}: steps of 2**{exponent:.0f} enter its function; tables are made for "
            f"2**{LOWEST_EXPONENT} to 2**{HIGHEST_EXPONENT}. Scale its inputs, or keep it in float "
            "with float_layers"
        )
