"""The one table of what hardware layers there are, and what they have in common.

What a kind computes stands in :mod:`quantkeras.numerics.layer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Flag, auto


class Trait(Flag):
    """What kinds of hardware layers have in common."""

    WEIGHTED = auto()
    """It has integer weights."""
    WINDOWED = auto()
    """Its weights slide over a map: it has a window."""
    MERGES = auto()
    """It takes two inputs or more."""
    ELEMENTWISE = auto()
    """It merges number with number, all shifted to one frac first but those of a product."""
    PAIRS = auto()
    """It merges exactly two inputs."""
    PASSES = auto()
    """Its core computes nothing: numbers pass as they are, and zeros between them."""
    MOVES = auto()
    """It puts the numbers of its one input elsewhere."""
    VIEWS = auto()
    """Its output is its input under another shape, in the same memory."""


_MOVE = Trait.PASSES | Trait.MOVES

KINDS: Mapping[str, Trait] = {
    "conv2d": Trait.WEIGHTED | Trait.WINDOWED,
    "depthwise_conv2d": Trait.WEIGHTED | Trait.WINDOWED,
    "dense": Trait.WEIGHTED,
    "add": Trait.MERGES | Trait.ELEMENTWISE,
    "subtract": Trait.MERGES | Trait.ELEMENTWISE | Trait.PAIRS,
    "maximum": Trait.MERGES | Trait.ELEMENTWISE,
    "minimum": Trait.MERGES | Trait.ELEMENTWISE,
    "multiply": Trait.MERGES | Trait.ELEMENTWISE | Trait.PAIRS,
    "concat": Trait.MERGES | Trait.PASSES,
    "identity": Trait.PASSES,
    "flatten": _MOVE | Trait.VIEWS,
    "reshape": _MOVE | Trait.VIEWS,
    "permute": _MOVE,
    "pad": _MOVE,
    "slice": _MOVE,
    "upsample": _MOVE,
}
"""By name."""


def kinds_with(traits: Trait) -> tuple[str, ...]:
    """Names of the kinds with all of these traits, in the order of the table."""
    return tuple(kind for kind, found in KINDS.items() if traits in found)
