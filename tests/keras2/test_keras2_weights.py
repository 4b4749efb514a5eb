"""Weights of a Keras 2 file reach the layer they are named after, or an error says which do not."""

import h5py
import keras
import numpy as np
import pytest

from quantkeras.errors import ModelFileError
from quantkeras.files.keras2.keras2_weights import assign_weights


def group_of(layers, chunks=False):
    """An in-memory `model_weights` group: {layer: {weight name: array}}."""
    file = h5py.File("weights.h5", "w", driver="core", backing_store=False)
    names = [name.encode() for name in layers]
    if chunks:
        for i, name in enumerate(names):
            file.attrs[f"layer_names{i}"] = [name]
    else:
        file.attrs["layer_names"] = names
    for layer, weights in layers.items():
        group = file.create_group(layer)
        group.attrs["weight_names"] = [name.encode() for name in weights]
        for name, value in weights.items():
            group[name] = value
    return file


def dense(name, fill, shape=(2, 2)):
    return {f"{name}/kernel:0": np.full(shape, fill), f"{name}/bias:0": np.full(shape[-1], fill)}


def network():
    inputs = keras.Input((2,))
    names = ("a", "b_c")
    return keras.Model(inputs, [keras.layers.Dense(2, name=name)(inputs) for name in names])


@pytest.mark.parametrize("chunks", [False, True])
def test_by_name_and_not_by_order(chunks):
    model = network()
    assign_weights(model, group_of({"b/c": dense("b/c", 2.0), "a": dense("a", 1.0)}, chunks))
    assert np.unique(model.get_layer("a").get_weights()[0]) == 1.0
    assert np.unique(model.get_layer("b_c").get_weights()[0]) == 2.0


def test_an_inner_model_by_name_and_not_by_order():
    inner = network()
    inner.name = "inner"
    model = keras.Sequential([keras.Input((2,)), inner])
    stored = {**dense("b/c", 2.0), **dense("a", 1.0)}
    assign_weights(model, group_of({"inner": stored}))
    assert np.unique(inner.get_layer("a").get_weights()[0]) == 1.0
    assert np.unique(inner.get_layer("b_c").get_weights()[0]) == 2.0


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"a": dense("a", 1.0)}, r"layer\(s\) b_c"),
        ({"a": dense("a", 1.0), "b_c": dense("b_c", 1.0, (3, 2))}, r"'b_c'.*\(3, 2\).*\(2, 2\)"),
        ({"a": dense("a", 1.0), "b_c": {"k": np.ones((2, 2))}}, "'b_c' needs 2 weights .* has 1"),
    ],
)
def test_weights_that_do_not_fit(stored, message):
    with pytest.raises(ModelFileError, match=message):
        assign_weights(network(), group_of(stored))
