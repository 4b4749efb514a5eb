"""The public verbs: quantize, calibrate, convert, verify, load_model, save_model and so on."""

from __future__ import annotations

from sanitize import sanitize

from .analysis import coverage, plot_graph
from .calibration import calibrate
from .conversion import convert, convert_parts, verify
from .layers import resized
from .model_io import load_model, save_model
from .provenance import params_of
from .qat import set_ranges
from .quantization import quantize

__all__ = [
    "calibrate",
    "convert",
    "convert_parts",
    "coverage",
    "load_model",
    "params_of",
    "plot_graph",
    "quantize",
    "resized",
    "sanitize",
    "save_model",
    "set_ranges",
    "verify",
]
