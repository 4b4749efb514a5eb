"""Hardware layers as integer ONNX operators: an array namespace whose tensors are graph values.

:func:`~quantkeras.numerics.layer.run_layer` with :class:`OnnxArrays` adds the nodes of one layer to
a graph, in the order of the layer equation. Every tensor is of an integer type that holds, as the
bounds of the layer prove, all numbers that are formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...numerics.arrays import IntArrays
from ...numerics.bounds import LayerBounds
from ...numerics.layer import LayerParams, Slices
from ...numerics.layer_windows import Pads, Pool, Window
from ..layer_builder import LayerBuilder, Shape, Tensor
from ..onnx_movements import emit_concat, emit_permute, emit_reshape, emit_slice, emit_upsample
from ..onnx_windows import (
    emit_global_sum,
    emit_max_pool,
    emit_sum_pool,
    emit_widened,
    pad_map,
    window_attributes,
)
from .integer_products import INT32_LIMIT, emit_product
from .integer_rescale import emit_rescale

ELEMENTWISE_OPERATORS = {
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "maximum": "Max",
    "minimum": "Min",
}


class Shifted(NamedTuple):
    """An input that still has to be shifted left: products do it in their weights."""

    tensor: Tensor
    shift: npt.NDArray[np.int64]

    @property
    def shape(self) -> Shape:
        """Unbatched shape."""
        return self.tensor.shape


Value = Tensor | Shifted


def holder(largest: int) -> type[np.signedinteger[Any]]:
    """The type of ONNX arithmetic that holds numbers of that magnitude."""
    return np.int32 if largest < INT32_LIMIT else np.int64


class OnnxArrays:
    """Operations of one layer; see :class:`~quantkeras.numerics.layer.Arrays`.

    Tensors come in as what earlier layers store, bytes mostly, and become int32 or int64 with
    the first arithmetic.
    """

    def __init__(self, builder: LayerBuilder, layer: str, bounds: LayerBounds) -> None:
        self._builder = builder
        self._layer = layer
        self._bounds = bounds
        self._type = holder(bounds.peak)

    def finished(self, x: Value) -> Tensor:
        """What `run_layer` returned, as a tensor of the graph."""
        return self._plain(x)

    # -- the core ----------------------------------------------------------------------------

    def align(self, x: Tensor, shift: Any) -> Shifted:
        """``x << shift``, done where it is cheapest."""
        return Shifted(x, np.asarray(shift, np.int64))

    def conv2d(self, x: Value, weights: Any, window: Window, groups: int, pad_value: Any) -> Tensor:
        """ConvInteger; what padding with pad_value adds is a constant per position."""
        x, kernel = self._folded(x, weights, groups)
        wide = emit_widened(self._builder, x, window)
        acc = self._convolution(wide, kernel.transpose(3, 2, 0, 1), window, x.shape, groups)
        if pad_value is None:
            return acc
        blank = np.zeros((1, *x.shape), np.int64)
        border = IntArrays().conv2d(blank, weights, window, groups, pad_value)[0]
        return self._builder.operate("Add", acc, border)

    def depthwise_conv2d(self, x: Value, weights: Any, window: Window, pad_value: Any) -> Tensor:
        """ConvInteger with a group per channel."""
        channels = x.shape[2]
        x, kernel = self._folded(x, np.swapaxes(weights, 2, 3), 1, axis=3)
        wide = emit_widened(self._builder, x, window)
        stacked = kernel.transpose(3, 2, 0, 1).reshape(-1, 1, *window.size)
        acc = self._convolution(wide, stacked, window, x.shape, channels)
        if pad_value is None:
            return acc
        blank = np.zeros((1, *x.shape), np.int64)
        border = IntArrays().depthwise_conv2d(blank, np.asarray(weights), window, pad_value)[0]
        return self._builder.operate("Add", acc, border)

    def dense(self, x: Value, weights: Any) -> Tensor:
        """MatMulInteger over the last axis; for a map, a ConvInteger of one pixel."""
        x, matrix = self._folded(x, weights, 1, axis=0)
        if x.is_map:
            kernel = matrix.T[:, :, None, None]
            return self._convolution(x, kernel, Window((1, 1)), x.shape, 1)
        name = emit_product(
            self._builder,
            x,
            matrix,
            1,
            self._layer,
            self._type,
            partial(self._builder.node, "MatMulInteger"),
        )
        return Tensor(name, self._type, (*x.shape[:-1], matrix.shape[1]))

    def elementwise(self, kind: str, x: Value, y: Value) -> Tensor:
        """Sum, difference, maximum, minimum or product of two tensors that broadcast."""
        x, y = self._wide(x), self._wide(y)
        name = self._builder.combine(ELEMENTWISE_OPERATORS[kind], x, y.name)
        return Tensor(name, self._type, np.broadcast_shapes(x.shape, y.shape))

    def add_bias(self, acc: Value, bias: Any, shift: Any) -> Tensor:
        """``acc + (bias << shift)``, per channel."""
        bias = np.asarray(bias, np.int64)
        values = bias if shift is None else bias << np.asarray(shift, np.int64)
        return self._builder.operate("Add", self._wide(acc), values)

    # -- what follows it ---------------------------------------------------------------------

    def max_pool(self, x: Value, window: Window) -> Tensor:
        """MaxPool of bytes, comparisons of wider integers."""
        return emit_max_pool(self._builder, self._plain(x), window)

    def sum_pool(self, x: Value, pool: Pool) -> Tensor:
        """Sums over windows, times the border factors."""
        total = holder(max(self._bounds.total_peak, self._bounds.peak))
        x = self._builder.cast(self._plain(x), total)
        if pool.window is None:
            return emit_global_sum(self._builder, x, pool.keepdims)
        sums = emit_sum_pool(self._builder, x, pool.window)
        factors = pool.border_factors(x.shape[:2])
        return sums if factors is None else self._builder.operate("Mul", sums, factors)

    def relu(self, x: Value, max_value: Any) -> Tensor:
        """``clip(x, 0, max_value)``."""
        x = self._builder.operate("Max", self._wide(x), 0)
        if max_value is None:
            return x
        # A limit beyond the type limits nothing.
        limits = np.minimum(np.asarray(max_value, np.int64), np.iinfo(np.dtype(x.dtype)).max)
        return self._builder.operate("Min", x, limits)

    def rescale(self, acc: Value, params: LayerParams) -> Tensor:
        """``saturate((acc * scale + 2**(shift-1)) >> shift)``."""
        x = self._plain(acc)
        if np.dtype(x.dtype).itemsize < 4:
            x = self._builder.cast(x, self._type)
        return emit_rescale(self._builder, x, params, self._bounds.total, self._layer)

    def lookup(self, y: Value, table: Any, qmin: int) -> Tensor:
        """Gather from one list; the columns of a table per channel are joined to one."""
        entries, first = np.asarray(table, np.int64), np.array(-qmin)
        if entries.ndim == 2:
            first = np.arange(entries.shape[1]) * len(entries) - qmin
        index = self._builder.cast(self._plain(y), np.int32)
        if np.any(first):
            index = self._builder.operate("Add", index, first)
        stored = byte_type(int(entries.min()), int(entries.max())) or np.int32
        listed = self._builder.constant(entries.T.reshape(-1), stored)
        return index._replace(
            name=self._builder.node("Gather", [listed, index.name]), dtype=np.dtype(stored)
        )

    # -- movements ---------------------------------------------------------------------------

    def concat(self, xs: Sequence[Value], axis: int) -> Tensor:
        """In the type that holds all of them."""
        parts = [self._plain(x) for x in xs]
        kind = np.result_type(*(part.dtype for part in parts))
        if np.dtype(kind).itemsize == 2:
            kind = np.dtype(np.int32)
        return emit_concat(self._builder, [self._builder.cast(part, kind) for part in parts], axis)

    def reshape(self, x: Value, shape: tuple[int, ...]) -> Tensor:
        """The elements in channels-last order under another shape."""
        return emit_reshape(self._builder, self._plain(x), shape)

    def permute(self, x: Value, dims: tuple[int, ...]) -> Tensor:
        """Transpose."""
        return emit_permute(self._builder, self._plain(x), dims)

    def pad(self, x: Value, pads: Pads) -> Tensor:
        """Zeros around height and width."""
        return pad_map(self._builder, self._plain(x), pads, 0)

    def slice(self, x: Value, slices: Slices) -> Tensor:
        """``x[:, start:stop:step, ...]``."""
        return emit_slice(self._builder, self._plain(x), slices)

    def upsample(self, x: Value, size: tuple[int, int]) -> Tensor:
        """Rows and columns repeated."""
        return emit_upsample(self._builder, self._plain(x), size)

    # -- parts -------------------------------------------------------------------------------

    def _plain(self, x: Value) -> Tensor:
        """With its shift done."""
        if isinstance(x, Tensor):
            return x
        wide = self._builder.cast(x.tensor, self._type)
        factors = np.int64(1) << x.shift
        if (factors == 1).all():
            return wide
        moved = self._builder.operate("Mul", wide, factors)
        low, high = ((limit << int(x.shift.max())) for limit in (wide.low, wide.high))
        return moved._replace(low=low, high=high)

    def _wide(self, x: Value) -> Tensor:
        """In the type of the layer's arithmetic."""
        return self._builder.cast(self._plain(x), self._type)

    def _folded(
        self, x: Value, weights: Any, groups: int, axis: int = 2
    ) -> tuple[Tensor, npt.NDArray[np.int64]]:
        """The input without a shift per channel, which its weights take over.

        axis: of the weights' input channels.
        """
        kernel = np.asarray(weights, np.int64)
        if isinstance(x, Tensor):
            return x, kernel
        if x.shift.size not in (1, x.shift.shape[-1] if x.shift.ndim else 1):
            return self._plain(x), kernel
        channels = np.broadcast_to(x.shift.reshape(-1), (x.shape[-1],))
        if groups == 1:
            wide = channels.reshape([-1 if i == axis else 1 for i in range(kernel.ndim)])
            return x.tensor, kernel << wide
        depth, count = kernel.shape[2], kernel.shape[3] // groups
        each = channels.reshape(groups, depth).repeat(count, axis=0).T
        return x.tensor, kernel << each

    def _convolution(
        self, x: Tensor, kernel: Any, window: Window, shape: Shape, groups: int
    ) -> Tensor:
        """kernel: (out, in / groups, kh, kw); x: widened; shape: unbatched, before that."""
        attributes = window_attributes(window, window.pads(shape[:2]))
        if groups > 1:
            attributes["group"] = groups
        name = emit_product(
            self._builder,
            x,
            kernel,
            0,
            self._layer,
            self._type,
            partial(self._builder.node, "ConvInteger", **attributes),
        )
        size = window.output_size(shape[:2])
        return Tensor(name, self._type, (*size, kernel.shape[0]))


def byte_type(low: int, high: int) -> npt.DTypeLike | None:
    """The type of a byte that holds low .. high; None if there is none."""
    if low >= 0 and high <= 255:
        return np.uint8
    return np.int8 if low >= -128 and high <= 127 else None
