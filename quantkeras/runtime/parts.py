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

    Attributes:
        name: of the input.
        shape: unbatched, channels last.
        format: of its integers.
        scale: float32, scalar or broadcastable to shape, what multiplies the difference of what the
            user feeds and the offset, before it is quantized; None for one.
        offset: likewise, what is subtracted first; None for zero.
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
        """Quantize: ``saturate(round_half_up((x - offset) * scale * 2**frac))``.

        x is taken to float32; the difference and then the product are each rounded once to
        float32; the rest is exact.

        Args:
            x: finite, (n, *shape).

        Returns:
            Integers of the format, of the same shape.

        Raises:
            NonFiniteError: for NaN and infinity.
        """
        return self.format.quantize(self.mapped(x))

    def mapped(self, x: Array) -> npt.NDArray[np.float32]:
        """Work out what is quantized.

        Args:
            x: (n, *shape).

        Returns:
            ``(x - offset) * scale`` in float32.
        """
        values: npt.NDArray[np.float32] = np.asarray(x).astype(np.float32, copy=False)
        if self.offset is not None:
            values = values - self.offset
        return values if self.scale is None else values * self.scale


@dataclass(frozen=True, eq=False)
class ProgramLayer:
    """One hardware layer of the program.

    Attributes:
        name: of the layer and of its output.
        spec: what it does: kind, window, pool, ReLU.
        params: its integers: weights, bias, shifts, scales, table.
        inputs: names of program inputs or earlier layers.
        output_format: of the integers that leave it, None for a raw accumulator.
        output_shape: unbatched.
        output_scale: float32, scalar or broadcastable to output_shape, the value of one step of a
            raw accumulator that is an output of the program.
        source: names of the user's layers that it computes.
        weight_bits: what a weight takes in hardware, sign included; 0 without weights.
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
        """Turn integers of the output into values.

        With a format, integer * 2**-frac. An accumulator is multiplied by output_scale in float64
        and rounded to float32: the correctly rounded product up to |acc| = 2**29, beyond which
        the float64 product is itself a rounded one (and the same everywhere, too).

        Args:
            integers: (n, *output_shape).

        Returns:
            Values of that shape in float32.

        Raises:
            QuantizationError: for an accumulator without a scale, and for integers that its format
                does not hold.
        """
        if self.output_format is not None:
            return self.output_format.dequantize(integers).astype(np.float32, copy=False)
        if self.output_scale is None:
            raise QuantizationError(f"layer {self.name!r} gives an accumulator without a scale")
        exact = np.asarray(integers, np.float64) * self.output_scale.astype(np.float64)
        return exact.astype(np.float32)


class FloatTail(NamedTuple):
    """A layer of the user's model that stayed behind, in floating point, after the program.

    Attributes:
        name: the layer's.
        type: its class.
        reason: why it is float.
    """

    name: str
    type: str
    reason: str
