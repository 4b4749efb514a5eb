"""The ground floor: integers, formats, rounding and what can be proved about them. NumPy only.

value = integer * 2**-frac everywhere; one rounding rule, half up (`rounding`).
"""

from .fixed_point import FixedPoint, Saturation
from .formats import Format
from .interval import Interval, bits_needed, carrier
from .rounding import ceil_log2, pow2, round_half_up, saturate, shift_round
from .tables import look_up
from .weights import scale_to_grid

__all__ = [
    "FixedPoint",
    "Saturation",
    "Format",
    "Interval",
    "carrier",
    "bits_needed",
    "round_half_up",
    "shift_round",
    "saturate",
    "pow2",
    "ceil_log2",
    "look_up",
    "scale_to_grid",
]
