"""Programs for other runtimes. ONNX is imported where it is used."""

from .encodings import Encoding, read_encodings
from .onnx_export import export_onnx
from .preset_ranges import encoding_observers

__all__ = ["Encoding", "encoding_observers", "export_onnx", "read_encodings"]
