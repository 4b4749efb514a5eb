"""Element-wise functions: formula, Keras layer and reader agree, by name, operation and Lambda."""

import keras
import numpy as np
import pytest
from float_networks import assert_reads, randomized, sequential
from keras import layers, ops

from sanitize import read_keras
from sanitize.functions import FUNCTIONS, apply_activation, is_monotonic
from sanitize.keras_io.function_layers import activation_argument, activation_layer

#: Functions that are NaN or infinite for some numbers.
POSITIVE = {"log", "log10", "log1p", "log2", "power", "reciprocal", "rsqrt", "sqrt"}
#: Parameters that are not the defaults.
OTHER = {
    "celu": {"alpha": 0.3},
    "clip": {"low": -0.5, "high": 2.0},
    "elu": {"alpha": 0.5},
    "gelu": {"approximate": True},
    "general_relu": {"max_value": 3.0, "negative_slope": 0.2, "threshold": 0.5},
    "hard_shrink": {"threshold": 1.25},
    "leaky_relu": {"negative_slope": 0.1},
    "power": {"exponent": 1.5},
    "soft_shrink": {"threshold": 1.25},
    "squareplus": {"b": 2.0},
    "threshold": {"threshold": 1.0, "default_value": -0.5},
}
USUAL = {name: dict(function.parameters) for name, function in FUNCTIONS.items()}
LIMITS = [{"low": None, "high": 2.0}, {"low": -1.5, "high": None}, {"low": 1.0, "high": 2.0}]
CASES = [
    *({"function": name, **USUAL[name]} for name in FUNCTIONS if name != "user"),
    *({"function": name, **values} for name, values in OTHER.items()),
    *({"function": "clip", **values} for values in LIMITS),
]
#: These would be other kinds, or nothing at all, with their defaults.
CASES = [
    attrs
    for attrs in CASES
    if attrs not in ({"function": name, **USUAL[name]} for name in ("clip", "power"))
    and attrs != {"function": "general_relu", **USUAL["general_relu"]}
]


def numbers(attrs):
    x = np.linspace(-6.0, 6.0, 481).astype(np.float32)
    return np.abs(x) + 0.1 if attrs["function"] in POSITIVE else x


def label(attrs):
    return " ".join(str(value) for value in attrs.values())


@pytest.mark.parametrize("attrs", CASES, ids=label)
def test_formula_layer_and_reader_agree(attrs):
    x = numbers(attrs)
    wanted = apply_activation(attrs, {}, x.astype(np.float64))
    assert apply_activation(attrs, {}, x).dtype == np.float32
    tensor = keras.Input(x.shape)
    model = keras.Model(tensor, activation_layer({"kind": "activation", **attrs})(tensor))
    np.testing.assert_allclose(np.asarray(model(x[None]))[0], wanted, rtol=2e-5, atol=2e-6)
    node = read_keras(model).nodes[-1]
    assert (node.kind, dict(node.attrs)) == ("activation", attrs)
    if is_monotonic(attrs, {}):
        assert (np.diff(wanted) > -1e-12).all()


@pytest.mark.parametrize("attrs", CASES, ids=label)
def test_fused_in_a_layer(attrs):
    function = activation_argument({"kind": "activation", **attrs})
    model = randomized(keras.Sequential([keras.Input((5,)), layers.Dense(4, activation=function)]))
    assert dict(read_keras(model).nodes[-1].attrs["activation"]) == {"kind": "activation", **attrs}


def test_outside_the_domain_there_is_no_warning():
    x = np.array([-1.0, 0.0, 1.0])
    assert np.isnan(apply_activation({"function": "log"}, {}, x)[0])
    assert np.isinf(apply_activation({"function": "reciprocal"}, {}, x)[1])
    assert np.isinf(apply_activation({"function": "exponential"}, {}, x * 1000)[2])


def one(build, shape=(4, 4, 3)):
    """The only node of a network of operations."""
    x = keras.Input(shape)
    graph = assert_reads(keras.Model(x, build(x)))
    assert len(graph) == 2, str(graph)
    return graph.nodes[-1]


