"""Dynamically quantized ONNX models: read as the float products that they round."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_harness import largest_gap, model, node, run

import quantkeras as qk
from quantkeras.quantization.float_network import onnx_network
from sanitize import evaluate
from sanitize.onnx_io import OnnxError, import_onnx
from sanitize.onnx_io.dynamic import float_form


def f(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def dense_net():
    constants = {"w": f(8, 6), "b": f(6), "w2": f(6, 4)}
    nodes = [node("Gemm", "x w b", "h"), node("Relu", "h", "r"), node("MatMul", "r w2", "y")]
    return model(nodes, {"x": ("n", 8)}, constants)


def conv_net():
    constants = {"k": f(4, 2, 3, 3), "b": f(4), "w": f(4, 3)}
    nodes = [
        node("Conv", "x k b", "c", pads=[1, 0, 1, 0], strides=[2, 1]), node("Relu", "c", "r"),
        node("GlobalAveragePool", "r", "p"), node("Flatten", "p", "g"), node("MatMul", "g w", "y"),
    ]  # fmt: skip
    return model(nodes, {"x": ("n", 2, 6, 5)}, constants)


@pytest.fixture(scope="module", params=[dense_net, conv_net])
def both(request):
    proto = request.param()
    return proto, qk.quantize_onnx(proto, "integer")


def test_read_as_the_float_model_with_weights_on_their_grid(both):
    proto, dynamic = both
    assert "DynamicQuantizeLinear" in [part.op_type for part in dynamic.graph.node]
    imported = import_onnx(dynamic)
    assert "opaque" not in [part.kind for part in imported.graph]
    assert len(imported.products) == 2
    port = imported.inputs[0]
    x = f(3, *(dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim[1:]))
    found = evaluate(imported.graph, port.from_onnx(x))
    # What is left is the rounding of the weights to 8 bits.
    assert 1e-6 < largest_gap(found, run(proto, {"x": x})[0]) < 0.05
    assert largest_gap(found, run(float_form(dynamic).model, {"x": x})[0]) < 1e-5


def test_its_network_becomes_integers(both):
    _, dynamic = both
    network = qk.from_onnx(dynamic)
    x = f(16, *network.input_shape[1:])
    quantized = qk.quantize(network, samples=x)
    program = qk.convert(quantized)
    assert not program.float_tail
    assert np.array_equal(program.predict(x), np.asarray(quantized(x)))


def products(zero="z", factor="s", spread="s"):
    """x quantized as it comes, times integers, by hand; the names of what the nodes read."""
    nodes = [
        node("DynamicQuantizeLinear", "x", "q s z"),
        node("MatMulInteger", f"q w {zero} wz", "m"),
        node("Cast", "m", "c", to=TensorProto.FLOAT),
        node("Mul", f"{spread} scale", "f"),
        node("Mul", f"c {'f' if factor == 's' else factor}", "p"),
        node("Add", "p x", "y"),
    ]
    r = np.random.default_rng(0)
    constants = {
        "w": r.integers(0, 255, (6, 6)).astype(np.uint8),
        "wz": r.integers(100, 150, 6).astype(np.uint8),
        "scale": np.full(6, 0.01, np.float32),
        "none": np.uint8(7),
        "one": np.float32(1),
    }
    return model(nodes, {"x": ("n", 6)}, constants)


def test_zero_points_of_the_columns():
    proto = products()
    x = f(4, 6)
    imported = import_onnx(proto)
    assert len(imported.products) == 1
    assert largest_gap(evaluate(imported.graph, x), run(proto, {"x": x})[0]) < 0.03


@pytest.mark.parametrize("wrong", [{"zero": "none"}, {"factor": "one"}])
def test_other_arithmetic_with_the_steps_is_left_alone(wrong):
    proto = products(**wrong)
    assert float_form(proto).products == ()
    with pytest.raises(OnnxError, match=r"DynamicQuantizeLinear.*depend on each other"):
        import_onnx(proto)


def test_the_log_names_them(both):
    _, dynamic = both
    (first, second) = onnx_network(dynamic).conversions
    assert "read as the float product that it rounds" in str(first)
    assert second.layer.endswith("_MatMulInteger")


def test_the_given_model_stays_as_it_is(both):
    _, dynamic = both
    before = dynamic.SerializeToString()
    float_form(dynamic)
    assert dynamic.SerializeToString() == before
    onnx.checker.check_model(float_form(dynamic).model, full_check=True)
