"""Hardware layers in float operators: an array namespace whose tensors are values.

Where ``OnnxArrays`` of the integer form computes the integers of a layer, this one
computes what they stand for: value = integer * step. Convolutions and products have weights
whose step makes their result come out in the steps that the rescale of the layer ends in, so that
nothing is left of the rescale but its rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...numerics.arrays import IntArrays, Movements
from ...numerics.carry import carry, without_leading
from ...numerics.layer import LayerParams, LayerSpec, Slices
from ...numerics.layer_windows import Pads, Pool, Window
from ..layer_builder import LayerBuilder, Shape, Tensor
from ..onnx_movements import emit_concat, emit_permute, emit_reshape, emit_slice, emit_upsample
from ..onnx_windows import emit_average_pool, emit_max_pool, fits, pad_map, window_attributes
from .value_products import emit_bias, emit_convolution, emit_dense, emit_transposed
from .value_styles import Style
from .value_types import Floats, Limits, uniform, zero_point

ELEMENTWISE_OPERATORS = {
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "maximum": "Max",
    "minimum": "Min",
}


class Valued(NamedTuple):
    """A float tensor; step: the value of one integer, broadcastable to the unbatched shape."""

    tensor: Tensor
    step: Floats

    @property
    def shape(self) -> Shape:
        """Unbatched shape."""
        return self.tensor.shape


class ValueArrays:
    """Operations of one layer; see :class:`~quantkeras.numerics.layer.Arrays`.

    step: value of one integer that leaves the layer, () or per output channel; area: by which
    an average pooling divides; bits: of the weights.
    """

    def __init__(
        self,
        builder: LayerBuilder,
        style: Style,
        params: LayerParams,
        step: Floats,
        area: int,
        bits: int,
    ) -> None:
        self._builder = builder
        self._style = style
        self._bits = bits
        self._output_step = step
        # The integers that a table is read at stand for themselves.
        self._step = step if params.table is None else np.ones(())
        gain = np.ones(())
        if params.scale is not None:
            gain = np.asarray(params.scale) * np.exp2(-np.asarray(params.shift, np.float64))
        self._unit = self._step * gain * area

    def finished(self, x: Valued) -> Tensor:
        """What `run_layer` returned, in the steps of the layer's output."""
        return self._with_step(x, self._output_step).tensor

    # -- the core ----------------------------------------------------------------------------

    def align(self, x: Valued, shift: Any) -> Valued:
        """The same values in finer steps."""
        return x._replace(step=x.step / np.exp2(np.asarray(shift, np.float64)))

    def conv2d(
        self, x: Valued, weights: Any, window: Window, groups: int, pad_value: Any
    ) -> Valued:
        """Conv, or ConvTranspose where the input is widened by zeros."""
        kernel = np.asarray(weights, np.int64).transpose(3, 2, 0, 1)
        acc = self._convolution(x, kernel, window, groups)
        blank = np.zeros((1, *x.shape), np.int64)
        return self._bordered(
            acc, pad_value, lambda: IntArrays().conv2d(blank, weights, window, groups, pad_value)
        )

    def depthwise_conv2d(self, x: Valued, weights: Any, window: Window, pad_value: Any) -> Valued:
        """Conv with a group per channel."""
        kernel = np.swapaxes(np.asarray(weights, np.int64), 2, 3).transpose(3, 2, 0, 1)
        stacked = kernel.reshape(-1, 1, *window.size)
        acc = self._convolution(x, stacked, window, x.shape[2])
        blank = np.zeros((1, *x.shape), np.int64)
        return self._bordered(
            acc, pad_value, lambda: IntArrays().depthwise_conv2d(blank, weights, window, pad_value)
        )

    def dense(self, x: Valued, weights: Any) -> Valued:
        """Gemm, MatMul for more axes, a Conv of one pixel for a map."""
        matrix = np.asarray(weights, np.int64)
        if x.tensor.is_map:
            return self._convolution(x, matrix.T[:, :, None, None], Window((1, 1)), 1)
        x = self._even(x)
        unit = np.broadcast_to(self._unit, matrix.shape[1:])
        name = emit_dense(self._builder, self._style, x.tensor, matrix, unit / x.step, self._bits)
        return Valued(Tensor(name, np.float32, (*x.shape[:-1], matrix.shape[1])), unit)

    def elementwise(self, kind: str, x: Valued, y: Valued) -> Valued:
        """One operator; a sum of integers is one of values where the steps agree."""
        shape = np.broadcast_shapes(x.shape, y.shape)
        if kind == "multiply":
            step = x.step * y.step
        else:
            step = x.step
            if (x.step != y.step).any():
                step = np.minimum(x.step, y.step)
                x, y = self._with_step(x, step), self._with_step(y, step)
        names = [x.tensor.name, y.tensor.name]
        name = self._builder.node(ELEMENTWISE_OPERATORS[kind], names)
        return Valued(Tensor(name, np.float32, shape), step)

    def add_bias(self, acc: Valued, bias: Any, shift: Any) -> Valued:
        """Within the operator of the product if that has just been added."""
        integers = np.asarray(bias, np.int64)
        if shift is not None:
            integers = integers << np.asarray(shift, np.int64)
        found = emit_bias(self._builder, self._style, acc.tensor, integers, acc.step)
        return acc._replace(tensor=found)

    # -- what follows it ---------------------------------------------------------------------

    def max_pool(self, x: Valued, window: Window) -> Valued:
        """MaxPool."""
        return x._replace(tensor=emit_max_pool(self._builder, x.tensor, window))

    def sum_pool(self, x: Valued, pool: Pool) -> Valued:
        """The average, whose step is that of the sum by the area."""
        size = x.shape[:2]
        step = x.step / pool.area(size)
        if pool.window is None:
            name = self._builder.node("GlobalAveragePool", [x.tensor.name])
            mean = x.tensor._replace(name=name, shape=(1, 1, x.shape[2]))
            if not pool.keepdims:
                mean = self._builder.reshape_stored(mean, mean.shape[2:], mean.shape[2:])
            return Valued(mean, step)
        assert pool.window.dilation == (1, 1), "pools are not dilated"
        mean = emit_average_pool(self._builder, x.tensor, pool.window)
        factors = pool.border_factors(size)
        if factors is not None and not fits(pool.window, size):
            # Zeros counted as elements of the map.
            mean = self._builder.operate("Mul", mean, factors * pool.window.area / pool.area(size))
        return Valued(mean, step)

    def relu(self, x: Valued, max_value: Any) -> Valued:
        """Relu, or Clip from 0."""
        if max_value is None:
            name = self._builder.node("Relu", [x.tensor.name])
            return x._replace(tensor=x.tensor._replace(name=name))
        limits = np.asarray(max_value, np.int64) * x.step
        top = uniform(limits)
        if top is None:
            clipped = self._builder.operate("Max", x.tensor, 0)
            return x._replace(tensor=self._builder.operate("Min", clipped, limits))
        ends = [self._builder.constant(end, np.float32) for end in (0, top)]
        name = self._builder.node("Clip", [x.tensor.name, *ends])
        return x._replace(tensor=x.tensor._replace(name=name))

    def rescale(self, acc: Valued, params: LayerParams) -> Valued:
        """A gain per channel, mostly 1; the rounding is left to the next QuantizeLinear."""
        gain = np.asarray(params.scale) * np.exp2(-np.asarray(params.shift, np.float64))
        return self._with_step(acc, gain * self._step)._replace(step=self._step)

    def lookup(self, y: Valued, table: Any, qmin: int) -> Valued:
        """Gather from the values of the table; the columns of one per channel are joined."""
        entries, steps = np.asarray(table, np.int64), self._output_step
        if steps.ndim and entries.ndim == 1:
            entries = np.broadcast_to(entries[:, None], (len(entries), len(steps)))
        limits = Limits(qmin, qmin + len(entries) - 1)
        y = self._with_step(y, np.ones(()))
        index = self._style.activation(self._builder, y.tensor, y.step, limits)
        first = np.array(-qmin - zero_point(index.dtype, limits))
        if entries.ndim == 2:
            first = first + np.arange(entries.shape[1]) * len(entries)
        if index.dtype == np.float32:  # values that no quantization has held within the table
            index = index._replace(name=self._builder.node("Round", [index.name]))
            index = self._builder.operate("Max", index, limits.low)
            index = self._builder.operate("Min", index, limits.high)
        index = self._builder.cast(index, np.int32)
        if np.any(first):
            index = self._builder.operate("Add", index, first)
        values = (entries * steps).T.reshape(-1)
        listed = self._builder.initializer("table", values, np.float32)
        name = self._builder.node("Gather", [listed, index.name])
        return Valued(index._replace(name=name, dtype=np.dtype(np.float32)), steps)

    # -- movements ---------------------------------------------------------------------------

    def concat(self, xs: Sequence[Valued], axis: int) -> Valued:
        """Concat."""
        moved = emit_concat(self._builder, [x.tensor for x in xs], axis)
        return Valued(moved, _joined(xs, axis))

    def reshape(self, x: Valued, shape: tuple[int, ...]) -> Valued:
        """The elements in channels-last order under another shape."""
        moved = emit_reshape(self._builder, x.tensor, shape)
        return Valued(moved, _moved(x, LayerSpec("reshape", shape=shape)))

    def permute(self, x: Valued, dims: tuple[int, ...]) -> Valued:
        """Transpose."""
        moved = emit_permute(self._builder, x.tensor, dims)
        return Valued(moved, _moved(x, LayerSpec("permute", dims=dims)))

    def pad(self, x: Valued, pads: Pads) -> Valued:
        """Zeros around height and width."""
        moved = pad_map(self._builder, x.tensor, pads, 0)
        return Valued(moved, _moved(x, LayerSpec("pad", pads=pads)))

    def slice(self, x: Valued, slices: Slices) -> Valued:
        """``x[:, start:stop:step, ...]``."""
        moved = emit_slice(self._builder, x.tensor, slices)
        return Valued(moved, _moved(x, LayerSpec("slice", slices=slices)))

    def upsample(self, x: Valued, size: tuple[int, int]) -> Valued:
        """Resize to the nearest pixel."""
        moved = emit_upsample(self._builder, x.tensor, size)
        return Valued(moved, _moved(x, LayerSpec("upsample", size=size)))

    # -- parts -------------------------------------------------------------------------------

    def _convolution(
        self, x: Valued, kernel: npt.NDArray[np.int64], window: Window, groups: int
    ) -> Valued:
        """kernel: (out, in / groups, kh, kw)."""
        x = self._even(x)
        unit = np.broadcast_to(self._unit, kernel.shape[:1])
        steps = unit / x.step
        shape = (*window.output_size(x.shape[:2]), kernel.shape[0])
        name = emit_transposed(
            self._builder, self._style, x.tensor, kernel, steps, self._bits, window, groups
        )
        if name is None:
            wide = self._widened(x.tensor, window)
            attributes = window_attributes(window, window.pads(x.shape[:2]))
            if groups > 1:
                attributes["group"] = groups
            name = emit_convolution(
                self._builder, self._style, wide, kernel, steps, self._bits, attributes
            )
        return Valued(Tensor(name, np.float32, shape), unit)

    def _widened(self, x: Tensor, window: Window) -> Tensor:
        """Zeros between the pixels: the transposed convolution with a kernel of one."""
        if window.input_dilation == (1, 1):
            return x
        channels = x.shape[2]
        one = self._builder.constant(np.ones((channels, 1, 1, 1)), np.float32)
        strides = list(window.input_dilation)
        name = self._builder.node("ConvTranspose", [x.name, one], strides=strides, group=channels)
        height, width = (window.widened(axis, x.shape[axis]) for axis in (0, 1))
        return x._replace(name=name, shape=(height, width, channels))

    def _bordered(self, acc: Valued, pad_value: Any, border: Callable[[], Any]) -> Valued:
        """With what padding by other values than zero adds, a constant per position."""
        if pad_value is None:
            return acc
        added = border()[0] * acc.step
        return acc._replace(tensor=self._builder.operate("Add", acc.tensor, added))

    def _even(self, x: Valued) -> Valued:
        """With one step for all elements, as sums over channels need."""
        found = uniform(x.step)
        return self._with_step(x, np.asarray(x.step.min() if found is None else found))

    def _with_step(self, x: Valued, step: Floats) -> Valued:
        """The same integers, standing for other values."""
        gain = step / x.step
        if (abs(gain - 1) < 1e-12).all():
            return x._replace(step=step)
        return Valued(self._builder.operate("Mul", x.tensor, gain), step)


def _moved(x: Valued, movement: LayerSpec) -> Floats:
    return _compact(carry(x.step, movement, x.shape))


def _joined(xs: Sequence[Valued], axis: int) -> Floats:
    steps = [np.broadcast_to(x.step, x.shape)[None] for x in xs]
    return _compact(without_leading(Movements().concat(steps, axis)[0]))


def _compact(steps: Floats) -> Floats:
    """One number where all steps are the same."""
    found = uniform(steps)
    return steps if found is None else np.asarray(found)
