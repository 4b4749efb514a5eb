"""The option --shapes: sizes of inputs that a model leaves open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import QuantizationError

SHAPES_HELP = (
    "sizes behind the batch of inputs that leave them open: 224,224,3, or by name x=3,224,224"
    " (default: those of the samples)"
)


def given_shapes(texts: Sequence[str] | None) -> Any:
    """``["224,224,3"]`` -> (224, 224, 3); ``["a=3,8", "b=4"]`` -> {"a": (3, 8), "b": (4,)}.

    Raises QuantizationError for what is neither.
    """
    if not texts:
        return None
    named = [text.rpartition("=") for text in texts]
    shapes = {name: _sizes(sizes) for name, _, sizes in named}
    if "" not in shapes:
        return shapes
    if len(texts) > 1:
        raise QuantizationError("--shapes: for several inputs write NAME=SIZES for each")
    return shapes[""]


def _sizes(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.replace("x", ",").split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise QuantizationError(
            f"--shapes {text}: sizes are whole numbers with commas between them, as 224,224,3"
        )
    return tuple(map(int, parts))
