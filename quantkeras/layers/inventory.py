"""What all the quantized layers of a model have: quantizers, carriers, compiled steps."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import keras

from ..errors import QuantizationError
from .hardware_layer import HardwareLayer
from .merges import ElementwiseLayer
from .quantizers import InputQuantizer
from .weighted_layer import WeightedLayer

_MAKER = "quantize makes one, of an ONNX model with as_onnx=False"


def choose_carriers(layers: Iterable[Any]) -> None:
    """Let each layer that joins tensors element by element choose carriers for the present ranges.

    Weighted layers choose theirs when their weights are fitted.

    Args:
        layers: those of a model.

    Raises:
        AccumulatorTooWide: where the backend has no type that is exact for one.
    """
    layers = list(layers)
    can_move = any(quantizer.range_mode != "frozen" for quantizer in quantizers_of(layers))
    for layer in layers:
        if isinstance(layer, ElementwiseLayer):
            layer.choose_carriers(can_move)


def layers_of(model: keras.Model) -> list[Any]:
    """The layers of a model, those of models inside it in their place.

    Args:
        model: any model.

    Returns:
        Its layers, without the models inside.
    """
    found: list[Any] = []
    for layer in model.layers:
        found += layers_of(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def hardware_layers_of(model: keras.Model) -> list[HardwareLayer]:
    """The hardware layers of a model, those of models inside it in their place.

    Args:
        model: a quantized model.

    Returns:
        Each of them once for each place where its model stands.

    Raises:
        QuantizationError: it has no quantized layers.
    """
    check_quantized(model)
    return [layer for layer in layers_of(model) if isinstance(layer, HardwareLayer)]


def is_quantized(model: keras.Model) -> bool:
    """Whether a model has quantized layers, itself or in the models in it.

    Args:
        model: any model.

    Returns:
        True if it has.
    """
    return any(isinstance(x, HardwareLayer | InputQuantizer) for x in layers_of(model))


def check_quantized(model: Any, verb: str = "") -> None:
    """Refuse all but models with quantized layers.

    Args:
        model: what is looked at.
        verb: what the message calls the function that takes them.

    Raises:
        QuantizationError: with the remedy, for all else.
    """
    if not isinstance(model, keras.Model):
        file = isinstance(model, str | os.PathLike)
        what = repr(os.fspath(model)) if file else type(model).__name__
        raise QuantizationError(
            f"{verb or 'this'} takes a quantized keras.Model, not {what}; "
            + ("load files with load_model" if file else _MAKER)
        )
    if not is_quantized(model):
        purpose = f" to {verb}" if verb else ""
        raise QuantizationError(
            f"model {model.name!r} has no quantized layers{purpose}; call quantize first"
        )


def forget_compiled(model: keras.Model) -> None:
    """Drop the compiled steps of a model, which hold its layers as they were.

    Args:
        model: the model; those in it are looked at, too.
    """
    for compiled in ("train_function", "test_function", "predict_function"):
        setattr(model, compiled, None)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            forget_compiled(layer)


def quantizers_of(layers: Iterable[Any]) -> list[Any]:
    """Find the quantizers of a model's layers whose ranges are calibrated or trained.

    Args:
        layers: those of a model.

    Returns:
        The quantizers, in order.
    """
    found: list[Any] = []
    for layer in layers:
        if isinstance(layer, InputQuantizer) and not layer.integer_input:
            found.append(layer)
        if isinstance(layer, HardwareLayer):
            own = (layer.table_quantizer, layer.output_quantizer)
            found += [quantizer for quantizer in own if quantizer is not None]
        if isinstance(layer, WeightedLayer):
            found.append(layer.weight_quantizer)
    return found
