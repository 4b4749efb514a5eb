"""Layers where floats become integers and integers floats again: the ends of what is integer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras import ops

from ..errors import TrainingWarning
from .activation_ranges import LOWEST, PACKAGE, OutputQuantizer
from .tensor_format import TensorFormat

Tensor = Any


@keras.saving.register_keras_serializable(PACKAGE)
class InputQuantizer(OutputQuantizer):
    """The way in: floats become values on the grid, ``round((x - offset) * scale / lsb) * lsb``.

    Weights: those of OutputQuantizer, ``scale`` (c,), float32, by which inputs are multiplied, and
    with has_offset ``offset`` (c,), float32, in the unit of the inputs.

    Args:
        integer_input: the inputs are integers of ``bits`` already (raw images): lsb and scale are
            1, or the same power of two, so that integers stay what they are.
        has_offset: there is an offset to subtract, for inputs that are far from zero; what reads
            the values has it in its bias.
        **kwargs: those of OutputQuantizer.
    """

    def __init__(
        self, integer_input: bool = False, has_offset: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.integer_input = integer_input
        self.has_offset = has_offset

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.scale = self.add_weight(
            name="scale", shape=(input_shape[-1],), initializer="ones", trainable=False
        )
        if self.has_offset:
            self.offset = self.add_weight(
                name="offset", shape=(input_shape[-1],), initializer="zeros", trainable=False
            )
        if self.integer_input:
            self.take_integers()

    def take_integers(self) -> None:
        """Let inputs be the integers themselves; the scale is to be 1 still."""
        self.integer_input = True
        self.range_mode = "frozen"
        self.log2_range.assign(np.full(self.log2_range.shape, self.value_bits, np.float32))
        if self.bordered:
            self.least_exponent.assign(np.full(self.log2_range.shape, LOWEST, np.float32))

    def output_format(self, shape: tuple[int | None, ...]) -> TensorFormat:
        """Tell the format of the output to the layers that follow.

        Args:
            shape: of the output, unbatched.

        Returns:
            The format.
        """
        return self.tensor_format(shape, self.name)

    def float_call(self, values: Tensor) -> Tensor:
        """Compute the unquantized meaning, float32 of whatever type the input has.

        The difference and then the product are each rounded once to float32.

        Args:
            values: what the model is fed, (n, ..., c).

        Returns:
            ``(values - offset) * scale``.
        """
        values = ops.cast(values, "float32")
        if self.has_offset:
            values = values - self.offset
        return values * self.scale

    def take_range_of_one(self) -> np.ndarray:
        """Let integer inputs stand for values of magnitude 1; returns the factor (c,) of values."""
        self.log2_range.assign(np.zeros(self.log2_range.shape, np.float32))
        return self.scale_output(np.exp2(-self.value_bits) / np.asarray(self.scale))

    def scale_output(self, factor: np.ndarray) -> np.ndarray:
        """Multiply the output by a factor.

        Args:
            factor: (c,).

        Returns:
            The factor, float64.
        """
        self.scale.assign((ops.convert_to_numpy(self.scale) * factor).astype(np.float32))
        self.ratio.assign(ops.convert_to_numpy(self.scale))
        return np.asarray(factor, np.float64)

    def call(self, values: Tensor, training: bool | None = None) -> Tensor:
        scaled = self.float_call(values)
        if training and self.range_mode == "moving" and not self.integer_input:
            self.follow(scaled)
        return super().call(scaled)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {"integer_input": self.integer_input, "has_offset": self.has_offset}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(PACKAGE)
class Dequantizer(keras.layers.Layer):
    """Marks the way back to float. Values pass unchanged: they are floats on a grid already.

    In the integer program this is where an integer is multiplied by its float32 scale.

    ``hints``: what is told once, as warnings, when the model begins to train: those of the
    provenance, and others that files do not keep.

    Args:
        reasons: why the layers behind it are float, layer name -> sentence, for reports.
        provenance: where the layers of the model come from, see ``quantization.provenance``;
            JSON-able, {} or None if not known.
        **kwargs: those of a Keras layer.
    """

    def __init__(
        self,
        reasons: Mapping[str, str] | None = None,
        provenance: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.reasons = dict(reasons or {})
        self.set_provenance(provenance or {})

    def set_provenance(self, config: Mapping[str, Any]) -> None:
        """Keep it as a whole: Keras would follow each list and dict in an ordinary attribute.

        Args:
            config: of the provenance, JSON-able.
        """
        self.provenance = MappingProxyType(dict(config))
        self.hints: tuple[str, ...] = tuple(config.get("hints", ()))

    def get_config(self) -> dict[str, Any]:
        own = {"reasons": dict(self.reasons), "provenance": dict(self.provenance)}
        return {**super().get_config(), **own}

    def call(self, values: Tensor, training: bool | None = None) -> Tensor:
        if training:  # said while a step is traced, or run, for the first time
            hints, self.hints = self.hints, ()
            for hint in hints:
                warnings.warn(hint, TrainingWarning, stacklevel=2)
        return values

    def load_own_variables(self, store: Any) -> None:
        """The weights are others now: what was said of the former ones says nothing of these."""
        self.hints = tuple(self.provenance.get("hints", ()))
        super().load_own_variables(store)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
