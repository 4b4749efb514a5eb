"""Functions written out in arithmetic are recognised, whatever way they are written."""

import math

import keras
import pytest
from float_networks import assert_sanitizes, kinds, randomized
from keras import layers, ops

from sanitize import Graph, Node, sanitize_graph
from sanitize.rules.formulas import FunctionFromArithmetic

RULE = "function from arithmetic"
SQRT = math.sqrt(2.0)


def behind_convolution(build):
    x = keras.Input((8, 8, 4))
    return randomized(keras.Model(x, build(layers.Conv2D(4, 3, name="c")(x))))


def gelu(x):
    return 0.5 * x * (1.0 + ops.erf(x / SQRT))


def gelu_tanh(x):
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)
    return x * 0.5 * (1.0 + ops.tanh(inner))


FORMS = {
    "hard sigmoid": (lambda x: ops.relu6(x + 3.0) / 6.0, "hard_sigmoid"),
    "hard sigmoid of old": (lambda x: ops.clip(0.2 * x + 0.5, 0.0, 1.0), "hard_sigmoid_keras2"),
    "hard silu": (lambda x: x * ops.relu6(x + 3.0) * (1 / 6), "hard_silu"),
    "hard silu by layer": (
        lambda x: layers.Multiply()([layers.Activation("hard_sigmoid")(x), x]),
        "hard_silu",
    ),
    "silu": (lambda x: ops.sigmoid(x) * x, "silu"),
    "silu by tanh": (lambda x: x * (0.5 * ops.tanh(0.5 * x) + 0.5), "silu"),
    "mish": (lambda x: x * ops.tanh(ops.softplus(x)), "mish"),
    "gelu": (gelu, "gelu"),
    "gelu tanh": (gelu_tanh, "gelu"),
    "leaky": (lambda x: ops.maximum(x, 0.1 * x), "leaky_relu"),
    "leaky by minimum": (lambda x: ops.relu(x) + 0.3 * ops.minimum(x, 0.0), "leaky_relu"),
    "identity in two halves": (lambda x: ops.relu(x) - ops.relu(-x), None),
    "absolute": (lambda x: ops.maximum(x, -x), "absolute"),
}


@pytest.mark.parametrize("name", FORMS)
def test_known_functions(name):
    build, function = FORMS[name]
    graph, log = assert_sanitizes(behind_convolution(build))
    assert RULE in log.counts()
    assert kinds(graph) == (["conv2d", "activation"] if function else ["conv2d"])
    assert graph.nodes[-1].attrs.get("function") == function
    if name.startswith("gelu"):
        assert graph.nodes[-1].attrs["approximate"] == (name == "gelu tanh")
    if name.startswith("leaky"):
        slope = 0.1 if name == "leaky" else 0.3
        assert graph.nodes[-1].attrs["negative_slope"] == slope


@pytest.mark.parametrize(
    "build, ceiling",
    [
        (lambda x: ops.minimum(ops.maximum(x, 0.0), 6.0), 6.0),
        (lambda x: ops.minimum(ops.relu(x), 2.5), 2.5),
        (lambda x: 6.0 - ops.relu(6.0 - ops.relu(x)), 6.0),
        (lambda x: layers.ReLU(6.0)(layers.ReLU()(x)), 6.0),
        (lambda x: ops.relu(x) - ops.relu(x - 4.0), 4.0),
    ],
)
def test_relu_with_a_ceiling(build, ceiling):
    graph, _ = assert_sanitizes(behind_convolution(build))
    assert kinds(graph) == ["conv2d", "relu"]
    assert graph.nodes[-1].attrs["max_value"] == ceiling


@pytest.mark.parametrize(
    "build",
    [
        lambda x: x + x,
        lambda x: layers.Maximum()([x, x]),
        lambda x: x - 0.5 * x + 1.0,
        lambda x: layers.Average()([x, 3.0 * x]),
    ],
)
def test_several_times_one_value_is_affine_and_folds(build):
    graph, _ = assert_sanitizes(behind_convolution(build))
    assert kinds(graph) == ["conv2d"]


@pytest.mark.parametrize(
    "build",
    [
        lambda x: x * ops.sigmoid(2.0 * x),
        lambda x: ops.silu(x) + ops.relu(x - 50.0),
        lambda x: x * ops.relu6(x + 2.9) / 6.0,
    ],
)
def test_what_is_only_similar_stays(build):
    _, log = assert_sanitizes(behind_convolution(build))
    assert RULE not in log.counts()


def test_a_part_that_is_read_elsewhere_is_named():
    def build(x):
        gate = layers.Activation("sigmoid", name="gate")(x)
        return [x * gate, gate]

    _, log = assert_sanitizes(behind_convolution(build))
    (entry,) = [entry for entry in log.refused if entry.rule == RULE]
    assert "the value of 'gate' is an output of the network" in entry.sentence


def test_stretched_values_are_no_function_of_one_number():
    def build(x):
        gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
        return x * ops.sigmoid(gate)

    graph, log = assert_sanitizes(behind_convolution(build))
    assert RULE not in log.counts() and "multiply" in kinds(graph)


def test_long_chains_end():
    nodes = [Node("x", "input", attrs={"dtype": "float32"}, shape=(3,))]
    for i in range(40):
        before = nodes[-1].name
        nodes.append(Node(f"n{i}", "multiply", (before, before)))
    graph = Graph.build(nodes, ["x"], ["n39"])
    _, log = sanitize_graph(graph, rules=[FunctionFromArithmetic()], verify=False)
    assert log.fired == ()
