"""Float Keras models that hold operators of an ONNX model, as ONNX again."""

import keras
import numpy as np
import onnxruntime
import pytest
from onnx_harness import model, node

import quantkeras as qk
from quantkeras.errors import QuantizationError


@pytest.fixture(scope="module")
def network():
    """A convolution, an operator without Keras layers, and a float layer of its own behind it."""
    r = np.random.default_rng(0)
    constants = {"k": r.normal(size=(4, 2, 3, 3)), "b": r.normal(size=4)}
    nodes = [
        node("Conv", "x k b", "c", pads=[1, 1, 1, 1]),
        node("Einsum", "c", "e", equation="nchw->nwhc"),
    ]
    imported = qk.from_onnx(model(nodes, {"x": ("n", 2, 6, 5)}, constants, outputs=("e",)))
    assert any(hasattr(layer, "onnx_call") for layer in imported.layers)
    return imported


def outputs(proto, x):
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    return session.run(None, {session.get_inputs()[0].name: x})[0]


@pytest.mark.parametrize("place", ["alone", "nested", "before another"])
def test_the_operator_itself_is_written(network, place, tmp_path):
    x = np.random.default_rng(1).normal(size=(3, 6, 5, 2)).astype(np.float32)
    if place != "alone":
        given = keras.Input((6, 5, 2))
        result = network(given)
        if place == "before another":
            result = keras.layers.LayerNormalization()(result)
        network = keras.Model(given, result)
    proto = qk.export_onnx(network, tmp_path / "net.onnx")
    assert "Einsum" in [part.op_type for part in proto.graph.node]
    found, wanted = outputs(proto, x), network(x).numpy()
    assert found.shape == wanted.shape
    assert np.allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert (tmp_path / "net.onnx").read_bytes() == proto.SerializeToString()


def test_options_are_those_of_float_models(network):
    assert qk.export_onnx(network, opset=18).opset_import[0].version == 18
    with pytest.raises(QuantizationError, match="opset 17 at least"):
        qk.export_onnx(network, opset=15)
    with pytest.raises(QuantizationError, match="nhwc"):
        qk.export_onnx(network, input_layout="nchw")


class Turned(keras.layers.Layer):
    """Runs Python of its own, which no exporter can write."""

    def call(self, x):
        import tensorflow as tf

        result = tf.numpy_function(lambda array: np.sort(array, -1), [x], tf.float32)
        result.set_shape(x.shape)
        return result

    def compute_output_shape(self, shape):
        return shape


@pytest.mark.parametrize("holding", [True, False])
def test_a_layer_without_operators_is_named(network, holding):
    given = keras.Input((6, 5, 2))
    inner = network(given) if holding else given
    with pytest.raises(QuantizationError, match=r"turned.*PyFunc, which ONNX has no operator"):
        qk.export_onnx(keras.Model(given, Turned(name="turned")(inner)))
