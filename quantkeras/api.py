"""The public verbs: quantize, calibrate, convert, verify, load_model, save_model and so on."""

from __future__ import annotations

from sanitize import sanitize

from .calibration import calibrate
from .conversion import convert, convert_parts, verify
from .files.model_files import load_model, save_model
from .layers import resized
from .qat import set_ranges
from .quantization.provenance import params_of
from .quantization.quantize_model import quantize
from .report import coverage, plot_graph

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
