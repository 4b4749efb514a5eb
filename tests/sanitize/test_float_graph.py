"""Node and Graph: building, rewriting, validation, text, comparison."""

import numpy as np
import pytest

from sanitize import Graph, GraphError, Node, differences, evaluate

ONES = {"strides": (1, 1), "padding": "same", "dilation": (1, 1), "groups": 1}


def image(shape=(4, 4, 2)):
    return Node("x", "input", attrs={"dtype": "float32"}, shape=shape)


def conv(name="conv", inputs=("x",), **changes):
    kernel = np.arange(3 * 3 * 2 * 2, dtype=np.float32).reshape(3, 3, 2, 2)
    return Node(name, "conv2d", inputs, {**ONES, **changes}, {"kernel": kernel})


def small():
    relu = Node("relu", "relu", ("conv",))
    total = Node("sum", "add", ("relu", "x"))
    return Graph.build([image(), total, relu, conv()], ["x"], ["sum"])


def test_build_sorts_and_works_out_shapes():
    graph = small()
    assert [node.name for node in graph] == ["x", "conv", "relu", "sum"]
    assert graph["sum"].shape == (4, 4, 2)
    assert graph.shape_of("conv") == (4, 4, 2)
    assert "conv" in graph and "other" not in graph and len(graph) == 4


def test_build_drops_dead_nodes_but_keeps_inputs():
    unused = Node("y", "input", attrs={"dtype": "float32"}, shape=(3,))
    dead = Node("dead", "relu", ("x",))
    graph = Graph.build([image(), unused, dead, conv()], ["x", "y"], ["conv"])
    assert [node.name for node in graph] == ["x", "y", "conv"]


def test_consumers_and_uses():
    graph = small()
    assert [node.name for node in graph.consumers("x")] == ["conv", "sum"]
    assert graph.uses("x") == 2
    assert graph.uses("sum") == 1 and graph.is_output("sum")
    twice = Graph.build([image(), Node("sum", "add", ("x", "x"))], ["x"], ["sum", "sum"])
    assert [node.name for node in twice.consumers("x")] == ["sum"]
    assert twice.uses("x") == 2 and twice.uses("sum") == 2


def test_what_values_depend_on_is_found_in_order():
    graph = small()
    assert [node.name for node in graph.needed(["relu"])] == ["x", "conv", "relu"]
    split = Node("split", "opaque", ("x",), {"shapes": ((4,), (2,))})
    assert split.values == ["split", "split:1"] and graph["sum"].values == ["sum"]
    last = Node("last", "relu", ("split:1",))
    graph = Graph.build([image(), split, last], ["x"], ["last"])
    assert [node.name for node in graph.needed(["split:1"])] == ["x", "split"]


def test_replace_redirects_old_readers_only():
    graph = small()
    clip = Node("clip", "relu", ("relu",), {"max_value": 6.0})
    new = graph.replace(add=[clip], redirect={"relu": "clip"})
    assert new["clip"].inputs == ("relu",)
    assert new["sum"].inputs == ("clip", "x")
    assert graph["sum"].inputs == ("relu", "x")
    without = new.replace(remove=["clip"], redirect={"clip": "relu"})
    assert differences(without, graph) == []


def test_replace_moves_outputs_and_structure_stays():
    graph = Graph.build([image(), conv()], ["x"], ["conv"], output_structure={"y": 0})
    new = graph.replace(add=[Node("act", "relu", ("conv",))], redirect={"conv": "act"})
    assert new.outputs == ("act",)
    assert set(evaluate(new, np.zeros((1, 4, 4, 2)))) == {"y"}


def test_unique_names():
    graph = small()
    assert graph.unique_name("fresh") == "fresh"
    assert graph.unique_name("relu") == "relu_1"
    assert graph.unique_name("relu", taken=["relu_1"]) == "relu_2"


@pytest.mark.parametrize(
    "nodes, outputs, message",
    [
        ([image(), conv(), conv()], ["conv"], "two nodes are named 'conv'"),
        ([image(), conv(inputs=("y",))], ["conv"], "'y' is read but no node makes it"),
        ([image(), Node("a", "relu", ("b",)), Node("b", "relu", ("a",))], ["a"], "own output"),
        ([image(), Node("a", "blur", ("x",))], ["a"], "unknown kind 'blur'"),
        ([image(), Node("a", "dense", ("x",))], ["a"], r"lacks weights \['kernel'\]"),
        ([image(), Node("a", "pad", ("x",))], ["a"], "lacks the attribute 'padding'"),
        ([image((4, 4, 3)), conv()], ["conv"], r"'conv' \(conv2d\): its kernel expects 2 channels"),
        ([image((1, 1, 2)), conv(padding="valid")], ["conv"], "does not fit"),
        ([image(), Node("a", "add", ("x",))], ["a"], "at least two inputs"),
        ([image(), Node("a", "reshape", ("x",), {"shape": (5,)})], ["a"], "cannot be reshaped"),
        ([image(), Node("a", "permute", ("x",), {"dims": (0, 0, 1)})], ["a"], "permutation"),
        ([image(), Node("a:b", "relu", ("x",))], ["a:b"], "no node makes it"),
    ],
)
def test_ill_formed_graphs_say_which_node_and_why(nodes, outputs, message):
    with pytest.raises(GraphError, match=message):
        Graph.build(nodes, ["x"], outputs)


def test_wrong_shape_and_unknown_weights_are_errors():
    wrong = conv().with_(shape=(9, 9, 9))
    with pytest.raises(GraphError, match="claims the shape"):
        Graph((image(), wrong), ("x",), ("conv",))
    extra = conv().with_weights(gamma=np.ones(2))
    with pytest.raises(GraphError, match="unknown weights"):
        Graph.build([image(), extra], ["x"], ["conv"])


def test_text_form_has_one_line_per_node():
    lines = str(small()).splitlines()
    assert lines[0] == "graph model(x) -> sum"
    assert len(lines) == 5
    assert "conv = conv2d(x)" in lines[2] and "kernel(3, 3, 2, 2)" in lines[2]
    assert lines[2].endswith("-> (4, 4, 2)")


def test_differences_see_weights_attributes_wiring_and_sharing():
    graph = small()
    assert differences(graph, small()) == []
    heavier = graph.replace(add=[conv().with_weights(kernel=np.ones((3, 3, 2, 2)))])
    assert "the weight 'kernel'" in differences(graph, heavier)[0]
    clipped = graph.replace(add=[graph["relu"].with_attrs(max_value=6.0)])
    assert "attributes" in differences(graph, clipped)[0]
    rewired = graph.replace(add=[graph["sum"].with_(inputs=("relu", "relu"))])
    assert differences(graph, rewired)
    shared = graph.replace(add=[graph["conv"].with_(share="c")])
    assert "share" in differences(graph, shared)[0]


def test_evaluate_accepts_arrays_lists_and_dicts_and_keeps_values():
    graph = small()
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 2))
    y = evaluate(graph, x)
    assert y.dtype == np.float32 and y.shape == (2, 4, 4, 2)
    assert np.array_equal(evaluate(graph, [x]), y)
    assert np.array_equal(evaluate(graph, {"x": x}), y)
    kept = evaluate(graph, x, keep=["relu"])
    assert set(kept) == {"relu"} and (kept["relu"] >= 0).all()
    assert set(evaluate(graph, x, keep="all")) == {"x", "conv", "relu", "sum"}
    assert evaluate(graph, x, dtype=np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="no data for the inputs"):
        evaluate(graph, {"y": x})
