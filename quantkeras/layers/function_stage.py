"""The end of a hardware layer: an element-wise function by table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from . import exact_ops as exact
from .element_function import prelu, row_of
from .layer_numbers import LayerNumbers

Tensor = Any


class FunctionStage:
    """Mixin of HardwareLayer: what it does with its element-wise function, if it has one.

    The integers that the rescale gives, on the grid of ``table_quantizer``, enter the table; what
    leaves it is on the grid of ``output_quantizer``. The slope of a prelu is the weight ``alpha``
    (c,), and its table one per channel.
    """

    function: Any  # an ElementFunction, or None
    table_quantizer: Any  # OutputQuantizers, or None
    output_quantizer: Any
    add_weight: Callable[..., Any]

    def _build_function(self, channels: int) -> None:
        if self.function is None:
            return
        if self.function.is_prelu:
            self.alpha = self.add_weight(name="alpha", shape=(channels,), initializer="zeros")
        else:
            self.function.rows(self.table_quantizer.bits, self.table_quantizer.signed)

    @property
    def rescale_quantizer(self) -> Any:
        """The quantizer of what the rescale gives: the table's or the output's; None without."""
        return self.output_quantizer if self.table_quantizer is None else self.table_quantizer

    def _function_values(self, numbers: LayerNumbers) -> Tensor:
        """Values of the function, times the ratio, for all integers that can enter it: (n,), or
        (n, c) for a prelu.
        """
        quantizer = self.table_quantizer
        if self.function.is_prelu:
            integers = np.arange(quantizer.qmin, quantizer.qmax + 1, dtype=np.float32)[:, None]
            x = ops.convert_to_tensor(integers) * ops.stop_gradient(numbers.rescaled_lsb)
            return prelu(x, self.alpha) * self.output_quantizer.ratio
        rows = self.function.rows(quantizer.bits, quantizer.signed)
        return self._present_row(rows.values)

    def _present_row(self, rows: np.ndarray) -> Tensor:
        """The row (n,) for the step that enters the table now, times the ratio."""
        exponent = ops.stop_gradient(self.table_quantizer.exponents())
        return row_of(rows, exponent) * self.output_quantizer.ratio[0]

    def _rounded(self, values: Tensor, numbers: LayerNumbers) -> Tensor:
        """Output integers of values, with straight-through gradients."""
        quantizer = self.output_quantizer
        return exact.round_through(values / numbers.output_lsb, quantizer.qmin, quantizer.qmax)

    def _trained_function(self, y: Tensor, numbers: LayerNumbers) -> Tensor:
        """Output integers for integers y that enter the table, with gradients to everything."""
        if self.function.is_prelu:
            values = prelu(y * numbers.rescaled_lsb, self.alpha) * self.output_quantizer.ratio
        else:
            quantizer = self.table_quantizer
            rows = self.function.rows(quantizer.bits, quantizer.signed)
            table, slopes = self._present_row(rows.values), self._present_row(rows.slopes)
            x, index = y * numbers.rescaled_lsb, ops.stop_gradient(y)
            values = exact.look_up_through(x, index, table, slopes, quantizer.qmin)
        return self._rounded(values, numbers)

    def float_function(self, y: Tensor) -> Tensor:
        """Compute the unquantized meaning of the element-wise function, times its ratio.

        Args:
            y: what enters the function, values.

        Returns:
            The output of the layer.
        """
        alpha = self.alpha if self.function.is_prelu else None
        return self.function.on_tensor(y, alpha) * self.output_quantizer.ratio

    def _scale_function(self, factor: np.ndarray) -> np.ndarray:
        ratio = self.output_quantizer.ratio
        ratio.assign((ops.convert_to_numpy(ratio) * factor).astype(np.float32))
        return np.asarray(factor, np.float64)
