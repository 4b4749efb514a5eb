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


def serialized(value: Any) -> Any:
    """The config of a sub-layer, or None.

    Without its shapes: the layer that owns it builds it, so that the paths of its variables begin
    with that layer's name. Optimizers tell variables apart by their paths.
    """
    return _without_shapes(keras.saving.serialize_keras_object(value))


def deserialized(value: Any) -> Any:
    """A sub-layer, not built, from its config; or itself."""
    if isinstance(value, Mapping):
        return keras.saving.deserialize_keras_object(_without_shapes(value))
    return value


def _without_shapes(config: Any) -> Any:
    if not isinstance(config, Mapping):
        return config
    return {key: value for key, value in config.items() if key != "build_config"}


def as_list(inputs: Any) -> list[Any]:
    """The tensors of a call as a list."""
    return list(inputs) if isinstance(inputs, list | tuple) else [inputs]


def is_list_of_shapes(shape: Any) -> bool:
    """Whether it is the shapes of several inputs."""
    return bool(shape) and isinstance(shape[0], list | tuple)