@pytest.mark.parametrize("build, kind, attrs", [
    (lambda x: x**2, "activation", {"function": "square"}),
    (lambda x: x**3, "activation", {"function": "power", "exponent": 3.0}),
    (lambda x: x**1, "identity", {}),
    (lambda x: abs(x), "activation", {"function": "absolute"}),
    (lambda x: ops.clip(x, 0.0, 3.0), "relu", {"max_value": 3.0}),
    (lambda x: ops.clip(x, -1, 1), "activation", {"function": "hard_tanh"}),
    (lambda x: ops.clip(x, 0.5, 1), "activation", {"function": "clip", "low": 0.5, "high": 1.0}),
    (lambda x: ops.maximum(x, 0.3), "activation", {"function": "clip", "low": 0.3, "high": None}),
    (lambda x: ops.minimum(0.3, x), "activation", {"function": "clip", "low": None, "high": 0.3}),
    (lambda x: ops.celu(x, 0.5), "activation", {"function": "celu", "alpha": 0.5}),
    (lambda x: ops.gelu(x, approximate=False), "activation",
     {"function": "gelu", "approximate": False}),
    (lambda x: ops.threshold(x, 1.0, 0.5), "activation",
     {"function": "threshold", "threshold": 1.0, "default_value": 0.5}),
])  # fmt: skip
def test_operations(build, kind, attrs):
    node = one(build)
    assert (node.kind, dict(node.attrs)) == (kind, attrs)


@pytest.mark.parametrize("build, kinds", [
    (lambda x: 2.0**x, ["affine", "activation"]),
    (lambda x: 3.0 / (x * x + 1.0), ["multiply", "affine", "activation", "affine"]),
    (lambda x: x / (abs(x) + 1.0), ["activation", "affine", "activation", "multiply"]),
    (lambda x: ops.maximum(x, np.float32([0.1, 0.2, -1])), ["affine", "relu", "affine"]),
    (lambda x: ops.minimum(x, np.float32([0.1, 0.2, -1])), ["affine", "relu", "affine"]),
])  # fmt: skip
def test_arithmetic_of_several_nodes(build, kinds):
    x = keras.Input((4, 4, 3))
    graph = assert_reads(keras.Model(x, build(x)))
    assert [node.kind for node in graph][1:] == kinds


@pytest.mark.parametrize("function, kind, attrs", [
    (lambda x: ops.maximum(x, 0.0), "relu", {}),
    (lambda x: ops.minimum(ops.maximum(x, 0.0), 3.0), "relu", {"max_value": 3.0}),
    (lambda x: ops.maximum(x, 0.3 * x), "activation",
     {"function": "leaky_relu", "negative_slope": 0.3}),
    (lambda x: x / (1.0 + ops.exp(-x)), "activation", {"function": "silu"}),
    (lambda x: ops.clip(x * 0.2 + 0.5, 0.0, 1.0), "relu", {"max_value": 1.0}),
    (lambda x: ops.log(ops.exp(x) + 1.0), "activation", {"function": "softplus"}),
    (lambda x: ops.celu(x, 0.3), "activation", {"function": "celu", "alpha": 0.3}),
    (lambda x: ops.log(x), "activation", {"function": "log"}),
])  # fmt: skip
def test_lambdas_are_recognised(function, kind, attrs):
    graph = read_keras(sequential(layers.Lambda(function)))
    assert (graph.nodes[-1].kind, dict(graph.nodes[-1].attrs)) == (kind, attrs)


@pytest.mark.parametrize("shape", [(6, 5, 4), (7,), (6, 3)])
@pytest.mark.parametrize("shared", [None, [1], [1, 2], [3], [1, 2, 3], [1, 3]])
def test_prelu_shared_along_any_axes(shape, shared):
    axes = None if shared is None else [axis for axis in shared if axis <= len(shape)]
    graph = assert_reads(sequential(layers.PReLU(shared_axes=axes or None), shape=shape))
    alpha = graph.nodes[-1].weights["alpha"]
    assert alpha.shape == tuple(1 if i + 1 in (axes or ()) else n for i, n in enumerate(shape))


def test_prelu_on_pictures_of_any_size_and_fused():
    graph = assert_reads(sequential(layers.PReLU(shared_axes=[1, 2]), shape=(None, None, 3)))
    assert graph.nodes[-1].weights["alpha"].shape == (1, 1, 3)
    model = sequential(layers.Conv2D(3, 3, activation=layers.PReLU(shared_axes=[1, 2])))
    graph = assert_reads(model, round_trip=False)
    assert [node.kind for node in graph][1:] == ["conv2d", "activation"]
    assert graph.nodes[-1].attrs == {"function": "prelu"}
