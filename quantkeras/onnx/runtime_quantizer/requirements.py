"""The packages that quantizing ONNX models takes, which quantkeras itself does without."""

from __future__ import annotations

import importlib

from ...errors import QuantizationError


def require(*packages: str) -> None:
    """Raises QuantizationError, naming the extra, unless all packages can be imported."""
    for package in packages:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            if error.name != package:
                raise
            raise QuantizationError(
                f"quantizing ONNX models needs the package {package}; install it with: "
                "pip install quantkeras[onnx]"
            ) from error
