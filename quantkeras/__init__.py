"""quantkeras: trained networks to integers, with Keras and the integer program bit-identical.

Importing this package imports nothing else: each public name is fetched from its module when it
is first asked for (PEP 562), so that `quantkeras.runtime` and `quantkeras.numerics` stay usable
where neither Keras nor onnx is installed.
"""

from importlib import import_module
from typing import Any

from quantkeras._version import __version__

_PUBLIC = {
    "quantize": "quantkeras.api",
    "calibrate": "quantkeras.api",
    "convert": "quantkeras.api",
    "load_model": "quantkeras.api",
    "save_model": "quantkeras.api",
    "set_ranges": "quantkeras.api",
    "verify": "quantkeras.api",
    "QuantizationParams": "quantkeras.params",
    "FixedPoint": "quantkeras.numerics",
    "Program": "quantkeras.runtime",
    "sanitize": "sanitize",
}
"""Public name -> the module that defines it."""

__all__ = [
    "FixedPoint",
    "Program",
    "QuantizationParams",
    "__version__",
    "calibrate",
    "convert",
    "load_model",
    "quantize",
    "sanitize",
    "save_model",
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
