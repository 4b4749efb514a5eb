"""Names, domains and shared constants that a model may have: none of them makes a difference."""

import warnings

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_nets import images, model, node, operators, relative_error, run, weights
from parameters import slow

from quantkeras.errors import QuantizationError
from quantkeras.onnx.runtime_quantizer import quantize_onnx, result_check
from quantkeras.onnx.runtime_quantizer.model_source import load_model
from quantkeras.onnx.runtime_quantizer.neutral_names import NeutralNames

MODES = ["integer", "qlinear", "qdq"]


def shared_net(inner="inner", names=("c1", "c2", "c3")):
    """Three convolutions of one weight and one bias, whose inputs differ in scale."""
    nodes = [
        node("Conv", ["x", "w", "b"], [inner], names[0], pads=[1] * 4),
        node("Relu", [inner], ["r"], ""),
        node("Conv", ["r", "w", "b"], ["c2_out"], names[1], pads=[1] * 4),
        node("Conv", ["c2_out", "w", "b"], ["y"], names[2], pads=[1] * 4),
    ]
    shape = ["n", 3, 8, 8]
    constants = {"w": weights(3, 3, 3, 3) / 2, "b": weights(3) * 3}
    return model(nodes, {"x": shape}, {"y": shape}, constants)


def quantized(proto, mode, x, **settings):
    """The result, its error, without a warning of the runtime about what is left over."""
    found = quantize_onnx(proto, mode, samples=x, reduce_range=True, **settings)
    onnx.checker.check_model(found)
    return found, relative_error(run(found, x)[0], run(proto, x)[0])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("per_channel", [False, True])
def test_shared_weights_and_biases(mode, per_channel):
    _, error = quantized(shared_net(), mode, images(8), per_channel=per_channel)
    assert error < 0.06


@pytest.mark.parametrize("mode", [*MODES[:1], *slow(*MODES[1:])])
@pytest.mark.parametrize(
    "inner", ["b0", "b_quantized", "w_quantized", "w_scale", "x_scale", "x_zero_point", "v0_",
              "x_QuantizeLinear_Output", "x_DequantizeLinear", "c2_quant"],
)  # fmt: skip
def test_a_value_named_like_what_is_added(mode, inner):
    x = images(4)
    plain, wanted = quantized(shared_net(), mode, x)
    found, error = quantized(shared_net(inner), mode, x)
    assert error == wanted
    assert operators(found) == operators(plain)
    assert [value.name for value in (*found.graph.input, *found.graph.output)] == ["x", "y"]


@pytest.mark.parametrize("mode", MODES)
def test_names_of_nodes(mode):
    x = images(4)
    wanted = run(quantized(shared_net(), mode, x)[0], x)[0]
    # onnxruntime does not run a model of which two nodes have one name, but its tool takes it.
    for names in (("", "", ""), ("conv", "conv", "conv"), ("x", "w", "b")):
        found = quantize_onnx(shared_net(names=names), mode, samples=x, reduce_range=True)
        assert np.array_equal(run(found, x)[0], wanted)


def test_weights_along_two_axes():
    """One matrix in three roles, with a scale per channel: rows in one, columns in the others."""
    nodes = [
        node("Gemm", ["x", "w"], ["a"], transB=1),
        node("Gemm", ["a", "w"], ["g"]),
        node("MatMul", ["g", "w"], ["m"]),
        node("MatMul", ["m", "s"], ["y"]),
    ]
    w = weights(6, 6) * np.geomspace(0.02, 2, 6, dtype=np.float32)[:, None]
    proto = model(nodes, {"x": ["n", 6]}, {"y": ["n", 6]}, {"w": w, "s": weights(6, 6)})
    x = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)
    for mode in MODES:
        assert quantized(proto, mode, x, per_channel=True)[1] < 0.05


def test_no_constant_is_left_over():
    for mode in MODES:
        for static in (True, False):
            data = {"samples": images(2)} if static or mode == "qlinear" else {}
            graph = quantize_onnx(shared_net(), mode, static, **data).graph
            used = {name for part in graph.node for name in part.input}
            assert {tensor.name for tensor in graph.initializer} <= used


