"""ONNX models in, quantized ONNX models out, without a change of framework on the way.

`quantize_onnx` writes integer, QLinear or QDQ operators; `calibrate_onnx` measures the zero points
and scales that the static forms need. Where onnxruntime's own tool does a thing well it is called.
The packages onnx and onnxruntime are imported where they are used.
"""

from .onnx_calibration import calibrate_onnx
from .onnx_quantization import quantize_onnx

__all__ = ["calibrate_onnx", "quantize_onnx"]
