"""write_onnx: graphs as ONNX models in onnxruntime; every test of reading holds it to that too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_harness import check, check_model, kinds_of, model, node, run, weights

from sanitize import evaluate
from sanitize.functions import FUNCTIONS
from sanitize.graph import Graph, Node
from sanitize.onnx_io import OnnxError, import_onnx, write_onnx

POSITIVE = {"log", "log1p", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "power"}
WINDOW = {"strides": (1, 1), "padding": "same", "dilation": (1, 1)}


def graph_of(*nodes: Node, shape: tuple[int, ...] = (5, 4, 3), output: str = "") -> Graph:
    entry = Node("x", "input", (), {"dtype": "float32"}, {}, shape)
    return Graph.build([entry, *nodes], ["x"], [output or nodes[-1].name])


def run_both(graph: Graph, x: Any, **options: Any) -> tuple[Any, Any]:
    return run(write_onnx(graph, **options), {"x": x})[0], evaluate(graph, x)


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - {"user"}))
def test_function(name: str) -> None:
    changed: dict[str, Any] = {
        "exponent": 1.7, "low": -0.4, "high": 0.9, "max_value": 1.5, "negative_slope": 0.3,
        "threshold": 0.25, "default_value": -0.5,
    }  # fmt: skip
    attrs = {key: changed.get(key, value) for key, value in FUNCTIONS[name].parameters.items()}
    graph = graph_of(Node("y", "activation", ("x",), {"function": name, **attrs}))
    x = np.random.default_rng(0).normal(size=(3, 5, 4, 3)).astype(np.float32)
    x = np.abs(x) + np.float32(0.2) if name in POSITIVE else 2 * x
    found, wanted = run_both(graph, x, input_layout="nhwc")
    assert np.allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_layouts_of_inputs_and_outputs() -> None:
    graph = graph_of(Node("y", "relu", ("x",)))
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    first = x.transpose(0, 3, 1, 2)
    wanted = np.maximum(x, 0)
    for given, layout in ((first, "nchw"), (x, "nhwc")):
        for result, output in ((wanted.transpose(0, 3, 1, 2), "nchw"), (wanted, "nhwc")):
            proto = write_onnx(graph, input_layout=layout, output_layout=output)
            assert np.array_equal(run(proto, {"x": given})[0], result)
    with pytest.raises(ValueError, match="'nchw' or 'nhwc', not 'hwc'"):
        write_onnx(graph, input_layout="hwc")


@pytest.mark.parametrize("kind", ["conv2d", "depthwise_conv2d"])
@pytest.mark.parametrize("bias", [False, True])
def test_values_in_the_padding(kind: str, bias: bool) -> None:
    depthwise = kind == "depthwise_conv2d"
    shape = (3, 2, 4, 2) if depthwise else (3, 2, 2, 6)
    stored = {"kernel": weights(*shape), "pad_value": weights(4)}
    if bias:
        stored["bias"] = weights(8 if depthwise else 6)
    attrs = WINDOW if depthwise else {**WINDOW, "groups": 2}
    graph = graph_of(Node("y", kind, ("x",), attrs, stored), shape=(5, 6, 4))
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 4)).astype(np.float32)
    found, wanted = run_both(graph, x, input_layout="nhwc")
    assert np.allclose(found, wanted, atol=1e-5)


def test_ceilings_and_slopes_per_channel() -> None:
    ceiling = np.array([0.5, 1.0, 0.2], np.float32)
    alpha = weights(1, 1, 3)
    graph = graph_of(
        Node("r", "relu", ("x",), {}, {"max_value": ceiling}),
        Node("s", "subtract", ("r", "x")),
        Node("y", "activation", ("s",), {"function": "prelu"}, {"alpha": alpha}),
    )
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    found, wanted = run_both(graph, x, input_layout="nhwc")
    assert np.allclose(found, wanted, atol=1e-6)


def test_an_input_that_goes_out_again_gets_another_name() -> None:
    graph = Graph.build([Node("x", "input", (), {"dtype": "float32"}, {}, (3,))], ["x"], ["x"])
    proto = write_onnx(graph)
    x = np.ones((2, 3), np.float32)
    assert proto.graph.output[0].name != "x" and np.array_equal(run(proto, {"x": x})[0], x)


def test_shared_weights_are_stored_once() -> None:
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
        node("Conv", "a w", "y", pads=[1, 1, 1, 1]),
    ]
    imported = check(nodes, {"x": ("n", 3, 5, 4)}, {"w": weights(3, 3, 3, 3)})
    assert len(write_onnx(imported.graph).graph.initializer) == 1


def test_what_is_written_reads_the_same() -> None:
    nodes = [
        node("Conv", "x w b", "c", pads=[0, 0, 1, 1], strides=[2, 2]),
        node("Relu", "c", "r"),
        node("MaxPool", "r", "m", kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", "m", "g"),
        node("Flatten", "g", "f"),
        node("Gemm", "f k", "y"),
    ]
    constants = {"w": weights(4, 3, 3, 3), "b": weights(4), "k": weights(4, 2)}
    first = import_onnx(model(nodes, {"x": ("n", 3, 12, 12)}, constants))
    again = check_model(write_onnx(first.graph))
    assert kinds_of(again) == kinds_of(first)
    for one, other in zip(first.graph, again.graph, strict=True):
        assert one.attrs == other.attrs and one.shape == other.shape
        assert all(np.array_equal(one.weights[key], other.weights[key]) for key in one.weights)


def test_what_onnx_cannot_say_is_named() -> None:
    user = Node("y", "activation", ("x",), {"function": "user"})
    with pytest.raises(OnnxError, match="node 'y' is the function 'user'"):
        write_onnx(graph_of(user))
    layer = {"layer": object(), "call": None, "shapes": ((5, 4, 3),)}
    with pytest.raises(OnnxError, match="node 'y' is a object, which ONNX has no operators for"):
        write_onnx(graph_of(Node("y", "opaque", ("x",), layer)))
    newer = [node("GroupNormalization", "x g b", "y", num_groups=3)]
    constants = {"g": np.ones(3, np.float32), "b": np.zeros(3, np.float32)}
    proto = model(newer, {"x": ("n", 3, 5, 4)}, constants, opset=21)
    proto.graph.output[0].CopyFrom(proto.graph.input[0])
    proto.graph.output[0].name = "y"
    with pytest.raises(OnnxError, match=r"'GroupNormalization' of opset 21, which opset 18 has ch"):
        write_onnx(import_onnx(proto).graph, opset=18)
