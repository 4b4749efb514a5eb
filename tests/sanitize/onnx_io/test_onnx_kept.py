"""Operators that are kept as they are, wherever the samples are counted: read, run, written."""

import numpy as np
import onnx
import onnx_harness
import pytest
from onnx import TensorProto, helper
from onnx_harness import model, node

from sanitize import write_onnx
from sanitize.onnx_io import OnnxError, import_onnx


def f(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32) * 0.4


def compare(proto, keras=False):
    """Reading, and writing again, give what onnxruntime gives; the import."""
    return onnx_harness.check_model(proto, keras)


def kinds(imported):
    return [part.kind for part in imported.graph if part.kind != "input"]


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("states", [False, True])
def test_recurrent_layers_along_the_first_axis(op, gates, states):
    """(time, batch, features), with states of the batch's size as exporters make them."""
    nodes = [node("Transpose", "x", "t", perm=[1, 0, 2])]
    constants = {"w": f(1, gates * 5, 4), "r": f(1, gates * 5, 5), "b": f(1, gates * 10),
                 "zero": np.array([0]), "sh": np.array([0, 0, -1])}  # fmt: skip
    if states:
        nodes += [
            node("Shape", "x", "s"), node("Gather", "s zero", "n"),
            node("Concat", "one n five", "hs", axis=0), node("ConstantOfShape", "hs", "h0"),
        ]  # fmt: skip
        constants |= {"one": np.array([1]), "five": np.array([5])}
    cells = (" h0" if op == "LSTM" else "") if states else ""
    nodes += [
        node(op, "t w r b" + (f" _ h0{cells}" if states else ""), "ys yh", hidden_size=5),
        node("Transpose", "ys", "tr", perm=[0, 2, 1, 3]),
        node("Reshape", "tr sh", "y"),
    ]
    proto = model(nodes, {"x": ("n", 6, 4)}, constants, ("y",), opset=13)
    imported = compare(proto)
    assert imported.outputs[0].order == (1, 0, 2)


def test_a_recurrent_layer_along_the_samples_is_refused():
    nodes = [node("LSTM", "x w r", "ys yh", hidden_size=2)]
    proto = model(nodes, {"x": ("n", 6, 4)}, {"w": f(1, 8, 4), "r": f(1, 8, 2)}, ("yh",), opset=13)
    with pytest.raises(OnnxError, match="runs along the axis that counts samples"):
        import_onnx(proto)


@pytest.mark.parametrize(
    ("perm", "target"),
    [((3, 0, 1, 2), [0, 0, -1]), ((3, 0, 1, 2), [6, -1, 32]), ((1, 0, 2, 3), [2, 4, -1, 24]),
     ((1, 2, 0, 3), [32, -1, 6]), ((1, 2, 3, 0), [8, 24, -1]), ((0, 3, 1, 2), [0, 0, 32])],
)  # fmt: skip
def test_reshapes_on_both_sides_of_the_samples(perm, target):
    nodes = [node("Transpose", "x", "t", perm=perm), node("Reshape", "t s", "y")]
    proto = model(nodes, {"x": ("n", 8, 4, 6)}, {"s": np.array(target)})
    assert "opaque" not in kinds(compare(proto, keras=True))


@pytest.mark.parametrize(
    ("op", "constants", "attributes"),
    [("Squeeze", "ax", {}), ("Unsqueeze", "ax", {}), ("Flatten", "", {"axis": 2})],
)
def test_axes_of_one_in_front_of_the_samples(op, constants, attributes):
    nodes = [node("Transpose", "x", "t", perm=[1, 0, 2]), node(op, f"t {constants}", "y",
                                                               **attributes)]  # fmt: skip
    proto = model(nodes, {"x": ("n", 1, 5)}, {"ax": np.array([0])} if constants else {})
    assert "opaque" not in kinds(compare(proto, keras=True))


def test_a_reshape_that_mixes_samples_is_still_refused():
    nodes = [node("Transpose", "x", "t", perm=[1, 0, 2]), node("Reshape", "t s", "y")]
    proto = model(nodes, {"x": ("n", 6, 4)}, {"s": np.array([-1, 3, 4])})
    with pytest.raises(OnnxError, match="mixes samples"):
        import_onnx(proto)


