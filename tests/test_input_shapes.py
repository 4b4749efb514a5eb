"""Inputs of odd names, of open sizes, and models that do not say what they take."""

import keras
import numpy as np
import pytest
from exactness import assert_exact
from keras import layers, ops
from parameters import slow

from quantkeras import convert, coverage, load_model, quantize
from quantkeras.calibration.batches import SampleError
from quantkeras.cli import main
from quantkeras.cli.input_shapes import given_shapes
from quantkeras.errors import QuantizationError
from quantkeras.quantization.params import QuantizationParams

X = np.random.default_rng(0).normal(size=(8, 6, 6, 3)).astype(np.float32)


def open_network():
    x = image = keras.Input((None, None, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    return keras.Model(image, layers.Dense(2, name="head")(layers.GlobalAveragePooling2D()(x)))


@pytest.fixture(scope="module")
def open_model():
    return open_network()


class Net(keras.Model):
    def __init__(self):
        super().__init__(name="net")
        self.conv = layers.Conv2D(4, 3, activation="relu", name="conv")
        self.head = layers.Dense(2, name="head")

    def call(self, x):
        return self.head(ops.mean(self.conv(x), axis=(1, 2)))


@pytest.mark.parametrize("name", ["input:0", "a b", "x (rgb)", "bild\u00fc"])
def test_inputs_of_any_name(name):
    image = keras.Input((6, 6, 3), name=name)
    model = keras.Model(image, layers.Dense(2, name="head")(layers.Flatten()(image)))
    quantized = quantize(model, samples={name: X}, strict=True)
    assert_exact(quantized, X, graph=False)


@pytest.mark.parametrize("form", ["array", "list", "dict", "generator", "pairs"])
def test_open_sizes_are_those_of_the_samples(open_model, form):
    samples = {
        "array": X,
        "list": [X],
        "dict": {"image": X},
        "generator": (X[i : i + 4] for i in (0, 4)),
        "pairs": lambda: iter([(X, np.zeros(8))]),
    }[form]
    quantized = quantize(open_model, samples=samples, strict=True, num_samples=8)
    assert quantized.input_shape == (None, 6, 6, 3)


def test_open_sizes_may_be_given(open_model):
    quantized = quantize(open_model, samples=X, shapes=(6, 6, 3), strict=True)
    assert_exact(quantized, X, graph=False)
    with pytest.raises(SampleError, match=r"'image' leaves sizes open.*shapes="):
        quantize(open_model)


@pytest.mark.parametrize("built", [False, *slow(True)])
def test_a_subclass_of_model(built):
    model = Net()
    if built:
        model(X[:1])
    quantized = quantize(model, samples=X, strict=True)
    assert_exact(quantized, X, graph=False)
    wanted, found = (np.asarray(m(X)) for m in (model, quantized))
    assert np.abs(wanted - found).max() < 0.05 * np.abs(wanted).max()
    assert [layer.status for layer in coverage(quantized).layers[1:]] == ["integer"] * 3


def test_a_sequential_that_is_not_built():
    quantized = quantize(keras.Sequential([layers.Dense(3)]), samples=X[:, 0, 0], strict=True)
    assert quantized.input_shape == (None, 3)
    with pytest.raises(ValueError, match="without layers"):
        quantize(keras.Sequential(), samples=X)


def test_samples_of_channels_first_in_either_order():
    image = keras.Input((3, 6, 5))
    order = {"data_format": "channels_first"}
    x = layers.Conv2D(4, 3, activation="relu", **order)(image)
    model = keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D(**order)(x)))
    x = np.ascontiguousarray(np.moveaxis(X[:, :, :5], -1, 1))
    one = quantize(model, samples=x, strict=True)
    other = quantize(model, samples=np.moveaxis(x, 1, -1), strict=True)
    np.testing.assert_array_equal(convert(one).predict(x), convert(other).predict(x))
    np.testing.assert_array_equal(np.asarray(one(x)), convert(one).predict(x))


def test_ordinary_models_under_a_global_format_of_channels_first(open_model):
    wanted = convert(quantize(open_model, samples=X)).predict(X)
    keras.config.set_image_data_format("channels_first")
    try:
        quantized = quantize(open_model, samples=X, strict=True)
        found = np.asarray(quantized(X))
        program = convert(quantized)
    finally:
        keras.config.set_image_data_format("channels_last")
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(program.predict(X), wanted)


