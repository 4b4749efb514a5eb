"""ONNX models checked and written, and the package onnx, which that takes."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelFileError, QuantizationError
from ..files.writing import replacing

if TYPE_CHECKING:
    import onnx

LARGEST_MESSAGE = 2**31 - 1
"""Bytes of the largest protobuf message; weights beyond it lie in a file of their own."""


def save_onnx(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Write a model; above 2 GB its weights go to a file ``path + ".data"`` beside it."""
    import onnx

    target = Path(path)
    if not target.parent.is_dir():
        raise ModelFileError(f"{str(target)!r}: there is no folder {str(target.parent)!r}")
    with replacing(target) as temporary:
        if model.ByteSize() <= LARGEST_MESSAGE:
            temporary.write_bytes(model.SerializeToString())
            return
        data = f"{temporary.name}.data"
        onnx.save(model, temporary, save_as_external_data=True, location=data)


def check_onnx(model: onnx.ModelProto) -> None:
    """What the checker objects to would be a fault of ours; it cannot read above 2 GB."""
    import onnx.checker

    if model.ByteSize() <= LARGEST_MESSAGE:
        onnx.checker.check_model(model, full_check=True)


def require_onnx() -> None:
    """Raises QuantizationError unless the package onnx can be imported."""
    try:
        importlib.import_module("onnx")
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise QuantizationError(
            "ONNX models need the package onnx; install it with: pip install quantkeras[onnx]"
        ) from error
