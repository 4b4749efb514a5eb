"""What `verify` found: layer by layer, with the first difference in full."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..terminal.text_tables import plain_table, print_table

Array = npt.NDArray[Any]

HEADER = ("layer", "elements", "differing", "largest, in steps", "format")


@dataclass(frozen=True, eq=False)
class FirstDifference:
    """One element that the Keras model and the program do not agree about.

    Attributes:
        layer: name of the layer (or of a program input, or of an output of `predict`).
        sample: which of the samples, in the order in which they were compared.
        position: in the unbatched tensor.
        keras: the model's integer, in steps of the layer's output format; not whole where the value
            does not lie on that grid.
        program: the program's.
        inputs: the integers of this sample that the layer reads, by name.
        fed: that sample, by input name, without a batch axis.
    """

    layer: str
    sample: int
    position: tuple[int, ...]
    keras: int | float
    program: int | float
    inputs: dict[str, Array]
    fed: dict[str, Array]

    def __str__(self) -> str:
        return (
            f"first difference: layer {self.layer!r}, sample {self.sample}, position "
            f"{self.position}: Keras {self.keras}, program {self.program}"
        )


@dataclass(frozen=True, eq=False)
class LayerResult:
    """One layer's comparison.

    Attributes:
        name: of the layer, the program input or the output.
        elements: how many were compared.
        differing: how many of them differ.
        largest: the largest difference in steps of the layer's output format (of an accumulator, of
            its least significant bit).
        format: of what is compared, in words.
        samples: numbers of the samples that differ, rising.
        first: the first element that differs, None if none does.
        note: how the formats differ, where they do.
    """

    name: str
    elements: int
    differing: int
    largest: float
    format: str
    samples: tuple[int, ...] = field(repr=False)
    first: FirstDifference | None = field(repr=False)
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        return (
            self.name,
            f"{self.elements:,}",
            f"{self.differing:,}",
            f"{self.largest:g}" if self.differing else "-",
            self.format,
        )


@dataclass(frozen=True, eq=False)
class VerifyReport:
    """Result of `verify`.

    Attributes:
        model: the model's name.
        layers: in the order of the program, then the outputs of `predict`.
        samples: how many were compared.
    """

    model: str
    layers: tuple[LayerResult, ...]
    samples: int

    @property
    def exact(self) -> bool:
        """Whether every element agrees."""
        return not any(layer.differing for layer in self.layers)

    @property
    def elements(self) -> int:
        """How many elements were compared."""
        return sum(layer.elements for layer in self.layers)

    @property
    def first_layer(self) -> LayerResult | None:
        """The first layer, in the order of computation, that differs: the others may follow it."""
        return next((layer for layer in self.layers if layer.differing), None)

    @property
    def first_difference(self) -> FirstDifference | None:
        """The first differing element of the first layer that differs."""
        return None if self.first_layer is None else self.first_layer.first

    @property
    def samples_that_show_it(self) -> tuple[int, ...]:
        """Numbers of the samples in which the first layer that differs does so."""
        return () if self.first_layer is None else self.first_layer.samples

    @property
    def title(self) -> str:
        """The result in one line."""
        verdict = "exact" if self.exact else "NOT exact"
        return (
            f"{self.model}: {verdict}, {self.elements:,} elements of {len(self.layers)} tensors "
            f"compared on {self.samples:,} samples"
        )

    @property
    def notes(self) -> list[str]:
        """What stands below the table."""
        lines = [f"{layer.name}: {layer.note}" for layer in self.layers if layer.note]
        if self.first_difference is not None:
            shown = ", ".join(map(str, self.samples_that_show_it[:8]))
            more = len(self.samples_that_show_it) - 8
            lines.append(str(self.first_difference))
            lines.append(f"samples that show it: {shown}" + (f" and {more} more" * (more > 0)))
        return lines

    def __str__(self) -> str:
        rows = [layer.cells() for layer in self.layers]
        return "\n".join([self.title, *plain_table(HEADER, rows), *self.notes])

    def show(self) -> None:
        """Print the report, with rich on a terminal."""
        print_table(self.title, HEADER, [layer.cells() for layer in self.layers], self.notes)

    def to_json(self) -> str:
        """The report as JSON text; of the arrays, only the integers at the first difference."""
        first = self.first_difference
        config = {
            "model": self.model,
            "exact": self.exact,
            "samples": self.samples,
            "elements": self.elements,
            "layers": [
                {
                    "name": layer.name,
                    "elements": layer.elements,
                    "differing": layer.differing,
                    "largest": layer.largest,
                    "format": layer.format,
                    "note": layer.note,
                }
                for layer in self.layers
            ],
            "first_difference": None
            if first is None
            else {
                "layer": first.layer,
                "sample": first.sample,
                "position": list(first.position),
                "keras": first.keras,
                "program": first.program,
            },
            "samples_that_show_it": list(self.samples_that_show_it),
        }
        return json.dumps(config, indent=2)


def plain_number(value: float) -> int | float:
    """A whole number as an int, any other as a float."""
    return int(value) if np.isfinite(value) and value == np.floor(value) else float(value)
