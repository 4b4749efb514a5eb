"""Functions of the user's: registered formulas, and functions found element-wise by trying them."""

import re

import keras
import numpy as np
import pytest
from float_networks import assert_reads, assert_sanitizes, sequential
from keras import layers, ops

from sanitize import (
    evaluate,
    read_keras,
    register_function,
    unregister_function,
    write_keras,
)
from sanitize.functions import apply_activation, is_monotonic
from sanitize.keras_io.user import elementwise_fault, user_function


@keras.saving.register_keras_serializable(package="sanitize_tests")
def snake(x):
    return x + ops.sin(3.0 * x) ** 2


def snake_formula(x):
    return x + np.sin(3.0 * x) ** 2


@keras.saving.register_keras_serializable(package="sanitize_tests")
class Swoosh(layers.Layer):
    """x sigmoid(b x) with a weight b."""

    def build(self, shape):
        self.b = self.add_weight(name="b", shape=(), initializer="ones")

    def call(self, x):
        return x * ops.sigmoid(self.b * x)


@pytest.fixture
def register():
    """register_function, undone at the end."""
    names = []

    def function(name, formula):
        register_function(name, formula)
        names.append(name)

    yield function
    for name in set(names):
        unregister_function(name)


def user_of(node):
    attrs = node.attrs.get("activation", node.attrs)
    assert attrs["function"] == "user", str(node)
    return attrs["user"]


@pytest.mark.parametrize("layer, name", [
    (lambda: layers.Activation(snake), "snake"),
    (lambda: layers.Lambda(snake), "curly"),
    (lambda: layers.Lambda(lambda x, a: ops.sin(a * x) * x, arguments={"a": 3.0}), "curly"),
    (lambda: layers.Conv2D(4, 3, activation=snake), "snake"),
    (lambda: layers.SeparableConv2D(4, 3, activation=snake), "snake"),
    (lambda: layers.Activation(lambda x: ops.sin(x) * x), "<lambda>"),
])  # fmt: skip
def test_found_by_trying(layer, name):
    made = layer()
    if isinstance(made, layers.Lambda):
        made.name = "curly"
    graph = assert_reads(sequential(layers.Conv2D(4, 3), made))
    user = user_of(graph.nodes[-1])
    assert user.name == name
    x = np.linspace(-3.0, 3.0, 12).reshape(2, 2, 3)
    values = user.formula(x)
    assert values.shape == x.shape and values.dtype == np.float64
    assert not is_monotonic(graph.nodes[-1].attrs.get("activation", graph.nodes[-1].attrs), {})


def test_formula_is_the_function_in_float32():
    user = user_of(read_keras(sequential(layers.Activation(snake))).nodes[-1])
    x = np.linspace(-8.0, 8.0, 1000)
    np.testing.assert_allclose(user.formula(x), snake_formula(x), atol=1e-5)
    found = apply_activation({"function": "user", "user": user}, {}, x.astype(np.float32))
    assert found.dtype == np.float32
    assert user_function("snake", snake).formula(x).tolist() == user.formula(x).tolist()


def test_sanitized_models_keep_them():
    model = sequential(layers.Conv2D(4, 3), layers.Activation(snake), layers.Conv2D(2, 3))
    assert_sanitizes(model)


NOT_ELEMENTWISE = {
    "changes the shape": (lambda x: x[:, 1:], r"makes shape \(3, 4, 4\) of"),
    "mean of all": (lambda x: x - ops.mean(x), "other numbers"),
    "row": (lambda x: x / ops.max(x, axis=-1, keepdims=True), "depends on other numbers"),
    "position": (lambda x: x * np.arange(4, dtype="float32"), "not on each number alone"),
    "logarithm": (lambda x: ops.log(x), "not finite near 0"),
    "fails": (lambda x: x + ops.ones((3, 3)), "does not run"),
    "noise": (lambda x: x + keras.random.normal(ops.shape(x)), "different results"),
}