def branches():
    def graph(name, ops):
        value = helper.make_tensor_value_info(ops[-1].output[0], TensorProto.FLOAT, None)
        return helper.make_graph(ops, name, [], [value])

    then = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Add", ["a", "c"], ["b"])]
    return {
        "then_branch": graph("then", then),
        "else_branch": graph("else", [helper.make_node("Neg", ["x"], ["d"])]),
    }


@pytest.mark.parametrize(("yes", "wanted"), [(True, ["relu", "affine"]), (False, ["affine"])])
def test_the_branch_of_a_known_condition_is_read(yes, wanted):
    constants = {"yes": np.array(yes), "c": f(3, 1, 1)}
    proto = model([node("If", "yes", "y", **branches())], {"x": ("n", 3, 4, 5)}, constants)
    assert kinds(compare(proto)) == wanted


def test_a_loop_is_kept():
    number = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Mul", ["v", "half"], ["w"]), helper.make_node("Add", ["w", "x"], ["z"]),
         helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [number("i", TensorProto.INT64, []), number("go", TensorProto.BOOL, []),
         number("v", TensorProto.FLOAT, None)],
        [number("on", TensorProto.BOOL, []), number("z", TensorProto.FLOAT, None)],
    )  # fmt: skip
    constants = {"count": np.array(3), "yes": np.array(True), "half": np.array(0.5, np.float32)}
    proto = model([node("Relu", "x", "r"), node("Loop", "count yes r", "y", body=body)],
                  {"x": ("n", 3, 4, 5)}, constants)  # fmt: skip
    proto.graph.output[0].CopyFrom(number("y", TensorProto.FLOAT, ["n", 3, 4, 5]))
    assert kinds(compare(proto)) == ["relu", "opaque"]


def test_operators_on_bytes_are_kept():
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("QLinearConv", "q s z w ws wz s z", "c"),
        node("DequantizeLinear", "c s z", "d"),
        node("DequantizeLinear", "v ws wz", "vd"),
        node("Conv", "d vd", "y"),
    ]
    constants = {
        "s": np.float32(0.05), "z": np.uint8(128), "ws": np.float32(0.01), "wz": np.uint8(128),
        "w": (f(4, 3, 1, 1) * 100 + 128).astype(np.uint8),
        "v": (f(2, 4, 3, 3) * 100 + 128).astype(np.uint8),
    }  # fmt: skip
    imported = compare(model(nodes, {"x": ("n", 3, 6, 6)}, constants))
    assert kinds(imported) == ["opaque", "opaque", "opaque", "conv2d"]


@pytest.mark.parametrize("opset", [11, 12, 18])
def test_kept_operators_go_to_the_opset_that_is_written(opset):
    axes = {"axes": [2]} if opset < 18 else {}
    nodes = [
        node("ReduceMax", "x" if axes else "x ax", "m", keepdims=1, **axes),
        node("Sub", "x m", "s"),
        node("CumSum", "s two", "y"),
    ]
    constants = {"two": np.array(2)} | ({} if axes else {"ax": np.array([2])})
    proto = model(nodes, {"x": ("n", 3, 4, 5)}, constants, opset=opset)
    assert "opaque" in kinds(compare(proto))


def test_a_conversion_to_another_function_is_refused(monkeypatch):
    def wrong(proto, opset):
        ends = proto.graph.input, proto.graph.output
        graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "wrong", *ends)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])

    monkeypatch.setattr(onnx.version_converter, "convert_version", wrong)
    proto = model([node("Hardmax", "x", "y", axis=1)], {"x": ("n", 3, 4)}, {}, opset=12)
    with pytest.raises(OnnxError, match="another function"):
        write_onnx(import_onnx(proto).graph)


@pytest.mark.parametrize(("op", "bound"), [("Max", -np.inf), ("Max", -3.4028235e38),
                                           ("Min", np.inf)])  # fmt: skip
def test_bounds_that_bind_nothing(op, bound):
    for array in (np.float32(bound), np.full((3, 1, 1), bound, np.float32)):
        proto = model([node("Relu", "x", "r"), node(op, "r b", "y")], {"x": ("n", 3, 4, 5)},
                      {"b": array})  # fmt: skip
        assert kinds(compare(proto)) == ["relu"]


def test_bounds_that_bind_some_channels():
    bounds = np.array([-np.inf, 0.1, 0.2], np.float32).reshape(3, 1, 1)
    proto = model([node("Max", "x b", "y")], {"x": ("n", 3, 4, 5)}, {"b": bounds})
    assert kinds(compare(proto)) == ["opaque"]
