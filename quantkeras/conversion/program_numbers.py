"""The numbers of one hardware layer, read off a quantized layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from ..errors import NonFiniteError, QuantizationError
from ..layers import HardwareLayer, LayerNumbers, WeightedLayer
from ..numerics.formats import Format
from ..numerics.layer import LayerParams
from ..runtime.field_checks import LARGEST_LEFT_SHIFT


def check_finite(layer: Any) -> None:
    """Raise NonFiniteError for a layer with a weight that is NaN or infinite."""
    for variable in layer.weights:
        if not np.isfinite(as_array(variable, np.float64)).all():
            raise NonFiniteError(
                f"layer {layer.name!r}: its {variable.name} holds NaN or infinity, so it has no "
                "integers. Go back to weights from before the training diverged, and train with a "
                "lower learning rate."
            )


def layer_params(
    layer: HardwareLayer,
    numbers: LayerNumbers,
    formats: list[Format | None],
) -> LayerParams:
    """The integers of one quantized layer for inputs of these formats."""
    params = LayerParams(max_value=_optional_int(numbers.qmax_value))
    aligned = [-_log2(as_array(lsb, np.float64), layer.name) for lsb in numbers.aligned_lsbs]
    params.input_shifts = _input_shifts(layer, aligned, formats)
    if isinstance(layer, WeightedLayer):
        params.weights = _integers(numbers.qkernel)
        params.bias = _optional_int(numbers.qbias)
        if numbers.qpad_value is not None:
            values = as_array(numbers.qpad_value, np.float64)
            if values.any():
                params.pad_value = _integers(np.ldexp(values, aligned[0]))
    params.table = _optional_int(numbers.table)
    quantizer = layer.rescale_quantizer
    if quantizer is not None:
        params.scale, params.shift = _scale_and_shift(layer, numbers)
        params.qmin, params.qmax = quantizer.qmin, quantizer.qmax
    return params


def _input_shifts(
    layer: HardwareLayer, aligned: list[np.ndarray], formats: list[Format | None]
) -> tuple[np.ndarray | None, ...]:
    """Left shifts into the aligned fracs, per input; None where nothing moves."""
    shifts: list[np.ndarray | None] = []
    for found, target in zip(formats, aligned, strict=True):
        assert found is not None
        shift = target - found.frac
        if shift.min() < 0:
            raise QuantizationError(f"layer {layer.name!r}: its input is finer than it expects")
        shifts.append(shift if shift.any() else None)
    return tuple(shifts) if any(s is not None for s in shifts) else ()


def _scale_and_shift(layer: HardwareLayer, numbers: LayerNumbers) -> tuple[np.ndarray, np.ndarray]:
    """``multiplier = scale * 2**-shift`` with scale of scale_bits bits, its top bit set."""
    mantissa, exponent = np.frexp(as_array(numbers.multiplier, np.float64))
    scale = mantissa * 2.0**layer.scale_bits
    if (scale != np.floor(scale)).any():
        raise QuantizationError(
            f"layer {layer.name!r}: its scale does not fit {layer.scale_bits} bits"
        )
    shift = (layer.scale_bits - exponent).astype(np.int64)
    if shift.min(initial=0) < -LARGEST_LEFT_SHIFT:
        raise QuantizationError(
            f"layer {layer.name!r}: the range of its output is 2**{-shift.min()} times finer than "
            "what its weights make; set it again with calibrate(model, samples)"
        )
    return scale.astype(np.int64), shift


def as_array(tensor: Any, dtype: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor)).astype(dtype)


def _integers(tensor: Any) -> np.ndarray:
    values = np.asarray(ops.convert_to_numpy(tensor))
    integers = values.astype(np.int64)
    assert (integers == values).all(), "a number of the hardware layer is not an integer"
    return integers


def _optional_int(tensor: Any) -> np.ndarray | None:
    return None if tensor is None else _integers(tensor)


def _log2(powers: np.ndarray, name: str) -> np.ndarray:
    mantissa, exponent = np.frexp(powers)
    assert (mantissa == 0.5).all(), f"layer {name!r}: a step is not a power of two"
    return np.asarray(exponent - 1, np.int64)
