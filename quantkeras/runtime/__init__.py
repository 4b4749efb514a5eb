"""Integer programs: run, describe, save and load them with NumPy alone."""

from .engines import ENGINES
from .lowered import Lowered, lower
from .parts import FloatTail, ProgramInput, ProgramLayer
from .program import Program

__all__ = [
    "ENGINES",
    "FloatTail",
    "Lowered",
    "Program",
    "ProgramInput",
    "ProgramLayer",
    "lower",
]
