"""Integer programs: run, describe, save and load them with NumPy alone."""

from .parts import FloatTail, ProgramInput, ProgramLayer
from .program import Program

__all__ = ["FloatTail", "Program", "ProgramInput", "ProgramLayer"]
