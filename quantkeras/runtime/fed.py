"""Whether what a user feeds looks like what a program was calibrated for.

Data that are prepared in another way than the samples were (0..1 in place of 0..255, or the other
way round) are legal numbers, and what comes out of them is worthless. Told is only what no data of
the kind of the samples do: a good deal of it far beyond the range of the input, or all of it within
a few of its steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputMismatchWarning, QuantizationError
from .parts import ProgramInput

Array = npt.NDArray[Any]

BEYOND = 0.25
"""Values that leave the range by more than this part of its width are far beyond it."""
SHARE = 0.25
"""So many of the values that are not zero have to be."""
TINY = 1 / 64
"""Part of the range's width that data of the right kind exceed somewhere."""
ADVICE = "Prepare the data as the calibration samples were."
LOOKED_AT = 2**18
"""Numbers of an input that are looked at, spread over the samples."""


def check_fed(
    inputs: Iterable[ProgramInput],
    arrays: Mapping[str, Array],
    told: set[str],
    stacklevel: int = 3,
    beyond: float = BEYOND,
    refuse: bool = True,
) -> None:
    """Warn of each input whose array was prepared for something else, once.

    arrays: (n, *shape) by input. told: names of inputs that were warned of; grows. beyond: replaces
    BEYOND. refuse: raise QuantizationError, in place of a warning, for fractions that rounding to
    the integers of an integer input leaves next to nothing of.
    """
    for entry in inputs:
        if entry.name not in told:
            fault, hopeless = _fault(entry, _some(arrays[entry.name]), beyond)
            if hopeless and refuse:
                raise QuantizationError(fault)
            if fault:
                told.add(entry.name)
                warnings.warn(fault, InputMismatchWarning, stacklevel=stacklevel)


def _fault(entry: ProgramInput, array: Array, beyond: float) -> tuple[str, bool]:
    """What is wrong, as a sentence, empty if nothing is; and whether nothing is left of them."""
    found = entry.format
    steps = entry.mapped(array) / found.lsb
    width = found.qmax - found.qmin + 1
    far = (steps < found.qmin - beyond * width) | (steps > found.qmax + beyond * width)
    sizes = np.abs(steps)
    if far.sum() > SHARE * (sizes >= 0.5).sum():
        share = f"{far.mean():.0%} of them lie far beyond that and saturate"
        return f"{_facts(entry, array)}: {share}. {ADVICE}", False
    fractions = array.dtype.kind == "f" and bool((array != np.floor(array)).any())
    if not fractions or not 0 < float(sizes.max()) < TINY * width:
        return "", False
    if entry.takes_integers:
        loss = "rounding them to integers leaves next to nothing"
    else:
        loss = f"they fill {sizes.max():.2g} of its {width} steps"
    return f"{_facts(entry, array)}: {loss}. {ADVICE}", entry.takes_integers


def _facts(entry: ProgramInput, array: Array) -> str:
    low, high = limits(entry)
    kind = "the integers" if entry.takes_integers else "numbers"
    return (
        f"input {entry.name!r} is fed {array.dtype} numbers from {array.min():.4g} to "
        f"{array.max():.4g}, and is calibrated for {kind} from {low:.4g} to {high:.4g}"
    )


def limits(entry: ProgramInput) -> tuple[float, float]:
    """The smallest and the largest number that some channel of an input holds."""
    scale = np.float64(1) if entry.scale is None else entry.scale.astype(np.float64)
    offset = np.float64(0) if entry.offset is None else entry.offset.astype(np.float64)
    step = entry.format.lsb / scale
    low, high = entry.format.qmin * step + offset, entry.format.qmax * step + offset
    return float(np.min(low)), float(np.max(high))


def _some(array: Array) -> Array:
    """A part of the samples, evenly spread, where they are very many."""
    return array[:: max(1, array.size // LOOKED_AT)]
