"""ONNX models to graphs and back: the only place of the package that knows ONNX."""

try:
    import onnx as _onnx  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "onnx":
        raise
    raise ModuleNotFoundError(
        "reading ONNX models needs the package onnx; install it with: pip install quantkeras[onnx]",
        name="onnx",
    ) from error

from ..onnx_errors import OnnxError, PatternError
from .custom import PatternGraph
from .imported import OnnxImport, Port
from .onnx_reading import import_onnx, read_onnx
from .onnx_writing import write_onnx
from .patterns import PATTERNS, Pattern, custom_pattern_scope, custom_patterns
from .view import OnnxGraph, OnnxNode

__all__ = [
    "OnnxError",
    "OnnxGraph",
    "OnnxImport",
    "OnnxNode",
    "PATTERNS",
    "Pattern",
    "PatternError",
    "PatternGraph",
    "Port",
    "custom_pattern_scope",
    "custom_patterns",
    "import_onnx",
    "read_onnx",
    "write_onnx",
]
