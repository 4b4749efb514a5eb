"""What the hardware sees of a quantized layer, worked out once per call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Tensor = Any


@dataclass
class LayerNumbers:
    """The numbers behind one call of a quantized layer, as float32 tensors that hold them exactly.

    Attributes:
        input_lsbs: value of one integer step of each input, scalar, (c,) or of the full unbatched
            shape.
        aligned_lsbs: the same after the shift of each input, scalar or (c,).
        lsb: value of one accumulator step, the gain left aside.
        gain: factor ``s * 2**-k`` of the rescale, formats left aside, (c,).
        step: value of one weight step, (c,), 1 without weights.
        rescaled_lsb: value of one step of what the rescale gives, None for an accumulator.
        output_lsb: value of one output step, another one where a table follows.
        table: output integers of the function, (n,) or per channel (n, c).
        qmax_value: the ReLU's maximum, in accumulator integers.
        qkernel: integers of the weights.
        qbias: integers of the bias.
        qpad_value: values on the input's grid that stand around the input.
    """

    input_lsbs: list[Tensor]
    aligned_lsbs: list[Tensor]
    lsb: Tensor
    gain: Tensor
    step: Tensor
    rescaled_lsb: Tensor | None
    output_lsb: Tensor | None
    table: Tensor | None = None
    qmax_value: Tensor | None = None
    qkernel: Tensor | None = None
    qbias: Tensor | None = None
    qpad_value: Tensor | None = None

    @property
    def multiplier(self) -> Tensor:
        """``scale * 2**-shift`` of the rescale; of an accumulator, the value of one step."""
        if self.rescaled_lsb is None:
            return self.lsb * self.gain
        return self.gain / self.rescaled_lsb * self.lsb  # gain times lsb may be subnormal
