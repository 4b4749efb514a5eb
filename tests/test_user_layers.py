"""The user's own functions and layers: tables for what is element-wise, float for the rest."""

import keras
import numpy as np
import pytest
from exactness import assert_exact
from keras import layers, ops
from parameters import slow

from quantkeras import convert, coverage, load_model, quantize, save_model, verify
from quantkeras.errors import ModelFileError
from quantkeras.layers import Dequantizer, HardwareLayer, InputQuantizer
from quantkeras.quantization.params import QuantizationParams
from sanitize import register_function, unregister_function

X = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)


@keras.saving.register_keras_serializable(package="user_layer_tests")
def wobble(x):
    return x + 0.5 * ops.sin(2.0 * x)


@keras.saving.register_keras_serializable(package="user_layer_tests")
class Swish(layers.Layer):
    """x sigmoid(b x), b fixed."""

    def __init__(self, b=1.5, **kwargs):
        super().__init__(**kwargs)
        self.b = b

    def call(self, x):
        return x * ops.sigmoid(self.b * x)

    def get_config(self):
        return {**super().get_config(), "b": self.b}


@keras.saving.register_keras_serializable(package="user_layer_tests")
class Mixer(layers.Layer):
    """A product with a matrix of weights over the rows of a picture: nothing quantkeras knows."""

    def build(self, shape):
        self.mix = self.add_weight(shape=(shape[1], shape[1]), name="mix")

    def call(self, x):
        return ops.einsum("nhwc,hk->nkwc", x, self.mix)


def network(*middle):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((8, 8, 3), name="picture"),
            layers.Conv2D(4, 3, padding="same", name="before"),
            *middle,
            layers.Conv2D(5, 3, activation="relu", name="after"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(3, name="head"),
        ]
    )


@pytest.fixture
def swish_formula():
    register_function("Swish", lambda x: x / (1.0 + np.exp(-1.5 * x)))
    yield
    unregister_function("Swish")


def all_statuses(model):
    return {layer.name: layer.status for layer in coverage(model).layers}


# -- functions of one number become tables ----------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", *slow(".h5")])
def test_a_function_written_by_hand_is_a_table_and_survives_saving(tmp_path, suffix):
    model = network(layers.Activation(wobble, name="wobble"))
    quantized = quantize(model, samples=X, strict=True)
    assert "float" not in all_statuses(quantized).values()
    program = assert_exact(quantized, X, graph=False)
    assert any(layer.params.table is not None for layer in program.layers)
    wanted, found = (np.asarray(m(X, training=False)) for m in (model, quantized))
    assert np.abs(wanted - found).max() < 0.05 * np.abs(wanted).max()
    again = load_model(save_model(quantized, tmp_path / f"net{suffix}"))
    np.testing.assert_array_equal(np.asarray(again(X, training=False)), found)
    assert_exact(again, X, graph=False)


@pytest.mark.slow
def test_a_function_inside_a_convolution_and_as_a_lambda():
    middle = [
        layers.Conv2D(4, 1, activation=wobble, name="fused"),
        layers.Lambda(lambda x: ops.tanh(x) * ops.cos(x), name="anonymous"),
    ]
    quantized = quantize(network(*middle), samples=X, strict=True)
    assert all_statuses(quantized)["anonymous"] == "integer"
    program = assert_exact(quantized, X, graph=False)
    assert sum(layer.params.table is not None for layer in program.layers) == 2


@pytest.mark.slow
def test_a_layer_class_with_a_registered_formula(swish_formula, tmp_path):
    quantized = quantize(network(Swish(name="swish")), samples=X, strict=True)
    assert all_statuses(quantized)["swish"] == "integer"
    assert_exact(quantized, X, graph=False)
    again = load_model(save_model(quantized, tmp_path / "net.keras"))
    y, z = (np.asarray(m(X, training=False)) for m in (quantized, again))
    np.testing.assert_array_equal(y, z)


@pytest.mark.slow
def test_python_code_in_a_quantized_model_needs_trust_to_load(tmp_path):
    quantized = quantize(network(layers.Lambda(lambda x: x + 0.1 * x**3)), samples=X)
    path = save_model(quantized, tmp_path / "net.keras")
    with pytest.raises(ModelFileError, match="safe_mode=False"):
        load_model(path)
    again = load_model(path, safe_mode=False)
    y, z = (np.asarray(m(X, training=False)) for m in (quantized, again))
    np.testing.assert_array_equal(y, z)
    outside = quantize(network(layers.Lambda(lambda x: ops.sin(x) * x)), samples=X)
    with pytest.raises(ModelFileError, match="name 'ops' is not defined: .*import it inside"):
        load_model(save_model(outside, path), safe_mode=False)


def test_lambdas_that_are_layers_cost_no_table():
    middle = [
        layers.Lambda(lambda x: ops.relu6(x) * 0.5),
        layers.Lambda(lambda x: ops.pad(x[:, 1:], [[0, 0], [0, 1], [0, 0], [0, 0]])),
        layers.Lambda(lambda x: ops.transpose(x, [0, 2, 1, 3])),
    ]
    quantized = quantize(network(*middle), samples=X, strict=True)
    program = assert_exact(quantized, X, graph=False)
    assert all(layer.params is None or layer.params.table is None for layer in program.layers)


# -- layers that are not understood stay float ------------------------------------------------


def test_quantization_stops_at_a_layer_it_does_not_know():
    model = network(Mixer(name="mixer"))
    with pytest.warns(UserWarning, match=r"1 layer\(s\) stay float.*'mixer'.*Mixer.*float_layers"):
        quantized = quantize(model, samples=X)
    statuses = all_statuses(quantized)
    assert statuses["before"] == "integer"
    assert {statuses[name] for name in ("mixer", "after", "head")} == {"float"}
    report = coverage(quantized)
    assert "Mixer has no integer form" in report["mixer"].reason
    assert "behind" in report["after"].reason
    wanted, found = (np.asarray(m(X, training=False)) for m in (model, quantized))
    assert np.abs(wanted - found).max() < 0.05 * np.abs(wanted).max()
    program = convert(quantized)
    assert [layer.name for layer in program.layers] == ["before"]
    assert verify(quantized, program, X).exact


def test_quantization_goes_around_a_layer_if_asked():
    model = network(Mixer(name="mixer"))
    quantized = quantize(model, QuantizationParams(float_layers=["mixer"]), X, strict=True)
    statuses = all_statuses(quantized)
    assert statuses.pop("mixer") == "float"
    assert "float" not in statuses.values()
    assert "as asked" in coverage(quantized)["mixer"].reason
    kinds = [type(layer) for layer in quantized.layers]
    assert kinds.count(InputQuantizer) == 2 and kinds.count(Dequantizer) == 2
    assert isinstance(quantized.get_layer("after"), HardwareLayer)
    wanted, found = (np.asarray(m(X, training=False)) for m in (model, quantized))
    assert np.abs(wanted - found).max() < 0.05 * np.abs(wanted).max()


def test_a_lambda_that_is_not_understood_stays_float_with_its_reason():
    odd = layers.Lambda(lambda x: ops.cumsum(x, axis=1), name="running_sum")
    with pytest.warns(UserWarning, match="'running_sum'"):
        quantized = quantize(network(odd), samples=X)
    layer = coverage(quantized)["running_sum"]
    assert layer.status == "float" and layer.type == "Lambda"
    assert "not element-wise" in layer.reason