def foreign_net():
    """onnxruntime's own operators, one of them with the name of a standard one."""
    nodes = [
        node("Conv", ["x", "w1"], ["c"], "first"),
        node("ReorderInput", ["c"], ["r"], domain="com.microsoft.nchwc"),
        node("Conv", ["r", "w2"], ["b"], "blocked", domain="com.microsoft.nchwc"),
        node("ReorderOutput", ["b"], ["o"], domain="com.microsoft.nchwc", channels=8),
        node("QuickGelu", ["o"], ["q"], domain="com.microsoft"),
        node("Conv", ["q", "w3"], ["y"], "last"),
    ]
    constants = {"w1": weights(8, 3, 3, 3), "w2": weights(8, 8, 1, 1), "w3": weights(2, 8, 1, 1)}
    return model(
        nodes, {"x": ["n", 3, 8, 8]}, {"y": ["n", 2, 6, 6]}, constants,
        domains=("com.microsoft.nchwc", "com.microsoft"), checked=False,
    )  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_operators_of_other_domains_stay_as_they_are(mode):
    x = images(8)
    found = quantize_onnx(foreign_net(), mode, samples=x, reduce_range=True)
    kept = [part for part in found.graph.node if part.domain.startswith("com.microsoft")]
    assert [(part.name, part.op_type) for part in kept if part.op_type == "Conv"] == [
        ("blocked", "Conv")
    ]
    assert "QuickGelu" in {part.op_type for part in kept}
    with pytest.raises(QuantizationError, match="'blocked' is Conv of the domain"):
        quantize_onnx(foreign_net(), mode, samples=x, nodes_to_quantize=["blocked"])


def branching_net():
    """A graph in a node that reads values from outside, and has one of its own name for them."""
    inner = helper.make_graph(
        [helper.make_node("Add", ["c", "v1_"], ["t"], "t")], "then", [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)],
        [helper.make_tensor("v1_", TensorProto.FLOAT, [1], [2.0])],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("Neg", ["c"], ["e"], "e")], "else", [],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, None)],
    )  # fmt: skip
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("If", ["yes"], ["i"], then_branch=inner, else_branch=other),
        node("Conv", ["i", "w2"], ["y"]),
    ]
    constants = {"w": weights(4, 3, 1, 1), "w2": weights(2, 4, 1, 1), "yes": np.array(True)}
    return model(nodes, {"x": ["n", 3, 8, 8]}, {"y": ["n", 2, 8, 8]}, constants)


@pytest.mark.parametrize("mode", ["integer", "qdq"])
def test_graphs_within_nodes(mode):
    assert quantized(branching_net(), mode, images(8))[1] < 0.05


def test_neutral_names_come_back():
    proto = load_model(branching_net())
    wanted = proto.SerializeToString()
    names = NeutralNames(proto)
    assert names.of("x") != "x"
    assert {"x", "c", "w"}.isdisjoint(name for part in proto.graph.node for name in part.input)
    onnx.checker.check_model(proto)
    names.restore(proto)
    assert proto.SerializeToString() == wanted


def test_a_result_that_does_not_run_is_not_returned():
    source = load_model(shared_net())
    broken = load_model(shared_net())
    broken.graph.node[0].input[1] = "b"  # of one dimension, where a convolution takes four
    with pytest.raises(QuantizationError, match="nodes_to_exclude"):
        result_check.check_result(broken, lambda: source, {"x": images(1)})
    result_check.check_result(broken, lambda: broken, None)  # the float form is no better
    infinite = load_model(shared_net())
    infinite.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(np.full((3, 3, 3, 3), np.inf, np.float32), "w")
    )
    with pytest.raises(QuantizationError, match="not finite"):
        result_check.check_result(infinite, lambda: source, {"x": images(1)})


def test_no_warning_in_an_ordinary_case():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quantize_onnx(shared_net(), "integer", static=False)
