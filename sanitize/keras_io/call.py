"""One call of a Keras layer or operation, as the entries of the reader see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..shapes import Shape

Array = NDArray[Any]


@dataclass(frozen=True)
class Slot:
    """Stands in a call's arguments for the tensor number ``index`` that flows in."""

    index: int


@dataclass(frozen=True)
class Emitted:
    """A node that an entry has made: its name is ``suffix`` behind the name of the layer."""

    kind: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    weights: Mapping[str, Array]
    suffix: str


@dataclass
class Call:
    """What an entry works with.

    ``values`` and ``shapes`` describe the tensors that flow in, unbatched; ``args`` and ``kwargs``
    are the arguments with a :class:`Slot` for each tensor. ``outputs`` are unbatched shapes.
    An entry calls :meth:`emit` once or more, and the last one makes the output, unless it lists
    the values of all outputs in ``results``; or it returns False before it has emitted anything,
    and the call becomes opaque with ``reason``, which is empty where no entry knows the operation.
    """

    operation: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    values: Sequence[str]
    shapes: Sequence[Shape]
    dtypes: Sequence[str]
    outputs: Sequence[Shape]
    batched: bool
    emitted: list[Emitted] = field(default_factory=list)
    reason: str = ""
    results: list[str] = field(default_factory=list)

    @property
    def only_one_tensor(self) -> bool:
        """Whether the call is ``operation(tensor)``."""
        return len(self.values) == 1 and isinstance(self.args[0] if self.args else None, Slot)

    @property
    def last(self) -> str:
        """A reference to the node that was emitted last."""
        return f"\0{len(self.emitted) - 1}"

    def refuse(self, reason: str) -> bool:
        """Say why the call is not understood, as a sentence about "it"; returns False."""
        self.reason = reason
        return False

    def emit(
        self,
        kind: str,
        inputs: Sequence[str] | None = None,
        attrs: Mapping[str, Any] | None = None,
        weights: Mapping[str, Any] | None = None,
        suffix: str = "",
    ) -> str:
        """Make a node; returns a reference for the ``inputs`` of the nodes that follow."""
        arrays = {
            key: np.asarray(value, np.float32)
            for key, value in (weights or {}).items()
            if value is not None
        }
        chosen = tuple(self.values if inputs is None else inputs)
        self.emitted.append(Emitted(kind, chosen, dict(attrs or {}), arrays, suffix))
        return self.last


#: Reads one call; False when the call is not understood (and nothing was emitted).
Entry = Callable[[Call], bool]


def to_numpy(value: Any) -> Array:
    """A NumPy array of a Keras variable, backend tensor, NumPy array or Python number."""
    return np.asarray(keras.ops.convert_to_numpy(value))


def compact(array: Array, rank: int) -> Array | None:
    """A constant without batch axis and without leading axes of size 1; None if it has a batch.

    ``rank`` is the rank of the unbatched tensor that the constant meets.
    """
    if array.ndim > rank + 1 or (array.ndim == rank + 1 and array.shape[0] != 1):
        return None
    while array.ndim and array.shape[0] == 1:
        array = array[0]
    return array


def argument(call: Call, position: int, name: str, default: Any = None) -> Any:
    """An argument of the call, wherever it stands."""
    return call.args[position] if len(call.args) > position else call.kwargs.get(name, default)


def operands_of(call: Call) -> tuple[Any, Any] | None:
    """The two operands of a binary operation, constants as arrays; None when they are not two."""
    given = [*call.args, *call.kwargs.values()]
    if len(given) != 2:
        return None
    first, second = (
        value if isinstance(value, Slot) else np.asarray(to_numpy(value), np.float64)
        for value in given
    )
    return first, second
