"""Custom patterns: what they are given, what becomes of their results, and their errors."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx_harness import kinds_of, largest_gap, model, node, random_arrays, run, weights

from sanitize import Node, evaluate
from sanitize.onnx_io import (
    PATTERNS,
    OnnxNode,
    PatternError,
    PatternGraph,
    custom_pattern_scope,
    import_onnx,
)

PROTO = model(
    [
        node("Conv", "x w", "c", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", "c", "r"),
        node("Add", "r r", "a"),
        node("GlobalAveragePool", "a", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f k", "y"),
    ],
    {"x": ("n", 3, 8, 8)},
    {"w": weights(4, 3, 3, 3), "k": weights(4, 2)},
)


def identity_pool(nodes: Sequence[OnnxNode], graph: PatternGraph) -> list[Node]:
    """A global average pool behind a convolution that changes nothing."""
    (pool,) = nodes
    channels = graph.shape(pool.inputs[0])[-1]
    attrs = {"strides": (1, 1), "padding": "valid", "dilation": (1, 1), "groups": 1}
    conv = Node(
        graph.unique_name("identity"),
        "conv2d",
        (graph.value(pool.inputs[0]),),
        attrs,
        {"kernel": np.eye(channels, dtype=np.float32)[None, None]},
    )
    return [conv, Node(graph.name, "global_avg_pool", (conv.name,), {"keepdims": True})]


def other_pads(nodes: Sequence[OnnxNode], graph: PatternGraph) -> list[Node]:
    """The convolution as it is read, with other pads."""
    conv, *rest = graph.read(nodes)
    return [conv.with_attrs(padding="same"), *rest]


def outputs(imported: Any) -> Any:
    arrays = random_arrays(PROTO)
    return evaluate(imported.graph, imported.inputs[0].from_onnx(arrays["x"]))


def test_a_pattern_of_one_operator() -> None:
    wanted = run(PROTO, random_arrays(PROTO))[0]
    for key in (("GlobalAveragePool",), "GlobalAveragePool"):
        with custom_pattern_scope({key: identity_pool}):
            imported = import_onnx(PROTO)
        assert kinds_of(imported) == [
            *("conv2d", "relu", "add", "conv2d", "global_avg_pool", "flatten", "dense")
        ]
        assert imported.graph["identity"].source == ("GlobalAveragePool_p",)
        assert largest_gap(outputs(imported), wanted) < 1e-5
    assert kinds_of(import_onnx(PROTO)).count("conv2d") == 1


def test_a_chain_is_read_and_changed() -> None:
    plain = import_onnx(PROTO).graph["Conv_c"].attrs["padding"]
    with custom_pattern_scope({("Conv", "Relu"): other_pads}):
        imported = import_onnx(PROTO)
    assert plain != "same" and imported.graph["Conv_c"].attrs["padding"] == "same"
    assert outputs(imported).shape == (2, 2)


def test_longer_chains_and_inner_scopes_come_first() -> None:
    seen: list[str] = []

    def watch(label: str) -> Any:
        def function(nodes: Sequence[OnnxNode], graph: PatternGraph) -> None:
            seen.append(f"{label}: {' '.join(part.op_type for part in nodes)}")

        return function

    with custom_pattern_scope({("Conv",): watch("a"), ("Conv", "Relu"): watch("b")}):
        with custom_pattern_scope({("Gemm",): watch("c")}):
            import_onnx(PROTO)
        assert seen == ["b: Conv Relu", "c: Gemm"]
        with custom_pattern_scope({("Conv",): watch("d")}):
            import_onnx(PROTO)
        assert seen[2:] == ["d: Conv"]
    import_onnx(PROTO)
    assert len(seen) == 3


def test_values_that_others_read_break_a_chain() -> None:
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "r"), node("Add", "c r", "y")]
    proto = model(nodes, {"x": ("n", 3, 8, 8)}, {"w": weights(4, 3, 3, 3)})
    with custom_pattern_scope({("Conv", "Relu"): other_pads}):
        assert import_onnx(proto).graph["Conv_c"].attrs["padding"] == "valid"


def test_functions_see_the_graph() -> None:
    def look(nodes: Sequence[OnnxNode], graph: PatternGraph) -> None:
        conv = nodes[0]
        weight = graph.constant(conv.inputs[1])
        assert weight is not None and weight.shape == (4, 3, 3, 3)
        assert graph.constant(conv.inputs[0]) is None
        assert graph.shape("x") == (8, 8, 3) and graph.value("x") == "x"
        assert graph.producer("c") is conv and graph.consumers("c") == [nodes[1]]
        assert graph.opset == 17 and conv.get("pads") == (1, 1, 1, 1) and conv.get("no") is None

    with custom_pattern_scope({("Conv", "Relu"): look}):
        import_onnx(PROTO)


def test_scopes_belong_to_their_thread() -> None:
    kinds: list[list[str]] = []
    with custom_pattern_scope({("GlobalAveragePool",): identity_pool}):
        thread = threading.Thread(target=lambda: kinds.append(kinds_of(import_onnx(PROTO))))
        thread.start()
        thread.join()
        kinds.append(kinds_of(import_onnx(PROTO)))
    assert [part.count("conv2d") for part in kinds] == [1, 2]


@pytest.mark.parametrize("key", [(), 3, ("Conv", 3), ("Convolution",), ("GlobalAvgPool",)])
def test_wrong_keys(key: Any) -> None:
    with (
        pytest.raises(PatternError, match="pattern"),
        custom_pattern_scope({key: identity_pool}),
    ):
        pass


def test_wrong_values() -> None:
    wrong: Any = {("Conv",): "identity"}
    with pytest.raises(PatternError, match="maps to a str"), custom_pattern_scope(wrong):
        pass


def _result(result: Any) -> Any:
    return lambda nodes, graph: result


WRONG_RESULTS = {
    "text": ("nodes", "return a list of Nodes"),
    "nothing in it": ([], "return a list of Nodes"),
    "other things in it": (["conv"], "with a str"),
    "reads what is not there": ([Node("p2", "relu", ("nowhere",))], "reads 'nowhere'"),
    "taken name": ([Node("Conv_c", "relu", ("x",))], "a name that is taken"),
    "unknown kind": ([Node("p2", "convolution", ("x",))], "do not fit.*unknown kind"),
    "wrong shape": ([Node("p2", "dense", ("x",), {}, {"kernel": weights(7, 2)})], "do not fit"),
}


@pytest.mark.parametrize("label", WRONG_RESULTS)
def test_wrong_results(label: str) -> None:
    result, message = WRONG_RESULTS[label]
    with (
        custom_pattern_scope({("GlobalAveragePool",): _result(result)}),
        pytest.raises(PatternError, match=rf"(?s)GlobalAveragePool_p.*{message}"),
    ):
        import_onnx(PROTO)


def test_the_table_prints() -> None:
    lines = [str(pattern) for pattern in PATTERNS]
    assert "(Conv, Relu, GlobalAveragePool) -> conv2d, ReLU, global average pool" in lines
    assert len(set(lines)) == len(lines)
