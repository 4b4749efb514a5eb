"""Look-up tables: any element-wise function on integers of at most 16 bits.

A table lists the output integer of every input integer, from qmin up, so that

    y = table[x - qmin],    table[i] = output.quantize(function((i + qmin) * input.lsb))         (1)

The function is evaluated once per input value in float64 and the result rounded half up: the only
rounding there is, beside the function's own. Where frac differs per channel, of the input or of
the output, so does the table, and x is looked up in the column of its channel.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import NonFiniteError, QuantizationError
from .formats import Format
from .rounding import Ints, as_int64

MAX_TABLE_BITS = 16

Function = Callable[[NDArray[np.float64]], NDArray[np.floating]]


def build_table(function: Function, input_format: Format, output_format: Format) -> Ints:
    """Tabulates an element-wise function.

    function: takes float64 values of any shape, returns as many finite ones.
    Returns int64 (2**bits,), or (2**bits, channels) if one of the formats is per channel.
    Raises QuantizationError for more than 16 bits or formats that vary along other axes, and
    NonFiniteError naming the input value at which the function is not finite.
    """
    if input_format.bits > MAX_TABLE_BITS:
        raise QuantizationError(
            f"a table of {input_format.bits} bits is too large; {MAX_TABLE_BITS} at most"
        )
    entry, result = input_format.compact(), output_format.compact()
    if max(entry.frac.ndim, result.frac.ndim) > 1:
        raise QuantizationError("a table needs formats per tensor or per channel")
    integers = np.arange(entry.qmin, entry.qmax + 1, dtype=np.int64)
    if entry.frac.ndim or result.frac.ndim:
        channels = np.broadcast_shapes(entry.frac.shape, result.frac.shape)[0]
        integers = np.broadcast_to(integers[:, None], (integers.size, channels))
    values = np.asarray(integers * entry.lsb, dtype=np.float64)
    outputs = np.asarray(function(values), dtype=np.float64)
    if outputs.shape != values.shape:
        raise QuantizationError(
            f"the function turned shape {values.shape} into {outputs.shape}; it must be "
            "element-wise"
        )
    finite = np.isfinite(outputs)
    if not finite.all():
        raise NonFiniteError(f"the function is not finite at {values[~finite].flat[0]:g}")
    return result.quantize(outputs)


def look_up(table: ArrayLike, x: ArrayLike, qmin: int) -> Ints:
    """Returns table[x - qmin], for integers x (..., channels); per channel if the table is."""
    entries, index = as_int64(table, "table entries"), as_int64(x) - qmin
    if index.size and (index.min() < 0 or index.max() >= entries.shape[0]):
        raise QuantizationError(
            f"integers in [{index.min() + qmin}, {index.max() + qmin}] are outside a table for "
            f"{qmin} .. {qmin + entries.shape[0] - 1}"
        )
    if entries.ndim == 1:
        return np.asarray(entries[index])
    return np.asarray(entries[index, np.arange(entries.shape[1])])
