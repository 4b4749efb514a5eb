"""The two ends of an exported program: floats or pixels to integers, integers to floats.

They compute what :meth:`ProgramInput.quantize` and :meth:`ProgramLayer.dequantize` define, bit for
bit, in every runtime that rounds a single float operation correctly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sanitize.onnx_io.protos import value_info

from ...numerics.interval import FLOAT32_EXACT
from ...numerics.rounding import pow2
from ...runtime import ProgramInput, ProgramLayer
from ..layer_builder import BATCH, FROM_MAP, TO_MAP, LayerBuilder, Tensor
from .integer_arrays import byte_type, holder


def storage(low: int, high: int) -> npt.DTypeLike:
    """The type in which integers low .. high are kept between layers."""
    return byte_type(low, high) or holder(max(-low, high))


def graph_input(entry: ProgramInput, dtype: npt.DTypeLike, first: bool) -> object:
    """The description of an input of the graph. first: a map comes channels first."""
    placed = Tensor(entry.name, dtype, tuple(entry.shape))
    return value_info(entry.name, dtype, (BATCH, *(placed.stored if first else entry.shape)))


def emit_input(
    builder: LayerBuilder, entry: ProgramInput, dtype: npt.DTypeLike, first: bool
) -> Tensor:
    """The integers of an input of type float32, uint8 (pixels), or of the format's own storage
    type for integers that need no quantization.
    """
    fmt = entry.format
    x = Tensor(entry.name, np.dtype(dtype), tuple(entry.shape), fmt.qmin, fmt.qmax)
    if x.is_map and not first:
        x = x._replace(name=builder.to_order(x, TO_MAP))
    return x


def emit_quantization(builder: LayerBuilder, entry: ProgramInput, x: Tensor) -> Tensor:
    """The integers of an input (see :meth:`ProgramInput.quantize`), as they are stored."""
    fmt = entry.format
    kept = storage(fmt.qmin, fmt.qmax)
    if x.dtype == np.uint8:
        table = _pixel_table(entry, x.shape[-1])
        if table is not None:
            return _looked_up(builder, x, table, kept)
    values = builder.cast(x, np.float32)
    if entry.offset is not None and np.any(entry.offset):
        values = builder.operate("Sub", values, entry.offset)
    if entry.scale is not None and (np.asarray(entry.scale) != 1).any():
        values = builder.operate("Mul", values, entry.scale)
    # In float64 the powers of two and the half are exact, or change nothing: floor(x + 0.5) of a
    # float32 is its rounding half up.
    values = builder.cast(values, np.float64)
    if fmt.frac.any():
        values = builder.operate("Mul", values, pow2(fmt.frac))
    values = builder.operate("Min", builder.operate("Max", values, fmt.qmin), fmt.qmax)
    values = builder.operate("Add", values, 0.5)
    values = values._replace(name=builder.node("Floor", [values.name]))
    return builder.cast(values, kept)


def emit_output(builder: LayerBuilder, layer: ProgramLayer, y: Tensor, bound: int) -> Tensor:
    """Float32 values of the integers of a layer, of magnitude up to ``bound``.

    One product of float32 where the integers are float32 numbers; otherwise one of float64.
    """
    fmt = layer.output_format
    if fmt is not None:
        step: npt.ArrayLike = pow2(-fmt.frac)
    else:
        assert layer.output_scale is not None
        step = layer.output_scale
    carried = np.float32 if bound <= FLOAT32_EXACT else np.float64
    values = builder.cast(y, carried)
    if (np.asarray(step) != 1).any():
        values = builder.operate("Mul", values, step)
    return builder.cast(values, np.float32)


def emit_order(builder: LayerBuilder, y: Tensor, first: bool) -> Tensor:
    """A map in the order that the user asked for."""
    if y.is_map and not first:
        return y._replace(name=builder.to_order(y, FROM_MAP))
    return y


def _pixel_table(entry: ProgramInput, channels: int) -> npt.NDArray[np.int64] | None:
    """Integers of the 256 pixels, (256,) or (256, channels); None if positions differ."""
    zero, one = np.zeros((), np.float32), np.ones((), np.float32)
    arrays: list[npt.NDArray[Any]] = [
        entry.format.frac,
        one if entry.scale is None else np.asarray(entry.scale),
        zero if entry.offset is None else np.asarray(entry.offset),
    ]
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    if any(size > 1 for size in shape[:-1]):
        return None
    row = () if not shape or shape[-1] == 1 else (channels,)
    frac, scale, offset = (np.broadcast_to(array.reshape(-1), row or (1,)) for array in arrays)
    one_row = ProgramInput("", (len(frac),), entry.format.with_frac(frac), scale, offset)
    pixels = np.arange(256, dtype=np.float32)[:, None]
    return one_row.quantize(np.broadcast_to(pixels, (256, len(frac)))).reshape(256, *row)


def _looked_up(
    builder: LayerBuilder, x: Tensor, table: npt.NDArray[np.int64], kept: npt.DTypeLike
) -> Tensor:
    if kept == np.uint8 and np.array_equal(table, np.arange(256)):
        return x
    index = builder.cast(x, np.int32)
    if table.ndim == 2:
        index = builder.operate("Add", index, np.arange(table.shape[1]) * 256)
    listed = builder.constant(table.T.reshape(-1), kept)
    return index._replace(name=builder.node("Gather", [listed, index.name]), dtype=np.dtype(kept))
