"""Quantization-aware training: plain `fit`, with callbacks and a distilling model at hand."""

from .batchnorm_training import fold_batchnorm, live_batchnorm, reestimate_batchnorm
from .distillation import Distiller
from .oscillation import DampenOscillations, OscillationMeter
from .progressive import ProgressiveBits
from .ranges import FreezeRanges, set_ranges
from .recipe import retrain

__all__ = [
    "DampenOscillations",
    "Distiller",
    "FreezeRanges",
    "OscillationMeter",
    "ProgressiveBits",
    "fold_batchnorm",
    "live_batchnorm",
    "reestimate_batchnorm",
    "retrain",
    "set_ranges",
]
