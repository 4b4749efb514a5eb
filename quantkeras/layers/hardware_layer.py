"""The mixin that turns a stock Keras layer into a hardware layer.

A quantized layer is the stock layer plus :class:`HardwareLayer` (with weights:
:class:`~quantkeras.layers.weighted_layer.WeightedLayer`), which owns ``call``. What the hardware
sees is in :meth:`HardwareLayer.numbers`; ``convert`` reads that and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ..numerics.layer import LayerParams, LayerSpec
from ..numerics.layer_shapes import core_shape, output_shape
from ..numerics.layer_windows import Pool
from ..numerics.weights import grid_value, scale_to_grid
from . import exact_ops as exact
from .activation_ranges import OutputQuantizer, keep_frozen
from .arguments import as_list, deserialized, is_list_of_shapes, per_channel, serialized
from .element_function import ElementFunction
from .function_stage import FunctionStage
from .input_links import InputLinks
from .layer_calls import LayerCalls
from .layer_numbers import LayerNumbers
from .tensor_format import TensorFormat
from .weight_quantizer import grid_above

Tensor = Any

WIDEST_ACCUMULATOR = 2.0**52
"""Beyond what any carrier holds exactly."""


class HardwareLayer(LayerCalls, FunctionStage, keras.layers.Layer):
    """Mixin: one hardware layer. Stands before the stock layer class in the bases.

    Args:
        *args: those of the stock layer.
        relu: clip at zero.
        max_value: upper clip in units of values (becomes a weight per channel); None: no such.
        pool: a Pool (or its config) at the end of the layer.
        output_quantizer: an OutputQuantizer (or its config), None to emit the accumulator,
            dequantized.
        scale_bits: width of the multiplier.
        rescale_carrier: ``"float32"`` or ``"float64"``, the type that carries the rescale; None:
            the kind of layer chooses. In float32 the gain takes only as many of its bits as keep
            the products exact.
        function: an element-wise function, as the attributes of an ``activation`` node of the float
            graph, that a table computes at the end.
        table_quantizer: the OutputQuantizer, per tensor, of what enters that table.
        **kwargs: those of the stock layer.
    """

    def __init__(
        self,
        *args: Any,
        relu: bool = False,
        max_value: float | None = None,
        pool: Pool | Mapping[str, Any] | None = None,
        output_quantizer: OutputQuantizer | Mapping[str, Any] | None = None,
        scale_bits: int = 8,
        rescale_carrier: str | None = None,
        function: Mapping[str, Any] | None = None,
        table_quantizer: OutputQuantizer | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(*args, **kwargs)
        self.relu = relu
        self.max_value = max_value
        self.pool = Pool.from_config(pool) if isinstance(pool, Mapping) else pool
        self.output_quantizer = deserialized(output_quantizer)
        self.scale_bits = scale_bits
        self.function = None if function is None else ElementFunction.from_config(function)
        self.table_quantizer = deserialized(table_quantizer)
        self.rescale_carrier = rescale_carrier or self._default_rescale_carrier()
        self._links = InputLinks(self.name)

    def _default_rescale_carrier(self) -> str:
        """Layers without weights keep all bits of their gain."""
        quantizer = self.rescale_quantizer
        wide = quantizer is not None and quantizer.value_bits > 8
        return (
            "float64" if (wide or self.sums_in_float64) and exact.float64_available() else "float32"
        )

    # -- what the subclasses say ---

    def core_spec(self) -> LayerSpec:
        """The stock layer's part of the spec."""
        return LayerSpec("identity")

    def core_channels(self) -> int | None:
        """Output channels of a core with weights, else None."""
        return None

    @property
    def spec(self) -> LayerSpec:
        """The whole static description of this hardware layer."""
        return dataclasses.replace(self.core_spec(), pool=self.pool, relu=self.relu)

    # -- links to the formats of the inputs ---

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        inputs = as_list(args[0]) if args else []
        if any(isinstance(x, keras.KerasTensor) for x in inputs):
            self._links.add(inputs)
        return super().__call__(*args, **kwargs)

    @property
    def input_formats(self) -> list[TensorFormat]:
        """Format of each input, joined over the call sites of a shared layer."""
        return self._links.formats()

    def output_format(self, shape: tuple[int | None, ...]) -> TensorFormat | None:
        """Tell the format of the output to the layers that follow.

        Args:
            shape: of the output, unbatched.

        Returns:
            The format; None if the output is an accumulator.
        """
        quantizer = self.output_quantizer
        return None if quantizer is None else quantizer.tensor_format(shape, self.name)

    # -- state ---

    def build(self, input_shape: Any) -> None:
        shapes = input_shape if is_list_of_shapes(input_shape) else [input_shape]
        self._input_shapes = [tuple(shape)[1:] for shape in shapes]
        self._build_core(input_shape)
        output = self.compute_output_shape(input_shape)
        if self.clips:
            self.clip_value = self.add_weight(
                name="clip_value",
                shape=(output[-1],),
                initializer=keras.initializers.Constant(self.max_value),
                trainable=False,
            )
        self._build_gain(output[-1])
        for quantizer in (self.output_quantizer, self.table_quantizer):
            if quantizer is not None and not quantizer.built:
                quantizer.build(output)
        self._build_function(output[-1])
        keep_frozen(self)
        self.built = True

    def _build_core(self, input_shape: Any) -> None:
        super().build(input_shape)

    def _build_gain(self, channels: int) -> None:
        gain = grid_value(*scale_to_grid(1 / self.pool_area, self.scale_bits))
        self.gain = self.add_weight(
            name="gain",
            shape=(channels,),
            initializer=keras.initializers.Constant(float(gain)),
            trainable=False,
        )

    @property
    def clips(self) -> bool:
        """Whether the ReLU has a maximum."""
        return self.relu and self.max_value is not None

    @property
    def pool_area(self) -> int:
        """Number of accumulators that the average pooling adds up; 1 without one."""
        if self.pool is None or self.pool.kind == "max":
            return 1
        core = core_shape(self.spec, self._input_shapes, self.core_channels(), self.name)
        return self.pool.area(core[:2])

    def compute_output_shape(self, input_shape: Any) -> Any:
        shapes = input_shape if is_list_of_shapes(input_shape) else [input_shape]
        inner = output_shape(self.spec, [tuple(s)[1:] for s in shapes], self.core_channels())
        return (shapes[0][0], *inner)

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        shapes = [tuple(x.shape) for x in as_list(inputs)]
        shape = self.compute_output_shape(shapes if isinstance(inputs, list | tuple) else shapes[0])
        return keras.KerasTensor(shape, dtype="float32")

    # -- the integer program of this layer ---

    def numbers(
        self, training: bool | None = False, inputs: Sequence[Tensor] | None = None
    ) -> LayerNumbers:
        """Work out what the hardware sees of this layer now.

        Args:
            training: leave out the guard of the accumulator (see WeightedLayer), which costs time.
            inputs: the tensors of a call, which may bring their steps along.

        Returns:
            Integers and steps, with gradients.
        """
        formats = self.input_formats
        if inputs is None:
            return self._numbers(training, [f.lsb() for f in formats])
        return self._numbers(training, [f.lsb_of(x) for f, x in zip(formats, inputs, strict=True)])

    def _numbers(self, training: bool | None, steps: Sequence[Tensor]) -> LayerNumbers:
        """:meth:`numbers` for inputs of these steps."""
        lsbs = [ops.stop_gradient(lsb) for lsb in steps]
        aligned = self._aligned_lsbs(lsbs)
        lsb = self._accumulator_lsb(aligned)
        rescaled = None if self.rescale_quantizer is None else self.rescale_quantizer.lsb()
        unit = self._gain_unit(lsb, rescaled)
        gain = self._present_gain(lsb, None if training else lsbs, unit)
        numbers = LayerNumbers(
            input_lsbs=lsbs,
            aligned_lsbs=aligned,
            lsb=lsb,
            gain=gain,
            step=self._step(gain),
            rescaled_lsb=rescaled,
            output_lsb=rescaled,
        )
        if self.clips:
            # A ceiling that no accumulator reaches may be anything, infinity in a tiny step's case.
            reachable = ops.minimum(self.clip_value / numbers.step / lsb, WIDEST_ACCUMULATOR)
            numbers.qmax_value = exact.round_half_up(reachable)  # without gradient
        if self.function is not None:
            numbers.output_lsb = self.output_quantizer.lsb()
            if not training:
                numbers.table = self._rounded(self._function_values(numbers), numbers)
        return numbers

    def _aligned_lsbs(self, lsbs: list[Tensor]) -> list[Tensor]:
        """Inputs are aligned to the finest of them, channel by channel."""
        finest = per_channel(lsbs[0])
        for other in lsbs[1:]:
            finest = ops.minimum(finest, per_channel(other))
        return [finest] * len(lsbs)

    def _accumulator_lsb(self, aligned: list[Tensor]) -> Tensor:
        """Value of one accumulator step for inputs of these steps."""
        return aligned[0]

    def _gain_unit(self, lsb: Tensor, rescaled_lsb: Tensor | None) -> Tensor | None:
        """Power of two of which the gain must be a multiple for an exact rescale in float32."""
        if rescaled_lsb is None or self.rescale_carrier == "float64":
            return None
        unit = exact.float32_unit(self.rescale_quantizer.value_bits)
        return ops.stop_gradient(rescaled_lsb) * unit / lsb

    def _present_gain(
        self, lsb: Tensor, guarded: list[Tensor] | None, unit: Tensor | None
    ) -> Tensor:
        return grid_above(ops.convert_to_tensor(self.gain), self.scale_bits, unit)

    def _step(self, gain: Tensor) -> Tensor:
        return 1.0

    def _params(self, numbers: LayerNumbers) -> LayerParams:
        """Numbers for SimArrays, which computes with values."""
        params = LayerParams()
        if numbers.qmax_value is not None:
            params.max_value = numbers.qmax_value * numbers.lsb
        quantizer = self.rescale_quantizer
        if quantizer is not None:
            params.scale = numbers.gain / numbers.rescaled_lsb
            params.qmin, params.qmax = quantizer.qmin, quantizer.qmax
        params.table = numbers.table
        return params

    def float_params(self) -> LayerParams:
        """Numbers of the unquantized meaning, for FloatArrays."""
        return LayerParams(max_value=self.clip_value if self.clips else None)

    def scale_output(self, factor: np.ndarray) -> np.ndarray:
        """Multiply the output by a factor, as nearly as the gain's grid allows.

        Updates the quantizer's ratio. The gain acts behind a ReLU's clip, which stays as it is.

        Args:
            factor: (c,).

        Returns:
            By what the output really changed, (c,) float64.
        """
        if self.function is not None:
            return self._scale_function(factor)
        before = ops.convert_to_numpy(self.gain).astype(np.float64)
        gain = grid_value(*scale_to_grid(before * factor, self.scale_bits))
        self.gain.assign(gain)
        self.output_quantizer.ratio.assign((gain * np.float64(self.pool_area)).astype(np.float32))
        return np.asarray(gain / before)

    # Conv2D and Dense save only their kernel and bias in .keras files: here, all variables count.

    def save_own_variables(self, store: Any) -> None:
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: Any) -> None:
        keras.layers.Layer.load_own_variables(self, store)

    def get_config(self) -> dict[str, Any]:
        pool = self.pool
        return {
            **super().get_config(),
            "relu": self.relu,
            "max_value": self.max_value,
            "pool": None if pool is None else dataclasses.asdict(pool),
            "output_quantizer": serialized(self.output_quantizer),
            "scale_bits": self.scale_bits,
            "rescale_carrier": self.rescale_carrier,
            "function": None if self.function is None else self.function.to_config(),
            "table_quantizer": serialized(self.table_quantizer),
        }
