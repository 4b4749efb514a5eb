"""Calls that the graph does not understand: kept, run again, and written again."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from .call import Slot

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class OpaqueCall:
    """``layer(*args, **kwargs)`` with the tensors taken out.

    Calling it with a list of arrays runs the layer in inference mode and returns a list of arrays:
    its outputs, flattened.
    """

    layer: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    dtypes: tuple[str, ...]

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        # Numbers beyond float32 become infinite, as they would in the model.
        with np.errstate(over="ignore"):
            tensors = [
                keras.ops.convert_to_tensor(array, dtype=dtype)
                for array, dtype in zip(arrays, self.dtypes, strict=True)
            ]
        results = keras.tree.flatten(self.apply(self.layer, tensors))
        return [np.asarray(keras.ops.convert_to_numpy(result)) for result in results]

    def apply(self, layer: Any, tensors: Sequence[Any]) -> Any:
        """Call ``layer`` (the original or its clone) on tensors, symbolic ones included."""

        def fill(leaf: Any) -> Any:
            return tensors[leaf.index] if isinstance(leaf, Slot) else leaf

        args, kwargs = keras.tree.map_structure(fill, (self.args, self.kwargs))
        return layer(*args, **kwargs)


@keras.saving.register_keras_serializable(package="sanitize")
class OperationLayer(keras.layers.Layer):
    """A layer around a bare Keras operation, so that a model holds layers only and saves as .h5.

    ``operation``: a stateless ``keras.Operation`` such as ``x[:, 1:]`` or an einsum.
    ``arguments``: [args, kwargs] of its call, with a ``{"slot": i}`` for the i-th input tensor.
    """

    def __init__(self, operation: Any, arguments: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.operation = operation
        # Stored under a key that Keras does not track, so that tuples stay tuples.
        self.arguments = _Constant(arguments)

    def call(self, inputs: Any) -> Any:
        tensors = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        args, kwargs = fill_slots(self.arguments.value, tensors)
        return self.operation.call(*args, **kwargs)

    def compute_output_spec(self, inputs: Any) -> Any:
        tensors = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        args, kwargs = fill_slots(self.arguments.value, tensors)
        return self.operation.compute_output_spec(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "operation": serialize(self.operation),
            "arguments": serialize(self.arguments.value),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OperationLayer:
        config = dict(config)
        for key in ("operation", "arguments"):
            config[key] = keras.saving.deserialize_keras_object(config[key])
        return cls(**config)


@dataclass(frozen=True)
class _Constant:
    value: Any


def with_slots(args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Arguments with plain ``{"slot": i}`` dicts, which serialize, in place of Slot objects."""

    def plain(leaf: Any) -> Any:
        return {"slot": leaf.index} if isinstance(leaf, Slot) else leaf

    result: tuple[Any, Any] = keras.tree.map_structure(plain, (args, kwargs))
    return result


def fill_slots(arguments: Any, tensors: Sequence[Any]) -> Any:
    """The arguments with tensors in place of their ``{"slot": i}``."""
    if isinstance(arguments, dict):
        if set(arguments) == {"slot"}:
            return tensors[arguments["slot"]]
        return {key: fill_slots(part, tensors) for key, part in arguments.items()}
    if isinstance(arguments, (list, tuple)):
        return type(arguments)(fill_slots(part, tensors) for part in arguments)
    return arguments


def operation_layer(
    function: Callable[..., Any],
    name: str | None = None,
    count: int = 1,
    shape: tuple[int | None, ...] = (None, None, None),
) -> OperationLayer:
    """The layer for what ``function`` does with ``count`` tensors of this unbatched shape.

    ``function`` must be a single Keras operation with everything else given, for example
    ``lambda x: keras.ops.clip(x, 1.0, 2.0)``.
    """
    tensors = [keras.KerasTensor((None, *shape)) for _ in range(count)]
    result = keras.tree.flatten(function(*tensors))[0]
    history = result._keras_history
    given = history.operation._inbound_nodes[history.node_index].arguments
    slots = {id(tensor): {"slot": index} for index, tensor in enumerate(tensors)}
    if any(id(tensor) not in slots for tensor in given.keras_tensors):
        raise ValueError(f"{function} is more than one Keras operation")

    def plain(leaf: Any) -> Any:
        return slots.get(id(leaf), leaf)

    arguments = list(keras.tree.map_structure(plain, (given.args, given.kwargs)))
    # The operation itself keeps the tensors of the trial call: a new one does not.
    fresh = type(history.operation).from_config(history.operation.get_config())
    return OperationLayer(fresh, arguments, name=name)


def clone_with_weights(layer: Any, name: str | None = None) -> Any:
    """A new layer of the same class, configuration and weights that is built as the old one."""
    clone = clone_layer(layer, layer.name if name is None else name)
    if clone is not layer and layer.built:
        built = layer.get_build_config()
        if built:
            clone.build_from_config(built)
        clone.set_weights(layer.get_weights())
    return clone


def clone_layer(layer: Any, name: str) -> Any:
    """A new layer of the same class and configuration, without weights yet.

    A layer that cannot be made from its configuration is used again itself, with a warning: the new
    model then shares its weights with the old one.
    """
    if type(layer) is keras.layers.Lambda:
        return keras.layers.Lambda(
            layer.function,
            mask=layer.mask,
            arguments=layer.arguments,
            name=name,
        )
    if type(layer) is keras.layers.Activation:
        # Its function may be one that no configuration can hold.
        return keras.layers.Activation(layer.activation, name=name)
    try:
        config = layer.get_config()
        config["name"] = name
        return type(layer).from_config(config)
    except (NotImplementedError, TypeError, ValueError, KeyError) as error:
        warnings.warn(
            f"layer '{layer.name}' ({type(layer).__name__}) cannot be made from its configuration"
            f" ({error}); the new model uses the same layer object and shares its weights with"
            " the original. Give the class a get_config and from_config that work",
            stacklevel=2,
        )
        return layer
