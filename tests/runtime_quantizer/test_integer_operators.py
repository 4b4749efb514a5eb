"""Mode "integer" against NumPy, to the last bit; and the shapes in which products come."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_nets import model, node, operators, relative_error, run, weights
from parameters import slow_rows

from quantkeras.onnx.runtime_quantizer import quantize_onnx


def quantized(x, params):
    zero, scale = params
    return np.clip(np.rint(x / np.float32(scale)).astype(np.int64) + zero, 0, 255) - zero


def scale_of(w, axis, top):
    return (np.abs(w.astype(np.float64)).max(axis=axis, keepdims=True) / top).astype(np.float32)


def integers(w, scale):
    return np.floor(w.astype(np.float64) / scale.astype(np.float64) + 0.5).astype(np.int64)


def convolve(x, w, pads, stride, group):
    x = np.pad(x, ((0, 0), (0, 0), pads, pads))
    n, _, height, width = x.shape
    out, each, kh, kw = w.shape
    rows, columns = (height - kh) // stride + 1, (width - kw) // stride + 1
    result = np.zeros((n, out, rows, columns), np.int64)
    for c in range(out):
        first = c // (out // group) * each
        for i in range(rows):
            for j in range(columns):
                part = x[
                    :,
                    first : first + each,
                    i * stride : i * stride + kh,
                    j * stride : j * stride + kw,
                ]
                result[:, c, i, j] = (part * w[c]).sum(axis=(1, 2, 3))
    return result


def sums_of(proto, feeds):
    """The 32-bit accumulators, as onnxruntime computes them."""
    made = [n.output[0] for n in proto.graph.node if n.op_type in ("ConvInteger", "MatMulInteger")]
    return run(proto, feeds, also=made)[-len(made) :]


# Weights of 7 bits: sums of int8 by uint8 are exact on every processor.
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("zero", [0, 91])
def test_a_convolution_with_static_scales_is_exact(zero, per_channel):
    w, b = weights(6, 2, 3, 3), weights(6)
    only = node("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2], group=2)
    proto = model([only], {"x": ["n", 4, 7, 7]}, {"y": ["n", 6, 4, 4]}, {"w": w, "b": b})
    x = np.random.default_rng(0).normal(size=(2, 4, 7, 7)).astype(np.float32)
    params = (zero, np.float32(0.0371))
    found = quantize_onnx(
        proto, quantization_params={"x": params}, per_channel=per_channel, reduce_range=True
    )
    scale = scale_of(w, (1, 2, 3) if per_channel else None, 63)
    # Borders are 0, which is the zero point among the integers.
    sums = convolve(quantized(x, params), integers(w, scale), (1, 1), 2, 2)
    np.testing.assert_array_equal(sums_of(found, x)[0], sums)
    factor = (scale.astype(np.float64) * np.float64(params[1])).astype(np.float32)
    factor = factor.reshape(-1, 1, 1) if per_channel else factor.reshape(())
    wanted = sums.astype(np.float32) * factor + b.reshape(-1, 1, 1)
    np.testing.assert_array_equal(run(found, x, exact=True)[0], wanted)


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_gemm_with_static_scales_is_exact(per_channel):
    w, b = weights(5, 7), weights(5)
    only = node("Gemm", ["x", "w", "b"], ["y"], transB=1, alpha=-2.0, beta=0.5)
    proto = model([only], {"x": ["n", 7]}, {"y": ["n", 5]}, {"w": w, "b": b})
    x = np.random.default_rng(0).normal(size=(9, 7)).astype(np.float32)
    params = (120, np.float32(0.021))
    found = quantize_onnx(
        proto, quantization_params={"x": params}, per_channel=per_channel, reduce_range=True
    )
    w = -2.0 * w.T
    scale = scale_of(w, 0 if per_channel else None, 63)
    sums = quantized(x, params) @ integers(w, scale)
    np.testing.assert_array_equal(sums_of(found, x)[0], sums)
    factor = (scale.astype(np.float64) * np.float64(params[1])).astype(np.float32)
    wanted = sums.astype(np.float32) * factor.reshape(-1) + np.float32(0.5) * b
    np.testing.assert_array_equal(run(found, x, exact=True)[0], wanted)


def test_dynamic_scales_are_exact():
    w = weights(7, 5)
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": ["n", 7]}, {"y": ["n", 5]}, {"w": w})
    x = np.random.default_rng(0).normal(0.3, 1.0, (9, 7)).astype(np.float32)
    found = quantize_onnx(proto, static=False, reduce_range=True)
    step = (x.max() - x.min()) / np.float32(255)
    params = (int(np.rint(-x.min() / step)), step)
    scale = scale_of(w, None, 63).reshape(())
    sums = quantized(x, params) @ integers(w, scale)
    np.testing.assert_array_equal(sums_of(found, x)[0], sums)
    np.testing.assert_array_equal(
        run(found, x, exact=True)[0], sums.astype(np.float32) * (scale * step)
    )


def test_asymmetric_unsigned_weights():
    w = weights(7, 5) + 2.0
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": ["n", 7]}, {"y": ["n", 5]}, {"w": w})
    x = np.random.default_rng(0).normal(size=(9, 7)).astype(np.float32)
    errors = []
    for symmetric in (None, True):
        found = quantize_onnx(proto, weight_type="uint8", symmetric_weights=symmetric)
        errors.append(relative_error(run(found, x)[0], run(proto, x)[0]))
    assert errors[0] < errors[1] < 0.01


BATCHED = (2, 3, 4, 6)


@pytest.mark.parametrize(
    ("mode", "static"),
    [
        ("integer", False),
        ("qlinear", True),
        ("qdq", True),
        *slow_rows(("integer", True), ("qlinear", False), ("qdq", False)),
    ],
)
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("x", weights(6, 5)),
        ("x", weights(6)),
        ("x", weights(3, 6, 5)),
        (weights(5, 4), "x"),
        ("x", "z"),
        ("x", "x"),
    ],
    ids=["matrix", "vector", "batch", "constant-left", "two-activations", "square"],
)
def test_shapes_of_matmul(left, right, mode, static):
    feeds = {"x": np.random.default_rng(0).normal(size=BATCHED).astype(np.float32)}
    if isinstance(left, str) and isinstance(right, str) and right == "x":
        feeds["x"] = feeds["x"][..., :4]
    if isinstance(right, str) and right == "z":
        feeds["z"] = np.random.default_rng(1).normal(2.0, size=(2, 3, 6, 2)).astype(np.float32)
    names = [side if isinstance(side, str) else "w" for side in (left, right)]
    arrays = [side for side in (left, right) if not isinstance(side, str)]
    constants = dict(zip(["w"], arrays, strict=False))
    shapes = {name: list(array.shape) for name, array in feeds.items()}
    wanted = np.matmul(*(feeds[s] if isinstance(s, str) else s for s in (left, right)))
    proto = model([node("MatMul", names, ["y"])], shapes, {"y": list(wanted.shape)}, constants)
    data = {"samples": [feeds]} if static or mode == "qlinear" else {}
    found = quantize_onnx(proto, mode, static, **data)
    assert relative_error(run(found, feeds)[0], wanted) < 0.02
    stacked = not isinstance(right, str) and right.ndim != 2
    if stacked and static and mode != "integer":
        with (
            pytest.warns(UserWarning, match="its weights are no matrix, which per_channel takes"),
            pytest.warns(UserWarning, match="No node was quantized"),
        ):
            quantize_onnx(proto, mode, static, per_channel=True, **data)
        return
    found = quantize_onnx(proto, mode, static, per_channel=True, **data)
    assert relative_error(run(found, feeds)[0], wanted) < 0.02


@pytest.mark.parametrize("rank", [1, 3])
def test_convolutions_of_other_ranks(rank):
    w = weights(4, 2, *[3] * rank)
    proto = model(
        [node("Conv", ["x", "w", "b"], ["y"])],
        {"x": ["n", 2, *[5] * rank]}, {"y": ["n", 4, *[3] * rank]}, {"w": w, "b": weights(4)},
    )  # fmt: skip
    x = np.random.default_rng(0).normal(size=(2, 2, *[5] * rank)).astype(np.float32)
    for static in (True, False):
        found = quantize_onnx(proto, static=static, samples=x if static else None, per_channel=True)
        assert "ConvInteger" in operators(found)
        assert relative_error(run(found, x)[0], run(proto, x)[0]) < 0.02


def test_what_two_nodes_read_is_quantized_once():
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("MatMul", ["x", "w"], ["b"]),
        node("MatMul", ["a", "w"], ["c"]),
        node("Add", ["b", "c"], ["d"]),
        node("Add", ["d", "w"], ["y"]),
    ]
    w = weights(5, 5)
    proto = model(nodes, {"x": [5, 5]}, {"y": [5, 5]}, {"w": w})
    x = np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32)
    found = quantize_onnx(proto)
    assert operators(found).count("DynamicQuantizeLinear") == 2
    arrays = [t for t in found.graph.initializer if t.data_type == TensorProto.INT8 and t.dims]
    assert len(arrays) == 1
    assert "w" in {t.name for t in found.graph.initializer}  # the last Add reads it in float
    assert relative_error(run(found, x)[0], run(proto, x)[0]) < 0.02


def test_weights_in_all_the_ways_that_exporters_write_them():
    """Constant nodes, Identity of an initializer, initializers that are listed as inputs."""
    w = weights(4, 4)
    nodes = [
        helper.make_node("Constant", [], ["k"], value=onnx.numpy_helper.from_array(w)),
        node("Identity", ["w"], ["same"]),
        node("MatMul", ["x", "k"], ["a"]),
        node("MatMul", ["a", "same"], ["b"]),
        node("MatMul", ["b", "w"], ["y"]),
    ]
    proto = model(nodes, {"x": [3, 4], "w": [4, 4]}, {"y": [3, 4]}, {"w": w}, 10, ir_version=3)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    for mode in ("integer", "qlinear"):
        found = quantize_onnx(proto, mode, samples={"x": x}, reduce_range=True)
        onnx.checker.check_model(found)
        assert [value.name for value in found.graph.input] == ["x"]
        assert "MatMul" not in operators(found)
        assert relative_error(run(found, x)[0], run(proto, {"x": x})[0]) < 0.04


def test_biases_that_are_computed():
    nodes = [
        node("Relu", ["bias"], ["r"]),
        node("Conv", ["x", "w", "r"], ["y"]),
        node("Gemm", ["q", "v", "c"], ["z"], beta=0.5),
    ]
    proto = model(
        nodes, {"x": [2, 3, 4, 4], "bias": [5], "q": [2, 6], "c": [2, 1]},
        {"y": [2, 5, 3, 3], "z": [2, 4]}, {"w": weights(5, 3, 2, 2), "v": weights(6, 4)},
    )  # fmt: skip
    feeds = {
        name: np.random.default_rng(2).normal(size=shape).astype(np.float32)
        for name, shape in {"x": (2, 3, 4, 4), "bias": (5,), "q": (2, 6), "c": (2, 1)}.items()
    }
    wanted = run(proto, feeds)
    for mode, static in (("integer", True), ("integer", False), ("qlinear", False), ("qdq", False)):
        data = {"samples": [feeds]} if static or mode == "qlinear" else {}
        found = quantize_onnx(proto, mode, static, **data)
        for got, target in zip(run(found, feeds), wanted, strict=True):
            assert relative_error(got, target) < 0.02


def test_zero_weights_and_zero_inputs():
    w = weights(3, 4)
    w[:, 1] = 0.0
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": ["n", 3]}, {"y": ["n", 4]}, {"w": w})
    x = np.zeros((2, 3), np.float32)
    for mode, static in (("integer", True), ("integer", False), ("qlinear", False)):
        data = {"samples": x} if static or mode == "qlinear" else {}
        found = quantize_onnx(proto, mode, static, per_channel=True, **data)
        np.testing.assert_array_equal(run(found, x)[0], np.zeros((2, 4)))
        assert not run(found, x + 1)[0][:, 1].any()


def test_graphs_within_nodes_are_left_alone():
    """A branch that reads an outer weight and an outer activation, with a MatMul of its own."""
    inner = helper.make_graph(
        [node("MatMul", ["h", "w"], ["inside"], "inner_product")], "then", [],
        [helper.make_tensor_value_info("inside", TensorProto.FLOAT, [2, 3])],
    )  # fmt: skip
    other = helper.make_graph(
        [node("Neg", ["h"], ["other"])], "else", [],
        [helper.make_tensor_value_info("other", TensorProto.FLOAT, [2, 3])],
    )  # fmt: skip
    true = helper.make_tensor("t", TensorProto.BOOL, [], [True])
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "outer_product"),
        helper.make_node("Constant", [], ["yes"], value=true),
        helper.make_node("If", ["yes"], ["y"], "branch", then_branch=inner, else_branch=other),
    ]
    proto = model(nodes, {"x": [2, 3]}, {"y": [2, 3]}, {"w": weights(3, 3)})
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    for mode, static in (("integer", False), ("integer", True), ("qdq", True)):
        found = quantize_onnx(proto, mode, static, samples=x if static else None)
        branch = next(n for n in found.graph.node if n.op_type == "If")
        assert [n.op_type for n in branch.attribute[0].g.node] in (["MatMul"], ["Neg"])
        assert relative_error(run(found, x)[0], run(proto, x)[0]) < 0.03

    # onnxruntime's quantizer would leave the branch without the float activation.
    with (
        pytest.warns(UserWarning, match=r"stay float: 'outer_product' \(MatMul: a graph within"),
        pytest.warns(UserWarning, match=r"No node was quantized"),
    ):
        found = quantize_onnx(proto, "qlinear", samples=x)
    np.testing.assert_array_equal(run(found, x)[0], run(proto, x)[0])


def test_recurrent_nodes_by_onnxruntime():
    constants = {"w": weights(1, 16, 3), "r": weights(1, 16, 4), "v": weights(4, 2)}
    nodes = [
        node("LSTM", ["x", "w", "r"], ["s"], hidden_size=4),
        node("MatMul", ["s", "v"], ["y"]),
    ]
    proto = model(nodes, {"x": [5, 1, 3]}, {"y": [5, 1, 1, 2]}, constants)
    x = np.random.default_rng(0).normal(size=(5, 1, 3)).astype(np.float32)
    found = quantize_onnx(proto, op_types_to_quantize=["LSTM", "MatMul"])
    assert {"DynamicQuantizeLSTM", "MatMulInteger"} <= set(operators(found))
    assert relative_error(run(found, x)[0], run(proto, x)[0]) < 0.03
