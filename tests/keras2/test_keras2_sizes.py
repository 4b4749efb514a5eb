"""Keras 2 graphs that compute sizes, stack tensors, split off the rest, or name functions.

Networks are written here as Keras 2 describes them in a file.
"""

import keras
import numpy as np
import pytest
from keras import ops

from quantkeras.errors import ModelFileError
from quantkeras.files.keras2.config import upgrade, with_names_for_functions, with_packages


def layer(class_name, name, inbound, **config):
    return {
        "class_name": class_name,
        "name": name,
        "config": {"name": name, **config},
        "inbound_nodes": inbound,
    }


def function(name, what, first, **arguments):
    nodes = [[ref, 0, 0, arguments] for ref in first] if isinstance(first, list) else None
    inbound = [nodes] if nodes else [[first, 0, 0, arguments]]
    return layer("TFOpLambda", name, inbound, function=what)


def conv(name, source, filters=4, strides=1, **config):
    return layer(
        "Conv2D",
        name,
        [[[source, 0, 0, {}]]],
        filters=filters,
        kernel_size=[1, 1],
        strides=[strides, strides],
        **config,
    )


def network(*layers, output, size=8):
    image = layer("InputLayer", "x", [], batch_input_shape=[None, size, size, 3], dtype="float32")
    config = {
        "name": "net",
        "layers": [image, *layers],
        "input_layers": [["x", 0, 0]],
        "output_layers": [[output, 0, 0]],
    }
    return {"class_name": "Functional", "config": config}


def built(*layers, output, size=8):
    found = upgrade(network(*layers, output=output, size=size))
    return keras.Model.from_config(found["config"])


def index(name, source, spec):
    return function(name, "__operators__.getitem", source, slice_spec=spec)


BRANCHES = (
    conv("a", "x"),
    conv("b", "a", strides=2),
    function("size", "compat.v1.shape", "a", out_type="int32"),
)


def resized(size):
    return function("r", "image.resize", "b", size=size, method="nearest")


@pytest.mark.parametrize("middle, size", [
    ([index("hw", "size", {"start": 1, "stop": 3, "step": None})], ["hw", 0, 0]),
    ([index("hw", "size", {"start": 1, "stop": -1, "step": None})], ["hw", 0, 0]),
    ([index("h", "size", 1), index("w", "size", 2)], [["h", 0, 0], ["w", 0, 0]]),
    ([function("small", "compat.v1.shape", "b"), index("h", "small", 1),
      function("twice", "math.multiply", "h", y=2)], [["twice", 0, 0], 8]),
])  # fmt: skip
def test_a_resize_to_the_size_of_another_tensor(middle, size):
    model = built(*BRANCHES, *middle, resized(size), output="r")
    assert model.output_shape == (None, 8, 8, 4)
    assert {part.name for part in model.layers} == {"x", "a", "b", "r"}


def test_a_reshape_to_the_size_of_the_batch_and_of_a_tensor():
    target = [["n", 0, 0], ["h", 0, 0], -1]
    middle = index("n", "size", 0), index("h", "size", 1)
    model = built(*BRANCHES, *middle, function("r", "reshape", "a", shape=target), output="r")
    assert model.output_shape == (None, 8, 32)


def test_sizes_that_are_open_are_no_constants():
    middle = [index("hw", "size", {"start": 1, "stop": 3, "step": None})]
    with pytest.raises(ModelFileError, match="the size it makes is computed"):
        built(*BRANCHES, *middle, resized(["hw", 0, 0]), output="r", size=None)


@pytest.mark.parametrize("sizes, lengths", [
    ([1, -1], (1, 3)), ([-1, 1], (3, 1)), ([1, -1, 2], (1, 1, 2)), ([-1, 4], (0, 4)),
])  # fmt: skip
def test_one_part_of_a_split_is_what_is_left(sizes, lengths):
    parts = function("s", "split", "a", num_or_size_splits=sizes, axis=-1)
    found = upgrade(network(BRANCHES[0], parts, output="s"))
    found["config"]["output_layers"] = [["s", 0, index] for index in range(len(sizes))]
    model = keras.Model.from_config(found["config"])
    assert tuple(shape[-1] for shape in model.output_shape) == lengths


def test_an_open_length_is_refused_where_a_part_is_what_is_left():
    parts = function("s", "split", "a", num_or_size_splits=[-1, 1], axis=1)
    with pytest.raises(ModelFileError, match=r"\[-1, 1\] of its parts .* the axis is open"):
        upgrade(network(BRANCHES[0], parts, output="s", size=None))


@pytest.mark.parametrize("reduction, wanted", [
    ("sum", np.add), ("max", np.maximum), ("min", np.minimum), ("prod", np.multiply),
    ("mean", lambda x, y: (x + y) / 2),
])  # fmt: skip
def test_a_reduction_over_a_list_of_tensors_merges_them(reduction, wanted):
    merged = function("m", f"math.reduce_{reduction}", ["a", "c"], axis=0)
    model = built(conv("a", "x"), conv("c", "x"), merged, output="m")
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    parts = [np.asarray(model.get_layer(name)(x)) for name in "ac"]
    np.testing.assert_allclose(np.asarray(model(x)), wanted(*parts), rtol=1e-5, atol=1e-6)
    other = function("m", f"math.reduce_{reduction}", ["a", "c"], axis=1)
    with pytest.raises(ModelFileError, match="along axis 1"):
        upgrade(network(conv("a", "x"), conv("c", "x"), other, output="m"))


@pytest.mark.parametrize("name", ["pkg>twice", "twice"])
def test_a_function_of_a_package_may_be_given_by_either_name(name):
    twice = {"module": "builtins", "class_name": "function", "config": "pkg>twice"}
    found = upgrade(network(conv("a", "x", activation=twice), output="a"))
    objects = with_packages(found, {name: lambda x: ops.multiply(x, 2.0)})
    with keras.saving.CustomObjectScope(objects):
        config = with_names_for_functions(found, objects)["config"]
        model = keras.Model.from_config(config)
    x = np.ones((1, 8, 8, 3), np.float32)
    plain = np.asarray(x @ np.asarray(model.get_layer("a").kernel)[0, 0])
    np.testing.assert_allclose(np.asarray(model(x)), 2.0 * plain, rtol=1e-5)
    assert with_names_for_functions(found, {})["config"] == found["config"]
