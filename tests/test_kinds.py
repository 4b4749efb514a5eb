"""Every kind of node is written, read, quantized and exported, or says why not.

And its traits are what it computes.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from exactness import assert_exact
from parameters import slow

from quantkeras import coverage, quantize
from sanitize import differences, evaluate
from sanitize.graph import Graph, Node
from sanitize.keras_io import read_keras, write_keras
from sanitize.kinds import KINDS, MERGES, Trait
from sanitize.onnx_io import import_onnx, write_onnx

MAP = (5, 4, 3)
SLIDING = {"strides": (1, 1), "padding": "same", "dilation": (1, 1)}
SPREADING = {"strides": (2, 2), "padding": "same", "dilation": (1, 1)}


def weights(*shape: int) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=shape)
    return np.asarray(values, np.float32)


EXAMPLES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "conv2d": (
        {**SLIDING, "groups": 1}, {"kernel": weights(3, 2, 3, 4), "bias": weights(4)},
    ),
    "depthwise_conv2d": (SLIDING, {"kernel": weights(3, 3, 3, 2), "bias": weights(6)}),
    "conv2d_transpose": (SPREADING, {"kernel": weights(3, 3, 4, 3), "bias": weights(4)}),
    "depthwise_conv2d_transpose": (SPREADING, {"kernel": weights(3, 3, 3, 1), "bias": weights(3)}),
    "dense": ({}, {"kernel": weights(3, 4), "bias": weights(4)}),
    "batchnorm": (
        {"epsilon": 1e-3},
        {
            "mean": weights(3), "variance": abs(weights(3)) + np.float32(0.5),
            "gamma": weights(3), "beta": weights(3),
        },
    ),
    "affine": ({}, {"scale": weights(3), "offset": weights(3)}),
    "relu": ({"max_value": 1.5}, {}),
    "activation": ({"function": "tanh"}, {}),
    "softmax": ({"axis": 2}, {}),
    "max_pool": ({"size": (2, 2), "strides": (2, 1), "padding": "valid"}, {}),
    "avg_pool": ({"size": (2, 2), "strides": (2, 1), "padding": "valid"}, {}),
    "global_avg_pool": ({"keepdims": False}, {}),
    "global_max_pool": ({"keepdims": False}, {}),
    "add": ({}, {}),
    "subtract": ({}, {}),
    "multiply": ({}, {}),
    "maximum": ({}, {}),
    "minimum": ({}, {}),
    "concat": ({"axis": 2}, {}),
    "flatten": ({}, {}),
    "reshape": ({"shape": (10, 6)}, {}),
    "permute": ({"dims": (2, 0, 1)}, {}),
    "pad": ({"padding": ((1, 0), (2, 1))}, {}),
    "upsample": ({"size": (2, 3)}, {}),
    "slice": ({"slices": ((1, None, 1), (0, None, 2), (0, None, 1))}, {}),
    "identity": ({}, {}),
}  # fmt: skip
BARE = {
    "input": "it computes nothing",
    "opaque": "it is what a layer without a kind becomes",
}
READ_OTHERWISE = {
    "dense": "along the channels of a map it is a convolution of one pixel",
    "permute": "the order of axes is a matter of layout",
    "identity": "nothing is written",
}
#: Kinds that most networks of the other tests have.
EVERYWHERE = (
    "add", "affine", "avg_pool", "batchnorm", "concat", "conv2d", "dense", "depthwise_conv2d",
    "flatten", "global_avg_pool", "identity", "max_pool", "multiply", "pad", "relu", "reshape",
)  # fmt: skip
FLOAT = {"softmax": "normalizing over channels is left to the application"}


def graph_of(kind: str) -> Graph:
    """The kind alone, on a map."""
    attrs, stored = EXAMPLES[kind]
    names = ["x", "z"] if kind in MERGES else ["x"]
    inputs = [Node(name, "input", (), {"dtype": "float32"}, {}, MAP) for name in names]
    return Graph.build([*inputs, Node("y", kind, tuple(names), attrs, stored)], names, ["y"])


def data_for(graph: Graph, seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(6, *MAP)).astype(np.float32) for _ in graph.inputs]


def result_of(graph: Graph, arrays: list[np.ndarray]) -> np.ndarray:
    return np.asarray(evaluate(graph, arrays))


def test_no_kind_is_forgotten() -> None:
    assert KINDS.keys() == EXAMPLES.keys() | BARE.keys()


@pytest.mark.parametrize("kind", EXAMPLES)
def test_keras_layers_are_written_and_read(kind: str) -> None:
    graph = graph_of(kind)
    model = write_keras(graph)
    arrays = data_for(graph)
    found = model(arrays if len(arrays) > 1 else arrays[0], training=False)
    wanted = result_of(graph, arrays)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), wanted, rtol=1e-4, atol=1e-5)
    assert differences(read_keras(model), graph) == []


@pytest.mark.parametrize("kind", EXAMPLES)
def test_onnx_operators_are_written_and_read(kind: str) -> None:
    graph = graph_of(kind)
    again = import_onnx(write_onnx(graph, input_layout="nhwc", output_layout="nhwc")).graph
    assert (kind in {node.kind for node in again}) != (kind in READ_OTHERWISE)
    assert not any(node.kind == "opaque" for node in again)


@pytest.mark.parametrize(
    "kind", [*(kind for kind in EXAMPLES if kind not in EVERYWHERE), *slow(*EVERYWHERE)]
)
def test_it_becomes_integer(kind: str) -> None:
    """Behind a convolution, and in front of another layer with weights."""
    graph = graph_of(kind)
    inputs = [keras.Input(MAP) for _ in graph.inputs]
    values = [keras.layers.Conv2D(3, 1)(x) for x in inputs]
    y = write_keras(graph)(values if len(values) > 1 else values[0])
    model = keras.Model(inputs if len(inputs) > 1 else inputs[0], keras.layers.Dense(2)(y))
    arrays = data_for(graph)
    fed = arrays if len(arrays) > 1 else arrays[0]
    if kind in FLOAT:
        with pytest.warns(UserWarning, match="softmax has no integer form"):
            quantize(model, samples=fed)
        return
    quantized = quantize(model, samples=fed)
    assert {layer.status for layer in coverage(quantized).layers} <= {"input", "integer", "removed"}
    assert_exact(quantized, fed, graph=False)


def having(trait: Trait) -> list[str]:
    return [kind for kind in EXAMPLES if trait in KINDS[kind].traits]


@pytest.mark.parametrize("kind", having(Trait.MOVES))
def test_what_moves_makes_no_number(kind: str) -> None:
    graph = graph_of(kind)
    (x,) = data_for(graph)
    y = result_of(graph, [x])
    assert set(y.ravel()) <= {*x.ravel(), np.float32(0.0)}
    if Trait.REARRANGES in KINDS[kind].traits:
        np.testing.assert_array_equal(np.sort(y.ravel()), np.sort(x.ravel()))
    if Trait.RESHAPES in KINDS[kind].traits:
        np.testing.assert_array_equal(y.ravel(), x.ravel())


@pytest.mark.parametrize("kind", having(Trait.ELEMENTWISE) + having(Trait.JOINS))
def test_what_is_elementwise_sees_no_neighbour(kind: str) -> None:
    graph = graph_of(kind)
    arrays = data_for(graph)
    wanted, changed = result_of(graph, arrays), [array.copy() for array in arrays]
    for array in changed:
        array[:, 2, 1] += 1
    found = result_of(graph, changed)
    found[:, 2, 1] = wanted[:, 2, 1]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("kind", having(Trait.LINEAR) + having(Trait.AFFINE))
def test_what_is_affine_adds_up(kind: str) -> None:
    graph = graph_of(kind)
    (x,), (z,) = data_for(graph), data_for(graph, seed=2)
    zero = result_of(graph, [np.zeros_like(x)])
    wanted = result_of(graph, [x]) + result_of(graph, [z]) - zero
    np.testing.assert_allclose(result_of(graph, [x + z]), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", having(Trait.KEEPS_SIGN) + having(Trait.NEVER_NEGATIVE))
def test_signs(kind: str) -> None:
    graph = graph_of(kind)
    arrays = data_for(graph)
    if Trait.NEVER_NEGATIVE not in KINDS[kind].traits:
        arrays = [np.abs(array) for array in arrays]
    assert result_of(graph, arrays).min() >= 0


@pytest.mark.parametrize("kind", having(Trait.DEPTHWISE) + having(Trait.SLIDES))
def test_channels_by_themselves(kind: str) -> None:
    """Which is what tells a depthwise convolution, and any pool, from a convolution."""
    graph = graph_of(kind)
    (x,) = data_for(graph)
    wanted, changed = result_of(graph, [x]), x.copy()
    changed[..., 0] += 1
    own = wanted.shape[-1] // x.shape[-1]
    same = np.array_equal(result_of(graph, [changed])[..., own:], wanted[..., own:])
    traits = KINDS[kind].traits
    assert same == (Trait.DEPTHWISE in traits or Trait.LINEAR not in traits)
