"""quantkeras: trained networks to integers, with Keras and the integer program bit-identical.

Importing this package imports nothing else: each public name is fetched from its module when it
is first asked for (PEP 562), so that `quantkeras.runtime` and `quantkeras.numerics` stay usable
where neither Keras nor onnx is installed.
"""

from importlib import import_module
from typing import Any

from quantkeras._former_paths import install
from quantkeras._version import __version__

install()

_PUBLIC = {
    "quantize": "quantkeras.api",
    "calibrate": "quantkeras.api",
    "convert": "quantkeras.api",
    "convert_parts": "quantkeras.api",
    "export_onnx": "quantkeras.onnx",
    "from_onnx": "quantkeras.onnx.onnx_models",
    "calibrate_onnx": "quantkeras.onnx.runtime_quantizer",
    "quantize_onnx": "quantkeras.onnx.runtime_quantizer",
    "coverage": "quantkeras.api",
    "load_model": "quantkeras.api",
    "params_of": "quantkeras.api",
    "resized": "quantkeras.api",
    "plot_graph": "quantkeras.api",
    "save_model": "quantkeras.api",
    "set_ranges": "quantkeras.qat",
    "retrain": "quantkeras.qat",
    "live_batchnorm": "quantkeras.qat",
    "reestimate_batchnorm": "quantkeras.qat",
    "fold_batchnorm": "quantkeras.qat",
    "Distiller": "quantkeras.qat",
    "DampenOscillations": "quantkeras.qat",
    "FreezeRanges": "quantkeras.qat",
    "OscillationMeter": "quantkeras.qat",
    "ProgressiveBits": "quantkeras.qat",
    "verify": "quantkeras.api",
    "adaround": "quantkeras.ptq",
    "auto_quantize": "quantkeras.ptq",
    "mixed_precision": "quantkeras.ptq",
    "sensitivity": "quantkeras.ptq",
    "correct_bias": "quantkeras.ptq",
    "equalize": "quantkeras.ptq",
    "QuantizationParams": "quantkeras.quantization.params",
    "FixedPoint": "quantkeras.numerics",
    "Program": "quantkeras.runtime",
    "sanitize": "sanitize",
    "PATTERNS": "sanitize",
    "custom_pattern_scope": "sanitize",
}
"""Public name -> the module that defines it."""

__all__ = [
    "DampenOscillations",
    "Distiller",
    "FreezeRanges",
    "OscillationMeter",
    "ProgressiveBits",
    "FixedPoint",
    "PATTERNS",
    "Program",
    "QuantizationParams",
    "__version__",
    "adaround",
    "auto_quantize",
    "calibrate",
    "calibrate_onnx",
    "convert",
    "convert_parts",
    "correct_bias",
    "coverage",
    "custom_pattern_scope",
    "equalize",
    "export_onnx",
    "fold_batchnorm",
    "from_onnx",
    "live_batchnorm",
    "load_model",
    "mixed_precision",
    "params_of",
    "plot_graph",
    "quantize",
    "quantize_onnx",
    "reestimate_batchnorm",
    "resized",
    "sanitize",
    "save_model",
    "sensitivity",
    "retrain",
    "set_ranges",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Fetches the public `name` from its module, once: afterwards it is an ordinary attribute."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
