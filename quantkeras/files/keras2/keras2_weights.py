"""Fills a network with the weights of a Keras 2 .h5 file, layer by layer, by name.

The file's group `model_weights` has one group per layer of the network, and in it an attribute
`weight_names`: first the trainable weights, then the others. An inner model is one such layer; its
list runs over all of its own layers, in an order that Keras 3 need not share, so these are told
apart by the first part of the weight's name ("conv2d" of "conv2d/kernel:0").
"""

from collections.abc import Container, Iterator
from typing import Any

import h5py
import keras
import numpy as np

from quantkeras.errors import ModelFileError
from quantkeras.files.keras2.keras2_graph import keras3_name

Named = list[tuple[str, np.ndarray]]


def assign_weights(model: keras.Model, group: h5py.Group) -> None:
    """Sets all weights of `model` from `group`.

    Raises ModelFileError where a layer's weights are missing, too many or of another shape.
    """
    names = [name for name in _names(group, "layer_names") if _names(group[name], "weight_names")]
    stored = {keras3_name(name): _read(group[name]) for name in names}
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    if stored.keys() != layers.keys():
        odd = sorted(stored.keys() ^ layers.keys())
        raise ModelFileError(
            f"the file's weights are not those of its network: layer(s) {', '.join(odd)} are only "
            "in one of the two; save the file again"
        )
    for name, layer in layers.items():
        _assign_layer(layer, stored[name])


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names; Keras splits a long one over attributes NAME0, NAME1 and so on."""
    if attribute in group.attrs:
        parts = [group.attrs[attribute]]
    else:
        parts = []
        while f"{attribute}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{attribute}{len(parts)}"])
    flat = [name for part in parts for name in part]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in flat]


def _read(group: h5py.Group) -> Named:
    return [(name, np.asarray(group[name])) for name in _names(group, "weight_names")]


def _assign_layer(layer: keras.layers.Layer, stored: Named) -> None:
    """Sets the weights of one layer, or of one inner model, from its list in the file."""
    leaves = {leaf.name: leaf for leaf in _leaf_layers(layer)}
    by_leaf: dict[str | None, Named] = {}
    for name, value in stored:
        by_leaf.setdefault(_leaf_name(name, leaves), []).append((name, value))
    if {name: len(weights) for name, weights in by_leaf.items()} == {
        name: len(leaf.weights) for name, leaf in leaves.items()
    }:
        for name, leaf in leaves.items():
            _assign(leaf, by_leaf[name])
    else:
        _assign(layer, stored)


def _leaf_name(weight: str, leaves: Container[str]) -> str | None:
    """The layer that a weight such as "lstm/lstm_cell/kernel:0" belongs to: here "lstm"."""
    parts = weight.split("/")
    names = (keras3_name("/".join(parts[:n])) for n in range(len(parts) - 1, 0, -1))
    return next((name for name in names if name in leaves), None)


def _leaf_layers(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """The layers with weights inside an inner model, each once; an ordinary layer itself."""
    found: dict[int, keras.layers.Layer] = {}
    waiting = [layer]
    while waiting:
        current = waiting.pop()
        if isinstance(current, keras.Model):
            waiting += current.layers
        elif current.weights:
            found[id(current)] = current
    yield from found.values()


def _assign(layer: keras.layers.Layer, stored: Named) -> None:
    """Sets weights in the file's order: trainable ones first, then the others."""
    variables: list[Any] = [*layer.trainable_weights, *layer.non_trainable_weights]
    if len(variables) != len(stored):
        raise ModelFileError(
            f"layer '{layer.name}' needs {len(variables)} weights and the file has {len(stored)}"
        )
    for variable, (name, value) in zip(variables, stored, strict=True):
        if tuple(variable.shape) != value.shape:
            raise ModelFileError(
                f"layer '{layer.name}': '{name}' has shape {value.shape} in the file, "
                f"the network needs {tuple(variable.shape)}"
            )
        variable.assign(value)
    if isinstance(layer, keras.layers.Normalization):
        layer.finalize_state()
