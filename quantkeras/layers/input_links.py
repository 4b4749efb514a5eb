"""What a quantized layer remembers of the formats of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import QuantizationError
from .tensor_format import TensorFormat, format_of, join_formats


class InputLinks:
    """Formats of the inputs of one layer, one list per call site. Not tracked by Keras."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._sites: list[list[TensorFormat]] = []

    def add(self, tensors: Sequence[Any]) -> None:
        """Note a call on symbolic tensors; QuantizationError if one of them is float."""
        formats = []
        for tensor in tensors:
            found = format_of(tensor)
            if found is None:
                raise QuantizationError(
                    f"quantized layer {self._owner!r} needs quantized inputs, but "
                    f"{tensor._keras_history.operation.name!r} gives floats; put an "
                    "InputQuantizer between them"
                )
            formats.append(found)
        self._sites.append(formats)

    def formats(self) -> list[TensorFormat]:
        """Format of each input, joined over the call sites."""
        if not self._sites:
            raise QuantizationError(
                f"quantized layer {self._owner!r} does not know the format of its input; "
                "build it into a functional model behind an InputQuantizer"
            )
        return [join_formats(position) for position in zip(*self._sites, strict=True)]
