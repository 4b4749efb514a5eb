"""The ground floor: integers, formats, rounding and what can be proved about them. NumPy only.

value = integer * 2**-frac everywhere; one rounding rule, half up (`rounding`).
"""

from .fixed_point import FixedPoint, Saturation
from .formats import Alignment, Format, align, align_channels, concat_formats
from .interval import Interval, bits_needed, carrier
from .rounding import ceil_log2, floor_log2, pow2, round_half_up, saturate, shift_round
from .tables import build_table, look_up
from .weights import QuantizedWeights, quantize_weights, scale_to_grid

__all__ = [
    "FixedPoint",
    "Saturation",
    "Format",
    "Alignment",
    "align",
    "align_channels",
    "concat_formats",
    "Interval",
    "carrier",
    "bits_needed",
    "round_half_up",
    "shift_round",
    "saturate",
    "pow2",
    "ceil_log2",
    "floor_log2",
    "build_table",
    "look_up",
    "QuantizedWeights",
    "quantize_weights",
    "scale_to_grid",
]
