"""What the hardware sees of a quantized layer, worked out once per call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Tensor = Any


@dataclass
class LayerNumbers:
    """The numbers behind one call of a quantized layer, as float32 tensors that hold them exactly.

    input_lsbs: value of one integer step of each input, scalar, (c,) or of the full unbatched
    shape. lsb: value of one accumulator step, the gain left aside. gain: factor ``s * 2**-k`` of
    the rescale, formats left aside, (c,). step: value of one weight step, (c,), 1 without
    weights. output_lsb: value of one output step, None for an accumulator. multiplier:
    ``scale * 2**-shift`` of the rescale; of an accumulator, the value of one step. qmax_value:
    the ReLU's maximum, in accumulator integers. qkernel, qbias: integers. qpad_value: values on
    the input's grid that stand around the input.
    """

    input_lsbs: list[Tensor]
    lsb: Tensor
    gain: Tensor
    step: Tensor
    output_lsb: Tensor | None
    multiplier: Tensor
    qmax_value: Tensor | None = None
    qkernel: Tensor | None = None
    qbias: Tensor | None = None
    qpad_value: Tensor | None = None
