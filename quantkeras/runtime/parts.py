"""The parts of an integer program: its inputs, its layers, and what stayed behind in floats.

The tensors of a program are integers with value = integer * 2**-frac. Floats appear at its two ends
only: :meth:`ProgramInput.quantize` makes the first integers, and :meth:`ProgramLayer.dequantize`
gives the last ones a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import QuantizationError
from ..numerics import Format
from ..numerics.layer import LayerParams, LayerSpec

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ProgramInput:
    """An input of the program.

    shape: unbatched, channels last. offset, scale: float32, scalar or broadcastable to shape: what
    is subtracted from what the user feeds, and what multiplies the difference, before it is
    quantized; None for zero and for one.
    """

    name: str
    shape: Shape
    format: Format
    scale: npt.NDArray[np.float32] | None = None
    offset: npt.NDArray[np.float32] | None = None

    @property
    def takes_integers(self) -> bool:
        """Whether what the user feeds are the integers themselves."""
        if self.offset is not None and np.any(self.offset):
            return False
        scale = np.ones((), np.float32) if self.scale is None else self.scale
        return bool((scale == self.format.lsb).all())

    def quantize(self, x: Array) -> Ints:
        """Integers of finite x (n, *shape):
        ``saturate(round_half_up((x - offset) * scale * 2**frac))``.

        x is taken to float32; the difference and then the product are each rounded once to
        float32; the rest is exact.
        """
        return self.format.quantize(self.mapped(x))

    def mapped(self, x: Array) -> npt.NDArray[np.float32]:
        """``(x - offset) * scale``, what is quantized."""
        values: npt.NDArray[np.float32] = np.asarray(x).astype(np.float32, copy=False)
        if self.offset is not None:
            values = values - self.offset
        return values if self.scale is None else values * self.scale


@dataclass(frozen=True, eq=False)
class ProgramLayer:
    """One hardware layer of the program.

    inputs: names of program inputs or earlier layers. output_format: of the integers that leave
    it, None for a raw accumulator. output_scale: float32, scalar or broadcastable to output_shape,
    the value of one step of a raw accumulator that is an output of the program. output_shape:
    unbatched. source: names of the user's layers that it computes. weight_bits: what a weight
    takes in hardware, sign included; 0 without weights.
    """

    name: str
    spec: LayerSpec
    params: LayerParams
    inputs: tuple[str, ...]
    output_format: Format | None
    output_shape: Shape
    output_scale: npt.NDArray[np.float32] | None = None
    source: tuple[str, ...] = ()
    weight_bits: int = 0

    def dequantize(self, integers: Array) -> npt.NDArray[np.float32]:
        """Values (n, *output_shape) in float32 of integers.

        With a format, integer * 2**-frac. An accumulator is multiplied by output_scale in float64
        and rounded to float32: the correctly rounded product up to |acc| = 2**29, beyond which
        the float64 product is itself a rounded one (and the same everywhere, too).
        """
        if self.output_format is not None:
            return self.output_format.dequantize(integers).astype(np.float32, copy=False)
        if self.output_scale is None:
            raise QuantizationError(f"layer {self.name!r} gives an accumulator without a scale")
        exact = np.asarray(integers, np.float64) * self.output_scale.astype(np.float64)
        return exact.astype(np.float32)


class FloatTail(NamedTuple):
    """A layer of the user's model that stayed behind, in floating point, after the program."""

    name: str
    type: str
    reason: str
