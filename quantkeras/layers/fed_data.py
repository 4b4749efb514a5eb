"""What a user feeds a Keras model, as arrays: looked at while it passes, never consumed.

Arrays are at hand. Of a dataset and of a generator the first batch is kept as it flows by, so that
nothing is read twice. What is none of these, or does not fit the model, is left to Keras.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import GeneratorType
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Look = Callable[[Any], None]
Sizes = dict[str, tuple[int | None, ...]]
"""Unbatched shapes of inputs, by name."""


def named_arrays(x: Any, structure: Any, inputs: Sequence[Any]) -> dict[int, Array]:
    """Arrays of x by the position of their input, in the shapes that the model sees.

    structure, inputs: the KerasTensors of the model, as it nests them and flat. Symbolic tensors,
    and all that is no array of real numbers for an input, are left out.
    """
    found = {}
    for position, value in _by_position(x, structure, inputs):
        array = _array(value)
        if array is not None and array.size:
            fitting = _of_shape(array, inputs[position].shape[1:])
            if fitting is not None:
                found[position] = fitting
    return found


def other_sizes(x: Any, structure: Any, inputs: Sequence[Any]) -> Sizes:
    """Unbatched shapes of arrays and tensors that differ from an input in sizes alone, by its name:
    all axes are there, and as many channels.
    """
    found = {}
    for position, value in _by_position(x, structure, inputs):
        got, wanted = getattr(value, "shape", None), inputs[position].shape
        if got is None or getattr(got, "rank", 1) is None or len(got) != len(wanted):
            continue
        sizes = tuple(got)[1:]
        differ = any(None not in (a, b) and a != b for a, b in zip(sizes, wanted[1:], strict=True))
        if len(sizes) > 1 and differ and sizes[-1] == wanted[-1]:
            found[inputs[position].name] = tuple(int(n) if n else n for n in sizes)
    return found


def _by_position(x: Any, structure: Any, inputs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    if isinstance(x, Mapping):
        nested = isinstance(structure, Mapping)
        named = structure.items() if nested else [(tensor.name, tensor) for tensor in inputs]
        positions = {id(tensor): position for position, tensor in enumerate(inputs)}
        for name, tensor in named:
            if name in x and id(tensor) in positions:
                yield positions[id(tensor)], x[name]
        return
    values = x if isinstance(x, list | tuple) else [x]
    if len(values) == len(inputs):
        yield from enumerate(values)


def _array(value: Any) -> Array | None:
    """As an array of real numbers, if it is one and is at hand."""
    if _is_at_hand(value):
        array = np.asarray(keras.ops.convert_to_numpy(value))
        if array.dtype.name == "bfloat16":
            return array.astype(np.float32)
        if array.dtype.kind in "biuf":
            return array
    return None


def _is_at_hand(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return True
    if isinstance(value, keras.KerasTensor) or not keras.ops.is_tensor(value):
        return False
    backend = keras.backend.backend()
    if backend == "tensorflow":
        # A symbolic tensor has no numpy, a ragged or sparse one is no array.
        return hasattr(value, "numpy") and hasattr(value, "__array__")
    if backend == "jax":
        return not isinstance(value, sys.modules["jax"].core.Tracer)
    return True


def _of_shape(array: Array, shape: Sequence[int | None]) -> Array | None:
    """With the axis of one channel that Keras adds or takes away; None if it does not fit."""
    if array.ndim == len(shape) and shape[-1] == 1:
        array = array[..., None]
    elif array.ndim == len(shape) + 2 and array.shape[-1] == 1:
        array = array[..., 0]
    fits = array.ndim == len(shape) + 1 and all(
        size in (None, got) for size, got in zip(shape, array.shape[1:], strict=True)
    )
    return array if fits else None


def is_read_once(x: Any) -> bool:
    """Whether batches of x have to be looked at as they pass."""
    return isinstance(x, GeneratorType) or _is_dataset(x)


def passed_by(x: Any, look: Look) -> Any:
    """The same generator or tf.data.Dataset, which calls ``look`` with the x of its first batch."""
    return _dataset(x, look) if _is_dataset(x) else _generator(x, look)


def first_batch(x: Any) -> Any:
    """The x of the first batch of a PyDataset; anything else as it is."""
    if isinstance(x, keras.utils.PyDataset):
        return _features(x[0]) if x.num_batches != 0 else None
    return x


def _is_dataset(x: Any) -> bool:
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(x, tensorflow.data.Dataset)


def _features(batch: Any) -> Any:
    """x of (x,), (x, y) or (x, y, weights)."""
    return batch[0] if isinstance(batch, tuple) and batch else batch


def _generator(batches: Any, look: Look) -> Iterator[Any]:
    for count, batch in enumerate(batches):
        if not count:
            look(_features(batch))
        yield batch


def _dataset(dataset: Any, look: Look) -> Any:
    import tensorflow as tf

    spec = _features(dataset.element_spec)
    if not all(isinstance(leaf, tf.TensorSpec) for leaf in tf.nest.flatten(spec)):
        return dataset

    def seen(*arrays: Any) -> None:
        look(tf.nest.pack_sequence_as(spec, list(arrays)))

    def first(index: Any, batch: Any) -> Any:
        tf.cond(
            tf.equal(index, 0),
            lambda: tf.numpy_function(seen, tf.nest.flatten(_features(batch)), []),
            tf.no_op,
        )
        return batch

    return dataset.enumerate().map(first)
