"""What an integer program is, as data; ``program.py`` adds the verbs."""

from __future__ import annotations

from dataclasses import dataclass

from ..numerics import Format
from .parts import FloatTail, ProgramInput, ProgramLayer, Shape


@dataclass(frozen=True, eq=False)
class ProgramData:
    """Hardware layers in topological order; inputs and outputs by name.

    outputs: names of layers, in order. float_tail: what the user's model computes in float, behind
    them or in front of the first.
    """

    inputs: tuple[ProgramInput, ...]
    layers: tuple[ProgramLayer, ...]
    outputs: tuple[str, ...]
    float_tail: tuple[FloatTail, ...] = ()
    name: str = "program"

    def __getitem__(self, name: str) -> ProgramLayer:
        """The layer of that name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    def __repr__(self) -> str:
        return f"Program({self.name!r}, {len(self.layers)} layers)"

    @property
    def shapes(self) -> dict[str, Shape]:
        """Unbatched shape of every tensor by name."""
        shapes = {entry.name: tuple(entry.shape) for entry in self.inputs}
        return shapes | {layer.name: tuple(layer.output_shape) for layer in self.layers}

    @property
    def formats(self) -> dict[str, Format | None]:
        """Format of every tensor by name; None for raw accumulators."""
        formats: dict[str, Format | None] = {entry.name: entry.format for entry in self.inputs}
        return formats | {layer.name: layer.output_format for layer in self.layers}
