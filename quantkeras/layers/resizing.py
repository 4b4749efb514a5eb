"""A quantized model for inputs of another size than those that it was quantized with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from ..errors import QuantizationError
from .inventory import check_quantized, choose_carriers
from .weighted_layer import WeightedLayer

Sizes = Sequence[int | None]


def resized(model: keras.Model, shapes: Mapping[str, Sizes] | Sizes) -> keras.Model:
    """Make a quantized model with the same integers for inputs of other sizes.

    For networks without layers of a fixed size, such as convolutions up to a global pooling: the
    ranges stay those that were calibrated.

    Args:
        model: a quantized model.
        shapes: behind the batch, (h, w, c) for the only input or by name; inputs that are not named
            keep theirs.

    Returns:
        The new model, which shares nothing with the one given.

    Raises:
        QuantizationError: for a model whose layers do not fit such inputs, for one without
            quantized layers, and for names and numbers of axes that are none of its.

    Example:
        ``resized(quantized, (320, 240, 3))``
    """
    check_quantized(model, "resized")
    tensors = keras.tree.flatten(model.input)
    wanted = _by_name(shapes, tensors)
    inputs = [
        keras.Input(wanted.get(tensor.name, tensor.shape[1:]), dtype=tensor.dtype, name=tensor.name)
        for tensor in tensors
    ]
    told = ", ".join(f"{name!r} of {tuple(shape)}" for name, shape in wanted.items())
    try:
        made = keras.models.clone_model(
            model, input_tensors=keras.tree.pack_sequence_as(model.input, inputs)
        )
    except ValueError as error:
        raise QuantizationError(
            f"model {model.name!r} has layers that do not fit inputs {told}: {error}"
        ) from error
    for old, new in zip(model.layers, made.layers, strict=True):
        for before, after in zip(old.weights, new.weights, strict=True):
            if before.shape != after.shape:
                raise QuantizationError(
                    f"layer {old.name!r} does not fit inputs {told}: its weight {before.name!r} of "
                    f"shape {before.shape} would have {after.shape}; quantize a float model of "
                    "that size"
                )
            after.assign(keras.ops.convert_to_numpy(before))
        new.trainable = old.trainable
        if isinstance(new, WeightedLayer):
            new.choose_carriers()
    choose_carriers(made.layers)
    return made


def _by_name(shapes: Mapping[str, Sizes] | Sizes, tensors: Sequence[Any]) -> dict[str, Sizes]:
    if not isinstance(shapes, Mapping):
        if len(tensors) > 1:
            names = [tensor.name for tensor in tensors]
            raise QuantizationError(f"the model has inputs {names}: give their shapes by name")
        shapes = {tensors[0].name: shapes}
    known = {tensor.name: tuple(tensor.shape[1:]) for tensor in tensors}
    for name, shape in shapes.items():
        if name not in known:
            raise QuantizationError(f"no input is named {name!r}; the inputs are {list(known)}")
        if len(shape) != len(known[name]):
            raise QuantizationError(
                f"input {name!r} has the shape {known[name]} behind the batch, not {tuple(shape)}"
            )
    return dict(shapes)