def test_the_dense_in_front_of_an_activation_that_is_not_known_is_integer():
    def centred(x):
        return x - ops.mean(x, axis=-1, keepdims=True)

    model = keras.Sequential([keras.Input((6,)), layers.Dense(3, activation=centred, name="d")])
    with pytest.warns(UserWarning, match="its activation 'centred' is not element-wise"):
        quantized = quantize(model, samples=X[:, :, 0, 0])
    assert coverage(quantized)["d"].status == "partly"
    assert [layer.name for layer in convert(quantized).layers] == ["d_linear"]


@pytest.mark.slow
def test_shapes_on_the_command_line(tmp_path, monkeypatch, capsys, open_model):
    assert given_shapes(None) is None
    assert given_shapes(["4,4,3"]) == (4, 4, 3)
    assert given_shapes(["a=3,8", "b:0=4"]) == {"a": (3, 8), "b:0": (4,)}
    for wrong in (["4,-1"], ["a"], ["1,2", "3"], ["4,,3"]):
        with pytest.raises(QuantizationError, match="--shapes"):
            given_shapes(wrong)
    monkeypatch.chdir(tmp_path)
    open_model.save("net.keras")
    np.savez("x.npz", x=X)
    assert main(["quantize", "-m", "net.keras", "-sa", "x.npz", "-o", "q.keras"]) == 0
    assert main(["sanitize", "-m", "net.keras", "--shapes", "6,6,3", "-o", "s.keras"]) == 0
    assert main(["sanitize", "-m", "net.keras", "-sa", "x.npz", "-o", "t.keras"]) == 0
    assert main(["sanitize", "-m", "net.keras", "-o", "u.keras"]) == 0
    for name, size in (("s", 6), ("t", 6), ("u", None)):
        assert load_model(f"{name}.keras").input_shape == (None, size, size, 3)
    assert main(["quantize", "-m", "net.keras", "--shapes", "6,6,4", "-sa", "x.npz"]) != 0
    assert "takes (None, None, 3) behind the batch" in capsys.readouterr().err


def test_open_sizes_of_an_onnx_model(tmp_path, monkeypatch, capsys):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    kernel = np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
            helper.make_node("Relu", ["c"], ["y"], "relu"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w_"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, "oh", "ow"])],
        [numpy_helper.from_array(kernel, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    x = np.moveaxis(X, -1, 1)
    for samples, shapes in ((x, None), (X, None), (x, (3, 6, 6)), (x, {"x": (6, 6, 3)})):
        quantized = quantize(model, samples=samples, shapes=shapes, as_onnx=False)
        assert quantized.input_shape == (None, 6, 6, 3)
    with pytest.raises(SampleError, match=r"'x' leaves sizes open"):
        quantize(model)
    monkeypatch.chdir(tmp_path)
    onnx.save(model, "net.onnx")
    np.savez("x.npz", x=x)
    assert main(["quantize", "-m", "net.onnx", "-sa", "x.npz", "-o", "q.keras"]) == 0
    assert main(["sanitize", "-m", "net.onnx", "--shapes", "x=3,6,6", "-o", "s.keras"]) == 0
    assert main(["sanitize", "-m", "net.onnx", "-sa", "x.npz", "-o", "t.keras"]) == 0
    assert load_model("t.keras").input_shape == (None, 6, 6, 3)
    assert main(["plot", "-m", "net.onnx", "-sa", "x.npz", "-o", "net.dot", "--sanitized"]) == 0
    capsys.readouterr()
    for command in ("sanitize", "quantize"):
        assert main([command, "-m", "net.onnx"]) == 2
        assert "give samples, which say them, or shapes= (--shapes" in capsys.readouterr().err


def test_a_layer_that_does_nothing_may_be_named():
    x = image = keras.Input((6,))
    x = layers.Dense(4, name="first")(x)
    x = layers.Dense(2, name="head")(layers.Dropout(0.5, name="drop")(x))
    params = QuantizationParams(float_layers=("drop*",))
    quantized = quantize(keras.Model(image, x), params, samples=X[:, :, 0, 0], strict=True)
    assert coverage(quantized)["drop"].status == "removed"
    with pytest.raises(QuantizationError, match="no layer is named 'dorp'"):
        quantize(keras.Model(image, x), QuantizationParams(float_layers=("dorp",)), X[:, :, 0, 0])
