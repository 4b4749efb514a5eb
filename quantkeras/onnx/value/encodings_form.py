"""The float graph of a program with a list of encodings: what other tool chains quantize by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...numerics.hardware_kinds import Trait
from ...runtime import Program
from ..encodings import BIAS_BITS, Encoding
from ..layer_builder import LayerBuilder, Tensor
from .value_form import ValueGraph, limits_of
from .value_styles import Ints
from .value_types import OPSET, Floats, Limits, axis_steps


class EncodingsStyle:
    """Leaves values as they are, stores weights as floats, and notes how these are quantized."""

    def __init__(self) -> None:
        self.opset = OPSET
        self.params: list[Encoding] = []

    def activation(
        self,
        builder: LayerBuilder,
        x: Tensor,
        step: npt.ArrayLike,
        limits: Limits,
        within: bool = False,
    ) -> Tensor:
        """Values; how they are quantized is said by :func:`program_encodings`."""
        return x

    def weights(
        self,
        builder: LayerBuilder,
        name: str,
        integers: Ints,
        step: Floats,
        axis: int,
        bits: int,
        apart: bool = False,
    ) -> str:
        """Floats on the grid of the weights: quantizing them again gives the same integers."""
        along = [1] * integers.ndim
        along[axis] = -1
        found = builder.initializer(name, integers * step.reshape(along), np.float32)
        least = int(abs(integers).max(initial=1)).bit_length() + 1
        self._note(found, bits or max(least, 8), step, axis)
        return found

    def bias(self, builder: LayerBuilder, integers: Ints, step: Floats) -> str:
        """Floats on the grid of the accumulator."""
        found = builder.initializer("bias", integers * step, np.float32)
        self._note(found, BIAS_BITS, step, 0)
        return found

    def _note(self, name: str, bits: int, step: Floats, axis: int) -> None:
        one = bool((step == step[0]).all())
        zero = np.zeros(() if one else step.shape, np.int64)
        steps = np.asarray(step[0] if one else step, np.float64)
        self.params.append(
            Encoding(name, bits, True, steps, zero, None if one else axis, is_param=True)
        )


def program_encodings(program: Program, found: ValueGraph, style: EncodingsStyle) -> list[Encoding]:
    """Encodings of the activations, movements left out as they follow their input, then weights."""
    limits: dict[str, Limits | None] = {
        entry.name: Limits(entry.format.qmin, entry.format.qmax) for entry in program.inputs
    }
    for layer in program.layers:
        moved = Trait.MOVES in layer.spec.traits and layer.params.scale is None
        limits[layer.name] = None if moved else limits_of(layer)
    entries = []
    for name, within in limits.items():
        held = found.held[name]
        placed = axis_steps(held.step, held.tensor.shape)
        if within is None or placed is None:
            continue
        signed = within.low < 0
        bits = max(within.high.bit_length(), (-within.low - 1).bit_length() if signed else 0)
        zero = np.zeros(placed.steps.shape, np.int64)
        entries.append(
            Encoding(held.tensor.name, bits + signed, signed, placed.steps, zero, placed.axis)
        )
    return [*entries, *style.params]
