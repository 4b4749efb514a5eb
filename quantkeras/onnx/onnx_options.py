"""Choices of an export to ONNX that all its forms share."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import QuantizationError

LAYOUTS = ("nhwc", "nchw")
INPUT_TYPES = ("float32", "uint8", "integer")
OUTPUT_TYPES = ("float32", "integer")


@dataclass(frozen=True)
class OnnxOptions:
    """What the user feeds and reads.

    input_layout, output_layout: of maps, "nhwc" or "nchw". input_type: "float32" as the program
    takes it; "uint8" for pixels, which are quantized like the same floats; "integer" for integers
    of the input's format. output_type: "float32" values or "integer". opset: None for the oldest
    that serves. Raises QuantizationError for other words.
    """

    input_layout: str = "nhwc"
    output_layout: str = "nhwc"
    input_type: str = "float32"
    output_type: str = "float32"
    opset: int | None = None

    def __post_init__(self) -> None:
        choices = {
            "input_layout": LAYOUTS,
            "output_layout": LAYOUTS,
            "input_type": INPUT_TYPES,
            "output_type": OUTPUT_TYPES,
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise QuantizationError(
                    f"{name} is {' or '.join(map(repr, known))}, not {getattr(self, name)!r}"
                )

    @property
    def inputs_first(self) -> bool:
        """Whether input maps come channels first."""
        return self.input_layout == "nchw"

    @property
    def outputs_first(self) -> bool:
        """Whether output maps leave channels first."""
        return self.output_layout == "nchw"

    @property
    def integer_outputs(self) -> bool:
        """Whether the outputs stay integers."""
        return self.output_type == "integer"
