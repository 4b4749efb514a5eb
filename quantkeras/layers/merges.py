"""The quantized layers that join tensors: element by element, or by concatenation."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from ..numerics.bounds import Bounded, IntervalArrays
from ..numerics.interval import Interval
from ..numerics.layer import LayerParams, LayerSpec, run_layer
from . import exact_ops as exact
from .activation_ranges import PACKAGE
from .arguments import per_channel
from .hardware_layer import HardwareLayer
from .weighted_layer import FLOAT32_LIMIT

Tensor = Any

register = keras.saving.register_keras_serializable


class ElementwiseLayer(HardwareLayer):
    """Two or more tensors, element by element: shifted to a common frac first, but for a product.

    Args:
        *args: those of the stock layer.
        carrier: the type of the result, "float32" or "float64". How far the steps of the inputs lie
            apart is not bounded, hence float64 for None, unless :meth:`choose_carriers` finds them
            close and they cannot move.
        **kwargs: those of HardwareLayer and of the stock layer.
    """

    kind = ""

    def __init__(self, *args: Any, carrier: str | None = None, **kwargs: Any) -> None:
        widest = "float64" if exact.float64_available() else "float32"
        self.carrier = carrier or widest
        super().__init__(*args, **{"rescale_carrier": widest, **kwargs})

    def core_spec(self) -> LayerSpec:
        return LayerSpec(self.kind)

    def choose_carriers(self, ranges_can_move: bool) -> None:
        """Take float32 for the core and the rescale where the present formats prove it exact.

        Args:
            ranges_can_move: training may change the formats, so nothing is proved by them.

        Raises:
            AccumulatorTooWide: where they do not and the backend has nothing wider.
        """
        quantizer = self.rescale_quantizer
        available = exact.float64_available()
        if available:
            self.carrier = self.rescale_carrier = "float64"
            if ranges_can_move or quantizer is None:
                return
        formats = self.input_formats
        lsbs = [f.lsb() for f in formats]
        aligned = self._aligned_lsbs(lsbs)
        if self._reach(lsbs, aligned) >= FLOAT32_LIMIT:
            exact.check_carriers(self.name, ("float64",))
            return
        self.carrier = "float32"
        if not available:
            self.rescale_carrier = "float32"  # the gain takes as many bits as that keeps exact
            return
        lsb = self._accumulator_lsb(aligned)
        unit = quantizer.lsb() * exact.float32_unit(quantizer.value_bits) / lsb
        whole = self.gain / unit
        if not self.sums_in_float64 and bool(ops.all(ops.equal(whole, ops.floor(whole)))):
            self.rescale_carrier = "float32"

    def _reach(self, lsbs: list[Tensor], aligned: list[Tensor]) -> int:
        """The largest magnitude of the integers that are combined, and of what comes of them."""
        pairs = zip(lsbs, aligned, strict=True)
        steps = [[np.asarray(ops.convert_to_numpy(x), np.float64) for x in pair] for pair in pairs]
        shifts = [np.frexp(lsb / target)[1] - 1 for lsb, target in steps]
        shapes = [f.shape for f in self.input_formats]
        inputs = [Bounded(Interval(*f.limits), f.shape) for f in self.input_formats]
        found: list[Bounded] = []
        run_layer(
            self.core_spec(),
            LayerParams(input_shifts=shifts),
            inputs,
            IntervalArrays(self.name, shapes),
            lambda stage, tensors: found.extend(tensors),
        )
        return max(int(x.interval.partial.max()) for x in found)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "carrier": self.carrier}


@register(PACKAGE)
class QuantizedAdd(ElementwiseLayer, keras.layers.Add):
    """Add [max pool] [ReLU] [average pool]."""

    kind = "add"


@register(PACKAGE)
class QuantizedSubtract(ElementwiseLayer, keras.layers.Subtract):
    """Subtract [max pool] [ReLU] [average pool]."""

    kind = "subtract"


@register(PACKAGE)
class QuantizedMaximum(ElementwiseLayer, keras.layers.Maximum):
    """Maximum [max pool] [ReLU] [average pool]."""

    kind = "maximum"


@register(PACKAGE)
class QuantizedMinimum(ElementwiseLayer, keras.layers.Minimum):
    """Minimum [max pool] [ReLU] [average pool]."""

    kind = "minimum"


@register(PACKAGE)
class QuantizedMultiply(ElementwiseLayer, keras.layers.Multiply):
    """Multiply [max pool] [ReLU] [average pool]: a product of integers, steps multiply as well."""

    kind = "multiply"

    def _aligned_lsbs(self, lsbs: list[Tensor]) -> list[Tensor]:
        return [per_channel(lsb) for lsb in lsbs]

    def _accumulator_lsb(self, aligned: list[Tensor]) -> Tensor:
        return aligned[0] * aligned[1]


@register(PACKAGE)
class QuantizedConcatenate(HardwareLayer, keras.layers.Concatenate):
    """Concatenate; each channel is shifted from its own format into the output's."""

    def core_spec(self) -> LayerSpec:
        return LayerSpec("concat", axis=self.axis if self.axis < 0 else self.axis - 1)

    def _aligned_lsbs(self, lsbs: list[Tensor]) -> list[Tensor]:
        if not self.joins_channels:
            return super()._aligned_lsbs(lsbs)
        return [
            ops.broadcast_to(per_channel(lsb), shape[-1:])
            for lsb, shape in zip(lsbs, self._input_shapes, strict=True)
        ]

    def _accumulator_lsb(self, aligned: list[Tensor]) -> Tensor:
        return ops.concatenate(aligned) if self.joins_channels else aligned[0]

    @property
    def joins_channels(self) -> bool:
        """Whether the inputs are joined along the last axis."""
        return self.core_spec().axis in (-1, len(self._input_shapes[0]) - 1)
