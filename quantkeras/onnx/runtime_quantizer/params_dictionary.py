"""The dictionary {tensor: (zero_point, scale)} as users give it, checked and brought in form."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from ...errors import QuantizationError
from .node_selection import close_names
from .number_types import AffineParams, NumberType


def checked_params(
    given: Mapping[str, Any], kind: NumberType, tensors: Collection[str]
) -> dict[str, AffineParams]:
    """The entries as AffineParams of the type `kind`.

    tensors: names of the model's tensors. Raises QuantizationError for an entry that names none of
    them, or is no pair (zero_point, scale) of the type.
    """
    if not isinstance(given, Mapping):
        raise QuantizationError(
            "quantization_params is a dictionary {tensor: (zero_point, scale)}, not "
            f"a {type(given).__name__}"
        )
    found = {}
    for name, pair in given.items():
        if name not in tensors:
            raise QuantizationError(
                f"quantization_params: the model has no tensor '{name}'{close_names(name, tensors)}"
            )
        found[name] = _checked(name, pair, kind)
    return found


def _checked(name: str, pair: Any, kind: NumberType) -> AffineParams:
    where = f"quantization_params of '{name}'"
    try:
        zero, scale = (np.asarray(value).reshape(()) for value in pair)
    except (TypeError, ValueError):
        raise QuantizationError(
            f"{where} is (zero_point, scale), two numbers, not {pair!r}"
        ) from None
    numbers = zero.dtype.kind in "fiu" and scale.dtype.kind in "fiu"
    if not numbers or float(zero) != np.floor(float(zero)):
        raise QuantizationError(
            f"{where} is {tuple(pair)!r}: the zero point, a whole number, comes first, then the "
            "scale"
        )
    if not kind.qmin <= int(zero) <= kind.qmax:
        raise QuantizationError(
            f"{where}: {int(zero)} is no zero point of {kind.name}, {kind.qmin} to {kind.qmax}; "
            "activation_type may be another one"
        )
    if not 0 < float(scale) < np.inf:
        raise QuantizationError(f"{where}: scale is {scale}; it must be above 0 and finite")
    return AffineParams(kind.dtype.type(int(zero)), np.float32(scale))


def require_entries(names: Iterable[str], params: Mapping[str, AffineParams], why: str) -> None:
    """Raises QuantizationError, listing them, if tensors have no entry. why: who needs them."""
    missing = list(dict.fromkeys(name for name in names if name not in params))
    if not missing:
        return
    shown = ", ".join(f"'{name}'" for name in missing[:5])
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    raise QuantizationError(
        f"{why} need zero point and scale of {shown}{more}: give them in quantization_params, or "
        "give samples to measure them"
    )
