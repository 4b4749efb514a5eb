"""Integer types of quantized ONNX tensors, and the zero point and scale that cover a range.

    value = scale * (integer - zero_point)

The value 0 is always one of the grid, since borders are padded with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...errors import QuantizationError

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Scales below it would lose bits, and a product of two would be 0."""


class AffineParams(NamedTuple):
    """What turns the integers of a tensor into values; a plain pair to who reads it.

    zero_point: a NumPy integer of the tensor's type. scale: np.float32, above 0.
    """

    zero_point: np.integer[Any]
    scale: np.float32


@dataclass(frozen=True)
class NumberType:
    """An integer type of ONNX, such as uint8."""

    bits: int
    signed: bool

    @property
    def name(self) -> str:
        """As NumPy and ONNX spell it."""
        return f"{'' if self.signed else 'u'}int{self.bits}"

    @property
    def onnxruntime_name(self) -> str:
        """As onnxruntime's QuantType spells it."""
        return f"Q{'' if self.signed else 'U'}Int{self.bits}"

    @property
    def qmin(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def qmax(self) -> int:
        return (1 << (self.bits - self.signed)) - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy type that holds it; NumPy has none of 4 bits."""
        return np.dtype(f"{'' if self.signed else 'u'}int{max(self.bits, 8)}")

    def params(self, low: float, high: float, symmetric: bool = False) -> AffineParams:
        """Zero point and scale that cover the values low to high, and 0.

        symmetric: the zero point lies in the middle of the type.
        """
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        if symmetric:
            zero = 0 if self.signed else 2 ** (self.bits - 1)
            scale = self._scale(max(-low, high), self.qmax - zero)
        else:
            scale = self._scale(high - low, self.qmax - self.qmin)
            zero = self.qmin - int(np.floor(low / float(scale) + 0.5))
            zero = min(max(zero, self.qmin), self.qmax)
        return AffineParams(self.dtype.type(zero), scale)

    @staticmethod
    def _scale(width: float, steps: int) -> np.float32:
        return np.float32(max(width / steps, SMALLEST_SCALE) if width > 0 else 1.0)


WEIGHT_TYPES = {
    "integer": ("int8", "uint8"),
    "qlinear": ("int8", "uint8"),
    "qdq": ("int8", "uint8", "int16", "uint16", "int4", "uint4"),
}
"""Mode -> types that weights may have."""

ACTIVATION_TYPES = {
    "integer": ("uint8", "int8"),
    "qlinear": ("uint8", "int8"),
    "qdq": ("uint8", "int8", "uint16", "int16"),
}
"""Mode -> types that activations may have."""


def number_type(given: Any, argument: str, allowed: tuple[str, ...]) -> NumberType:
    """A type from its name ("uint8"), a NumPy type, or a member of onnxruntime's QuantType.

    argument, allowed: for the QuantizationError if it is none of those.
    """
    name = given if isinstance(given, str) else getattr(given, "name", None)
    if name is None:
        name = getattr(given, "__name__", repr(given))
    name = str(name).lower().removeprefix("q")
    if name not in allowed:
        raise QuantizationError(f"{argument} is {' or '.join(allowed)} here, not {given!r}")
    return NumberType(int(name.lstrip("uint")), not name.startswith("u"))
