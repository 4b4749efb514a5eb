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


SLOW = ("argmax", "einsum", "batchnorm", "reflect")


@pytest.mark.parametrize(
    "tail", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in TAILS]
)
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


@pytest.mark.slow
def test_integers_begin_behind_float_layers_at_the_beginning(images):
    """Of two inputs, one is padded by reflection first, which integers do not do."""
    keras.utils.set_random_seed(0)
    x, other = keras.Input((8, 6, 3), name="image"), keras.Input((5,), name="numbers")
    padded = ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect")
    maps = keras.layers.Conv2D(4, 3, activation="relu")(padded)
    joined = ops.concatenate([keras.layers.Flatten()(maps), other], axis=-1)
    net = keras.Model([x, other], keras.layers.Dense(3)(joined))
    samples = [images, images[:, 0, 0, :].repeat(2, axis=-1)[:, :5]]
    with pytest.warns(UserWarning, match="integers begin behind it"):
        quantized = qk.quantize(net, samples=samples)
    assert qk.verify(quantized, qk.convert(quantized), samples).exact
    wanted, meant = (np.asarray(model(samples)) for model in (quantized, net))
    error = np.linalg.norm(wanted - meant)
    assert error < 0.05 * np.linalg.norm(wanted)
    proto = qk.export_onnx(quantized, None)
    assert [entry.name for entry in proto.graph.input] == ["image", "numbers"]
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    found = session.run(None, dict(zip(["image", "numbers"], samples, strict=True)))[0]
    assert np.allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_first_node_of_an_onnx_file_without_an_integer_form(images):
    r = np.random.default_rng(0)
    weights = r.normal(size=(4, 3, 3, 3)).astype(np.float32)
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    nodes = [
        helper.make_node("Pad", ["x", "p"], ["a"], "pad", mode="reflect"),
        helper.make_node("Conv", ["a", "w"], ["c"], "conv"),
        helper.make_node("Relu", ["c"], ["y"], "relu"),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "net", [info("x", TensorProto.FLOAT, ["n", 3, 8, 6])],
        [info("y", TensorProto.FLOAT, ["n", 4, 8, 6])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(pads, "p")],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    x = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    found, wanted = run(qk.quantize(proto, samples=x), x), run(proto, x)
    assert np.linalg.norm(found - wanted) < 0.03 * np.linalg.norm(wanted)
