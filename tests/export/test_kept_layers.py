"""Float tails of layers that have no integer form: exported with the integers in front of them."""

import keras
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import quantkeras as qk

ops = keras.ops
pytestmark = pytest.mark.filterwarnings("ignore:.*stay float")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(8, 8, 6, 3)).astype(np.float32)


def run(proto, x):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


TAILS = {
    "bilinear": lambda t: keras.layers.UpSampling2D(2, interpolation="bilinear")(t),
    "argmax": lambda t: ops.cast(ops.argmax(t, -1), "float32") * 2.0,
    "einsum": lambda t: ops.einsum("bhwc,bijc->bhwij", t, t),
    "reflect": lambda t: ops.pad(t, [[0, 0], [1, 1], [2, 1], [0, 0]], mode="reflect"),
    "batchnorm": lambda t: keras.layers.BatchNormalization(axis=1)(t),
}


@pytest.mark.parametrize("tail", TAILS)
def test_keras_layers_without_a_kind(images, tail):
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 6, 3))
    net = keras.Model(x, TAILS[tail](keras.layers.Conv2D(4, 3, padding="same")(x)))
    quantized = qk.quantize(net, samples=images)
    found = run(qk.export_onnx(quantized, None), images)
    assert np.allclose(found, quantized.predict(images, verbose=0), rtol=1e-5, atol=1e-5)


def recurrent_net():
    """Dense, then an LSTM along the first axis, of opset 12, and a Squeeze of its last state."""
    r = np.random.default_rng(0)

    def weights(*shape):
        return r.normal(size=shape).astype(np.float32) * 0.4

    arrays = {"k": weights(4, 6), "w": weights(1, 20, 6), "r": weights(1, 20, 5),
              "b": weights(1, 40), "fc": weights(5, 3)}  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "k"], ["d"], "dense"),
        helper.make_node("Relu", ["d"], ["a"], "relu"),
        helper.make_node("Transpose", ["a"], ["t"], "turn", perm=[1, 0, 2]),
        helper.make_node("LSTM", ["t", "w", "r", "b"], ["ys", "yh"], "lstm", hidden_size=5),
        helper.make_node("Squeeze", ["yh"], ["s"], "squeeze", axes=[0]),
        helper.make_node("MatMul", ["s", "fc"], ["y"], "head"),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "net", [info("x", TensorProto.FLOAT, ["n", 6, 4])],
        [info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)


def test_a_recurrent_layer_stays_float_behind_the_integers():
    proto = recurrent_net()
    x = np.random.default_rng(1).normal(size=(8, 6, 4)).astype(np.float32)
    quantized = qk.quantize(proto, samples=x, as_onnx=False)
    assert qk.verify(quantized, qk.convert(quantized), x).exact
    found, wanted = run(qk.quantize(proto, samples=x), x), run(proto, x)
    assert np.linalg.norm(found - wanted) < 0.02 * np.linalg.norm(wanted)
