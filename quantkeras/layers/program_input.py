"""What an InputQuantizer is in a program."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from ..runtime import ProgramInput
from .quantizers import InputQuantizer


def program_input(name: str, shape: tuple[Any, ...], layer: InputQuantizer) -> ProgramInput:
    """Make the input of a program that quantizes as a layer does.

    Args:
        name: of the input.
        shape: unbatched; sizes may be unknown.
        layer: the layer.

    Returns:
        The input.
    """
    scale = ops.convert_to_numpy(layer.scale).astype(np.float32)
    offset = ops.convert_to_numpy(layer.offset).astype(np.float32) if layer.has_offset else None
    return ProgramInput(
        name,
        shape,
        layer.output_format(shape).numpy().compact(),
        None if (scale == 1).all() else scale,
        None if offset is None or not offset.any() else offset,
    )
