"""Look-up tables: any element-wise function on integers of at most 16 bits.

A table lists the output integer of every input integer, from qmin up, ``y = table[x - qmin]``.
Where the function, or the output's frac, differs per channel, so does the table, and x is looked up
in the column of its channel.
"""

import numpy as np
from numpy.typing import ArrayLike

from ..errors import QuantizationError
from .rounding import Ints, as_int64

MAX_TABLE_BITS = 16


def look_up(table: ArrayLike, x: ArrayLike, qmin: int) -> Ints:
    """Look integers up: table[x - qmin]; per channel if the table is.

    Args:
        table: integers (n,) or (n, channels).
        x: integers (..., channels) in qmin .. qmin + n - 1.
        qmin: what the first entry belongs to.

    Returns:
        Int64 of the shape of x.

    Raises:
        QuantizationError: for an x outside the table.
        TypeError: for what is no integer.
    """
    entries, index = as_int64(table, "table entries"), as_int64(x) - qmin
    if index.size and (index.min() < 0 or index.max() >= entries.shape[0]):
        raise QuantizationError(
            f"integers in [{index.min() + qmin}, {index.max() + qmin}] are outside a table for "
            f"{qmin} .. {qmin + entries.shape[0] - 1}"
        )
    if entries.ndim == 1:
        return np.asarray(entries[index])
    return np.asarray(entries[index, np.arange(entries.shape[1])])
