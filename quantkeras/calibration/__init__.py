"""Ranges of activations from samples: observers, sample streams and the calibration loop.

Names are loaded when they are first asked for: observers and samples need neither Keras nor each
other.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "calibrate": "loop",
    "calibrate_on": "loop",
    "open_samples": "loop",
    "make_observer": "observers",
    "iterate_samples": "samples",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
