"""Better post-training quantization without labels: equalize, correct biases, round adaptively.

Names are loaded when they are first asked for.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Ladder": "ladder",
    "RoundingReport": "adaptive_rounding",
    "SensitivityReport": "sensitivities",
    "auto_quantize": "ladder",
    "mixed_precision": "bit_widths",
    "sensitivity": "sensitivities",
    "adaround": "adaptive_rounding",
    "round_adaptively": "adaptive_rounding",
    "BiasReport": "bias_correction",
    "correct_bias": "bias_correction",
    "EqualizationReport": "equalization",
    "equalize": "equalization",
    "equalize_graph": "equalization",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
