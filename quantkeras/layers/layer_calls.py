"""The calls of a hardware layer: as the integers compute, as training does, and in plain float."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import keras
from keras import ops

from ..numerics.layer import LayerParams, LayerSpec, run_layer
from ..numerics.layer_windows import Pool
from . import exact_ops as exact
from .arguments import as_list
from .keras_arrays import FloatArrays, SimArrays
from .layer_numbers import LayerNumbers
from .shared_graphs import SharedGraphs, tracing
from .tensor_format import TensorFormat, with_lsb

Tensor = Any

_GRAPHS = SharedGraphs()


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
    scale_bits: int
    variables: list[keras.Variable]
    _input_shapes: list[Any]
    numbers: Callable[[bool | None, Sequence[Tensor]], LayerNumbers]
    _numbers: Callable[[bool | None, Sequence[Tensor]], LayerNumbers]
    float_params: Callable[[], LayerParams]
    float_function: Callable[[Tensor], Tensor]
    _params: Callable[[LayerNumbers], LayerParams]
    _trained_function: Callable[[Tensor, LayerNumbers], Tensor]

    @property
    def spec(self) -> LayerSpec:
        """The whole static description of the layer."""
        raise NotImplementedError

    @property
    def clips(self) -> bool:
        """Whether the ReLU has a maximum."""
        raise NotImplementedError

    @property
    def input_formats(self) -> list[TensorFormat]:
        """Format of each input."""
        raise NotImplementedError

    @property
    def pool_area(self) -> int:
        """Number of accumulators that the average pooling adds up; 1 without one."""
        raise NotImplementedError

    def call(self, inputs: Any, training: bool | None = None) -> Tensor:
        if training:
            self._follow_ranges(inputs)
            return self._run(self.numbers(True, as_list(inputs)), inputs, True)
        xs = as_list(inputs)
        key = self._description() if tracing(xs) else None
        if key is None:
            return self._run(self.numbers(False, xs), inputs, False)
        steps = [f.lsb_of(x) for f, x in zip(self.input_formats, xs, strict=True)]
        y, *lsb = _GRAPHS.run(key, self._outputs, xs, steps, self._inference_variables())
        return with_lsb(y, self.output_quantizer.lsb, lsb[0]) if lsb else y

    def _outputs(self, *tensors: Tensor) -> list[Tensor]:
        """The output in inference and its step, if it has one; tensors: inputs, then steps."""
        count = len(tensors) // 2
        numbers = self._numbers(False, tensors[count:])
        y, lsb = self._integers(numbers, tensors[:count], False), numbers.output_lsb
        return [y] if lsb is None else [y * lsb, lsb]

    def _description(self) -> Hashable | None:
        """What an inference depends on besides tensors and variables; None if not known."""
        own = type(self).__module__.startswith(__package__ + ".")
        user = self.function is not None and "user" in self.function.attrs
        if not own or user or getattr(self, "lora_enabled", False):
            return None
        # Only layers with weights have the last two. Defaults of the class would hide those that an
        # instance has on PyTorch, where layers in layers are found by __getattr__ alone.
        others = (getattr(self, name, None) for name in ("weight_quantizer", "batchnorm"))
        parts = (self.output_quantizer, self.table_quantizer, *others)
        return (
            type(self),
            self.spec,
            self.clips,
            self.scale_bits,
            self.carrier,
            self.rescale_carrier,
            None if self.function is None else tuple(sorted(self.function.attrs.items())),
            tuple(None if part is None else _settings(part) for part in parts),
            tuple(self._input_shapes),
            tuple((f.limits, f.spread, f.shape, f.lsb_shape) for f in self.input_formats),
            tuple(variable.name for variable in self._inference_variables()),
        )

    def _inference_variables(self) -> list[keras.Variable]:
        """Variables that an inference reads."""
        unread = {id(q.ratio) for q in (self.table_quantizer, self.output_quantizer) if q}
        if self.function is not None:
            unread.discard(id(self.output_quantizer.ratio))
        return [variable for variable in self.variables if id(variable) not in unread]

    def soft_call(self, inputs: Any) -> Tensor:
        """Compute what a training step computes, with its gradients; ranges stay where they are.

        Args:
            inputs: tensors, as the layer is called with them.

        Returns:
            The output.
        """
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
        """Compute the unquantized meaning of the layer: what calibration observes.

        Args:
            inputs: tensors, as the layer is called with them.

        Returns:
            The output.
        """
        y = self.float_core(inputs)
        return y if self.function is None else self.float_function(y)

    def float_core(self, inputs: Any) -> Tensor:
        """Compute the unquantized meaning of all but the element-wise function.

        Args:
            inputs: tensors, as the layer is called with them.

        Returns:
            What enters the function.
        """
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


def _settings(part: Any) -> tuple[tuple[str, Any], ...]:
    """The config of a quantizer or batch normalization, hashable, without its name."""
    config = part.get_config()
    return tuple((key, config[key]) for key in sorted(config) if key not in ("name", "dtype"))
