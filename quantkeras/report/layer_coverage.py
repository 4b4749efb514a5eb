"""What became of one layer of the user's model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sanitize.log import shortened

from .covered_parts import Part, Status


@dataclass(frozen=True)
class LayerCoverage:
    """One layer of the user's model.

    Attributes:
        name: the layer's, 'inner/layer' in a nested model.
        type: the layer's class, or the operation.
        status: ``integer``; ``partly``: some of what it does is float; ``float``; ``removed``:
            nothing of it is left to compute; ``input``.
        parts: the layers of the quantized model that are named after it.
        merged_into: layers of the user's model whose hardware layers do the rest of it.
        reason: why (part of) it is float, or which rules removed it.
        rules: those that changed it.
        follows: it is float only because it is behind a layer that is.
    """

    name: str
    type: str
    status: Status
    parts: tuple[Part, ...] = ()
    merged_into: tuple[str, ...] = ()
    reason: str = ""
    rules: tuple[str, ...] = ()
    follows: bool = False

    @property
    def became(self) -> str:
        """What does its work now, in a few words."""
        if self.status == "removed":
            return "removed"
        if self.status == "input":
            return "input"
        own = [part.steps for part in self.parts]
        merged = [f"merged into {shortened(self.merged_into)}"] if self.merged_into else []
        return ", ".join(dict.fromkeys([*own, *merged]))

    @property
    def weights(self) -> str:
        """Width of its weights, which have one step per output channel."""
        bits = dict.fromkeys(part.weight_bits for part in self.parts if part.weight_bits)
        return ", ".join(f"int{n} per channel" for n in bits)

    @property
    def output(self) -> str:
        """Format of what leaves it, if the quantized model has a layer of its own for it."""
        return self.parts[-1].output if self.parts else ""

    @property
    def accumulator(self) -> str:
        """Bits that its accumulators need."""
        bits = [part.accumulator_bits for part in self.parts if part.accumulator_bits is not None]
        return f"{max(bits)} bits" if bits else ""

    @property
    def remark(self) -> str:
        """What the table says in the last column."""
        return f"{self.status}: {self.reason}" if self.reason else ""

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        cells = (self.became, self.weights, self.output, self.accumulator, self.remark)
        return (self.name, self.type, *(cell or "-" for cell in cells[:-1]), cells[-1])

    def to_config(self) -> dict[str, Any]:
        """JSON-able, with the texts of the table."""
        texts = {"became": self.became, "weights": self.weights, "output": self.output}
        config = {**asdict(self), **texts}
        del config["follows"]
        return config
