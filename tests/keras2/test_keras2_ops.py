"""TensorFlow functions of a Keras 2 graph: which layer replaces them, and when none does.

That the layers compute the same is proved on whole networks in test_keras2_networks.py.
"""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkeras.files.keras2.calls import CannotReplace, OpCall, Tensor
from quantkeras.files.keras2.layers import Slice, keras2_hard_sigmoid
from quantkeras.files.keras2.ops import replacement

X, Y = Tensor("x", 0, 0), Tensor("y", 0, 0)


def replaced(function, first=X, **rest):
    found = replacement(OpCall(function, first, rest))
    return found.class_name, dict(found.config), found.inputs


@pytest.mark.parametrize(
    ("first", "second", "function", "wanted"),
    [
        (X, Y, "math.subtract", ("Subtract", {}, (X, Y))),
        (X, 2.0, "math.subtract", ("Rescaling", {"scale": 1.0, "offset": -2.0}, (X,))),
        (2.0, X, "math.subtract", ("Rescaling", {"scale": -1.0, "offset": 2.0}, (X,))),
        (X, [1, 2], "math.subtract", ("Rescaling", {"scale": 1.0, "offset": [-1.0, -2.0]}, (X,))),
        (3.0, X, "__operators__.add", ("Rescaling", {"scale": 1.0, "offset": 3.0}, (X,))),
        (X, 4.0, "math.truediv", ("Rescaling", {"scale": 0.25, "offset": 0.0}, (X,))),
        (X, Y, "math.maximum", ("Maximum", {}, (X, Y))),
        (0.0, X, "math.maximum", ("ReLU", {}, (X,))),
        (X, 2, "math.pow", ("Multiply", {}, (X, X))),
    ],
)
def test_two_operands(first, second, function, wanted):
    assert replaced(function, first, y=second) == wanted


@pytest.mark.parametrize(
    ("function", "rest", "class_name", "config"),
    [
        ("math.reduce_mean", {"axis": [2, 1]}, "GlobalAveragePooling2D", {"keepdims": False}),
        (
            "math.reduce_max",
            {"axis": [1, 2], "keepdims": True},
            "GlobalMaxPooling2D",
            {"keepdims": True},
        ),
        ("reshape", {"shape": [-1, 3, 4]}, "Reshape", {"target_shape": [3, 4]}),
        ("reshape", {"shape": [Y, 12]}, "Reshape", {"target_shape": [12]}),
        ("transpose", {"perm": [0, 3, 1, 2]}, "Permute", {"dims": [3, 1, 2]}),
        ("pad", {"paddings": [[0, 0], [1, 2], [0, 0]]}, "ZeroPadding1D", {"padding": [1, 2]}),
        ("nn.leaky_relu", {}, "LeakyReLU", {"negative_slope": 0.2}),
        ("clip_by_value", {"clip_value_min": 0, "clip_value_max": 6}, "ReLU", {"max_value": 6.0}),
        (
            "expand_dims",
            {"axis": -2},
            "quantkeras>Slice",
            {"index": ["...", "newaxis", [None] * 3]},
        ),
        ("squeeze", {"axis": [1, 2]}, "quantkeras>Slice", {"index": [[None] * 3, 0, 0]}),
    ],
)
def test_one_tensor(function, rest, class_name, config):
    assert replaced(function, **rest) == (class_name, config, (X,))


@pytest.mark.parametrize(
    ("function", "first", "rest", "operation", "inputs"),
    [
        ("math.truediv", 1.0, {"y": X}, "Divide", (X,)),
        ("math.truediv", X, {"y": Y}, "Divide", (X, Y)),
        ("math.maximum", X, {"y": 0.5}, "Maximum", (X,)),
        ("math.pow", X, {"y": 3}, "Power", (X,)),
        ("math.rsqrt", X, {}, "Rsqrt", (X,)),
        ("clip_by_value", X, {"clip_value_min": -1, "clip_value_max": 1}, "Clip", (X,)),
        ("math.reduce_mean", X, {"axis": -1}, "Mean", (X,)),
        ("math.reduce_sum", X, {"axis": [1, 2]}, "Sum", (X,)),
        ("linalg.matmul", X, {"b": [[1.0], [2.0]]}, "Matmul", (X,)),
        ("pad", X, {"paddings": [[0, 0], [1, 1], [1, 1]]}, "Pad", (X,)),
        ("split", X, {"num_or_size_splits": 2, "axis": -1}, "Split", (X,)),
        ("stack", [X, Y], {"axis": 1}, "Stack", (X, Y)),
        ("where", X, {"x": Y, "y": 0.0}, "Where", (X, Y)),
    ],
)
def test_operations_where_there_is_no_layer(function, first, rest, operation, inputs):
    class_name, config, found = replaced(function, first, **rest)
    assert class_name == "sanitize>OperationLayer" and found == inputs
    assert config["operation"]["class_name"] == operation
    json.dumps(config)


