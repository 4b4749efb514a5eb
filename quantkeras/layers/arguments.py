"""What Keras and users hand to a layer: tensors, shapes and configs, one or several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

Tensor = Any


def per_channel(lsb: Tensor) -> Tensor:
    """The finest step of each channel, where steps differ by position as well."""
    return ops.min(lsb, axis=tuple(range(len(lsb.shape) - 1))) if len(lsb.shape) > 1 else lsb


def deserialized(value: Any) -> Any:
    """A sub-layer from its config, or itself.

    The layer that owns it builds it, so that the paths of its variables begin with that layer's
    name: optimizers tell variables apart by their paths.
    """
    if isinstance(value, Mapping):
        config = {key: entry for key, entry in value.items() if key != "build_config"}
        return keras.saving.deserialize_keras_object(config)
    return value


def as_list(inputs: Any) -> list[Any]:
    """The tensors of a call as a list."""
    return list(inputs) if isinstance(inputs, list | tuple) else [inputs]


def is_list_of_shapes(shape: Any) -> bool:
    """Whether it is the shapes of several inputs."""
    return bool(shape) and isinstance(shape[0], list | tuple)
