"""Element-wise functions as ONNX operators of opset 17: one operator where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..functions import FUNCTIONS, Emitter
from ..onnx_errors import OnnxError


def write_function(writer: Emitter, x: str, attrs: Mapping[str, Any], name: str) -> str:
    """The function ``attrs["function"]`` of ``x``; ``name``: of the node, for the message."""
    write = FUNCTIONS[attrs["function"]].write
    if write is None:
        raise OnnxError(
            f"node '{name}' is the function '{attrs['function']}', which ONNX has no operators for"
        )
    return write(writer, x, attrs)
