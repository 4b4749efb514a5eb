"""What the inputs and outputs of a model are called."""

from __future__ import annotations

import keras


def input_names(model: keras.Model) -> list[str]:
    """Names of the input layers; those of the input tensors differ where the user gave none."""
    tensors = keras.tree.flatten(model.inputs)
    return [tensor._keras_history.operation.name for tensor in tensors]


def output_names(model: keras.Model) -> list[str]:
    """Names of the layers, or of the models within it, that make the outputs."""
    tensors = keras.tree.flatten(model.outputs)
    return [tensor._keras_history.operation.name for tensor in tensors]
