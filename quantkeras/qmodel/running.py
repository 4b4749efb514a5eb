"""How a batch goes through a model, of this project or of any other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy.typing as npt

from ..layers import unwatched


def run_batch(
    model: keras.Model, batch: Sequence[npt.NDArray[Any]], compiled: bool = True
) -> list[npt.NDArray[Any]]:
    """Outputs of a model, flat, for one batch: an array (n, ...) for each of its inputs.

    compiled: as `predict` runs it; compiling takes longer than a single batch.
    A model made under a distribution strategy of several replicas computes such a batch once in
    each, and Keras gives the results one behind the other: one of them is enough.
    """
    structure = keras.tree.pack_sequence_as(model.input, list(batch))
    with unwatched(model):  # who asks the user for samples checks them
        found = model.predict_on_batch(structure) if compiled else model(structure, training=False)
    outputs = [keras.ops.convert_to_numpy(output) for output in keras.tree.flatten(found)]
    # Not cut to the samples: a value may have several rows for each of them.
    count = _replicas(model) if compiled else 1
    return [output[: len(output) // count] for output in outputs] if count > 1 else outputs


def _replicas(model: keras.Model) -> int:
    """In how many places TensorFlow computes a model at once."""
    if keras.backend.backend() != "tensorflow":
        return 1
    return int(model.distribute_strategy.num_replicas_in_sync)


def compiled_step(model: keras.Model) -> Callable[[Sequence[npt.NDArray[Any]]], list[Any]]:
    """What computes a model's outputs, flat, as :func:`run_batch` does, for batches of any size.

    TensorFlow counts how often the step of `predict` is traced, of all models together, and warns
    the user of too many. A view that lives for one pass over samples is traced once, by itself,
    and not counted.
    """
    if keras.backend.backend() != "tensorflow" or _replicas(model) > 1:
        return lambda batch: run_batch(model, batch)
    import tensorflow as tf

    def outputs(*tensors: Any) -> Any:
        structure = keras.tree.pack_sequence_as(model.input, list(tensors))
        return keras.tree.flatten(model(structure, training=False))

    inputs = keras.tree.flatten(model.inputs)
    specs = [tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype) for tensor in inputs]
    # As Keras traces `predict`: Python code of a layer is run as it is.
    traced = tf.function(outputs, jit_compile=model.jit_compile, autograph=False)
    function = traced.get_concrete_function(*specs)

    def step(batch: Sequence[npt.NDArray[Any]]) -> list[Any]:
        fed = [tf.cast(array, spec.dtype) for array, spec in zip(batch, specs, strict=True)]
        return [output.numpy() for output in function(*fed)]

    return step