@pytest.mark.parametrize(
    ("function", "first", "rest", "reason"),
    [
        ("linalg.inv", X, {}, "nothing in Keras"),
        ("linalg.matmul", X, {"b": Y, "transpose_b": True}, "transposes"),
        ("math.truediv", X, {"y": [1.0, 0.0]}, "divides by zero"),
        ("math.add", X, {"y": "text"}, "neither a tensor nor a constant"),
        ("clip_by_value", X, {"clip_value_min": Y, "clip_value_max": 1}, "nor a constant"),
        ("math.reduce_mean", X, {"axis": [0, 1]}, "batch axis"),
        ("split", X, {"num_or_size_splits": [-1, 2], "axis": 1}, "not all known"),
        ("gather", X, {"indices": [0], "axis": 1, "batch_dims": 1}, "per sample"),
        ("roll", X, {"shift": Y, "axis": 1}, "computed"),
        ("repeat", X, {"repeats": [1, 2], "axis": 1}, "differently often"),
        ("tile", X, {"multiples": [2, 1]}, "repeat the batch"),
        ("image.resize", X, {"size": [4, 4], "method": "area"}, "no interpolation 'area'"),
        ("nn.silu", X, {"beta": 2.0}, "arguments.*beta"),
        ("where", X, {}, "places of what is true"),
        ("slice", X, {"begin": [1, 0], "size": [1, 2]}, "batch axis"),
        ("strided_slice", X, {"begin": [0], "end": [2], "new_axis_mask": 1}, "adds axes"),
        ("nn.depth_to_space", X, {"block_size": 2, "data_format": "NCHW"}, "channels-last"),
        ("reshape", X, {"shape": [2, 3]}, "not the batch size"),
        ("reshape", X, {"shape": [-1, Y]}, "computed in the graph"),
        ("transpose", X, {"perm": [1, 0]}, "batch axis"),
        ("concat", [X, Y], {"axis": 0}, "batch axis"),
        ("pad", X, {"paddings": [[1, 0], [1, 1], [1, 1]]}, "batch axis"),
        ("cast", X, {"dtype": "uint8"}, "uint8"),
        ("nn.relu", 1.0, {}, "is a constant"),
        ("nn.bias_add", X, {"bias": [1.0], "data_format": "NCHW"}, "channels-last"),
        ("expand_dims", X, {"axis": 0}, "other than the batch axis"),
        ("squeeze", X, {"axis": [1, -1]}, "both ends"),
        ("__operators__.getitem", X, {"slice_spec": 0}, "batch axis"),
    ],
)
def test_refusals_say_why(function, first, rest, reason):
    with pytest.raises(CannotReplace, match=reason):
        replacement(OpCall(function, first, rest))


bounds = st.none() | st.integers(-6, 6)
steps = st.none() | st.sampled_from([-3, -2, -1, 1, 2, 3])
entries = st.lists(
    st.tuples(bounds, bounds, steps).map(list) | st.integers(-4, 3) | st.just("newaxis"), max_size=4
)


@given(entries, st.booleans())
def test_slice_is_numpy_indexing(index, from_the_end):
    x = np.arange(2 * 4 * 5 * 6, dtype=np.float32).reshape(2, 4, 5, 6)
    if sum(entry != "newaxis" for entry in index) > 3:
        return
    whole = ["..."] if from_the_end else [[None, None, None]]
    plain = [slice(*e) if isinstance(e, list) else None if e == "newaxis" else e for e in index]
    wanted = x[(... if from_the_end else slice(None), *plain)]
    np.testing.assert_array_equal(np.asarray(Slice([*whole, *index])(x)), wanted)


def test_slice_refuses_to_cut_the_batch():
    with pytest.raises(ValueError, match="'s': .* cuts the batch axis"):
        Slice([0], name="s")


def test_hard_sigmoid_of_keras_2():
    x = np.array([-3.0, -2.5, -1.0, 0.0, 1.0, 2.5, 3.0], np.float32)
    wanted = np.array([0, 0, 0.3, 0.5, 0.7, 1, 1], np.float32)
    np.testing.assert_allclose(np.asarray(keras2_hard_sigmoid(x)), wanted, atol=1e-7)