@pytest.mark.parametrize("name", NOT_ELEMENTWISE)
def test_what_is_not_element_wise_has_a_reason(name):
    function, reason = NOT_ELEMENTWISE[name]
    assert re.search(reason, str(elementwise_fault(function, (4, 4, 4))))


def test_reasons_are_in_the_graph():
    model = sequential(layers.Lambda(lambda x: ops.cumsum(x, axis=1)))
    node = read_keras(model).nodes[-1]
    assert node.kind == "opaque"
    assert node.attrs["reason"].startswith("its function is not element-wise")
    model = sequential(layers.Conv2D(3, 3, activation=lambda x: x - ops.mean(x)))
    assert (
        "its activation '<lambda>' is not element-wise"
        in read_keras(model).nodes[-1].attrs["reason"]
    )


def test_registered_by_the_name_of_a_function_a_lambda_or_a_class(register):
    register("snake", snake_formula)
    for layer in (
        layers.Activation(snake),
        layers.Lambda(snake),
        layers.Lambda(lambda x: x + ops.sin(3.0 * x) ** 2, name="snake"),
        layers.Dense(3, activation=snake),
    ):
        user = user_of(assert_reads(sequential(layer)).nodes[-1])
        assert (user.name, user.formula) == ("snake", snake_formula)
    assert user_function("snake", snake).formula is snake_formula


def test_registered_layer_classes_bring_their_weights(register):
    model = sequential(layers.Conv2D(4, 3), Swoosh())
    assert read_keras(model).nodes[-1].kind == "opaque"
    b = float(model.layers[-1].b)
    register("Swoosh", lambda x: x / (1.0 + np.exp(-b * x)))
    graph = assert_reads(model)
    user = user_of(graph.nodes[-1])
    assert user.keras_function is not model.layers[-1]
    written = write_keras(graph)
    assert isinstance(written.layers[-1], Swoosh)
    assert float(written.layers[-1].b) == b
    assert written.layers[-1].b is not model.layers[-1].b


def test_shared_layers_may_be_user_functions(register):
    register("Swoosh", lambda x: x / (1.0 + np.exp(-x)))
    x = keras.Input((5,))
    swoosh = Swoosh()
    graph = assert_reads(keras.Model(x, [swoosh(x), swoosh(layers.ReLU()(x))]))
    assert [node.kind for node in graph].count("activation") == 2


def test_formulas_that_do_not_fit_are_refused(register):
    with pytest.raises(TypeError, match="'f' is a int, not a function"):
        register_function("f", 3)
    with pytest.raises(ValueError, match=r"'f' makes shape \(\) of shape \(7,\).*element-wise"):
        register_function("f", lambda x: x.sum())
    register("snake", lambda x: np.where(x > 0, snake_formula(x), np.nan))
    with pytest.raises(ValueError, match="registered for 'snake' makes nan of -8 where.*makes -7"):
        read_keras(sequential(layers.Activation(snake)))
    register("snake", lambda x: x)
    with pytest.raises(ValueError, match="'snake' makes -8 of -8 where.*unregister_function"):
        read_keras(sequential(layers.Activation(snake)))
    with pytest.raises(KeyError, match="no formula is registered for 'nothing'"):
        unregister_function("nothing")


@pytest.mark.filterwarnings("ignore:.*HDF5 file.*:UserWarning")
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_saved_and_loaded(tmp_path, suffix):
    model = write_keras(read_keras(sequential(layers.Conv2D(4, 3, activation=snake))))
    model.save(tmp_path / f"model.{suffix}")
    loaded = read_keras(keras.models.load_model(tmp_path / f"model.{suffix}", compile=False))
    x = np.random.default_rng(0).normal(size=(2, 12, 12, 4)).astype(np.float32)
    np.testing.assert_array_equal(evaluate(loaded, x), evaluate(read_keras(model), x))
