"""The calls of a hardware layer: as the integers compute, as training does, and in plain float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from ..numerics.layer import LayerParams, LayerSpec, run_layer
from ..numerics.windows import Pool
from . import exact_ops as exact
from .arguments import as_list
from .keras_arrays import FloatArrays, SimArrays
from .numbers import LayerNumbers
from .tensor_format import with_lsb

Tensor = Any


class LayerCalls:
    """Mixin of HardwareLayer: what it computes, given its numbers.

    carrier: ``"float32"`` or ``"float64"``, the type that carries the accumulator.
    """

    carrier = "float32"
    name: Any
    rescale_carrier: str
    pool: Pool | None
    gain: Any
    function: Any  # an ElementFunction, or None
    table_quantizer: Any  # OutputQuantizers, or None
    output_quantizer: Any
    numbers: Callable[[bool | None, Sequence[Tensor]], LayerNumbers]
    float_params: Callable[[], LayerParams]
    float_function: Callable[[Tensor], Tensor]
    _params: Callable[[LayerNumbers], LayerParams]
    _trained_function: Callable[[Tensor, LayerNumbers], Tensor]

    @property
    def spec(self) -> LayerSpec:
        """The whole static description of the layer."""
        raise NotImplementedError

    @property
    def pool_area(self) -> int:
        """Number of accumulators that the average pooling adds up; 1 without one."""
        raise NotImplementedError

    def call(self, inputs: Any, training: bool | None = None) -> Tensor:
        if training:
            self._follow_ranges(inputs)
        return self._run(self.numbers(training, as_list(inputs)), inputs, training)

    def soft_call(self, inputs: Any) -> Tensor:
        """What a training step computes, with its gradients; ranges stay where they are."""
        return self._run(self.numbers(True, as_list(inputs)), inputs, True)

    def _run(self, numbers: LayerNumbers, inputs: Any, training: bool | None) -> Tensor:
        y = self._integers(numbers, as_list(inputs), training)
        if numbers.output_lsb is None:
            return y
        return with_lsb(y * numbers.output_lsb, self.output_quantizer.lsb, numbers.output_lsb)

    def _integers(self, numbers: LayerNumbers, xs: Sequence[Tensor], training: bool | None) -> Any:
        """Integers; without an output quantizer the accumulator, dequantized."""
        arrays = self._arrays(numbers, training)
        y = run_layer(self.spec, self._params(numbers), xs, arrays)
        if training and self.function is not None:
            return self._trained_function(y, numbers)
        if self.output_quantizer is not None:
            return y
        return ops.cast(y * ops.cast(numbers.gain, y.dtype), "float32")

    def _arrays(self, numbers: LayerNumbers, training: bool | None) -> SimArrays:
        """What computes a call."""
        return SimArrays(*self._carriers(training))

    def _carriers(self, training: bool | None) -> tuple[str, str, str]:
        """Types of product, pooled sum and rescale; in training float32 is near enough."""
        product, rescale = ("float32",) * 2 if training else (self.carrier, self.rescale_carrier)
        exact.check_carriers(self.name, (product, rescale))
        return product, "float64" if self.sums_in_float64 else product, rescale

    @property
    def sums_in_float64(self) -> bool:
        """Whether an average pooling adds up in float64 (where there is no float64, in float32)."""
        return self.pool is not None and self.pool.kind != "max" and exact.float64_available()

    def float_call(self, inputs: Any) -> Tensor:
        """The unquantized meaning of the layer: what calibration observes."""
        y = self.float_core(inputs)
        return y if self.function is None else self.float_function(y)

    def float_core(self, inputs: Any) -> Tensor:
        """The unquantized meaning of all but the element-wise function."""
        y = run_layer(self.spec, self.float_params(), as_list(inputs), FloatArrays())
        return self._float_gain(y)

    def _float_gain(self, y: Tensor) -> Tensor:
        return y * (self.gain * float(self.pool_area))

    def _follow_ranges(self, inputs: Any) -> None:
        quantizer = self.output_quantizer
        if quantizer is None or quantizer.range_mode != "moving":
            return
        y = self.float_core(inputs)
        if self.function is not None:
            self.table_quantizer.follow(y)
            y = self.float_function(y)
        quantizer.follow(y)
