"""The table of element-wise functions: each record is read, written and computed as it says."""

import keras
import numpy as np
import onnx
import pytest
from keras import ops
from onnx_harness import run

from quantkeras.files.keras2.calls import OpCall, Tensor
from quantkeras.files.keras2.ops import replacement
from sanitize import evaluate, read_keras
from sanitize.functions import (
    FUNCTIONS,
    POINTS,
    Tried,
    apply_activation,
    is_monotonic,
    least_value,
    recognised,
)
from sanitize.graph import Graph, Node
from sanitize.onnx_io import import_onnx, write_onnx
from sanitize.semantics import run_node

NAMES = sorted(FUNCTIONS.keys() - {"user"})
#: Parameters where the usual ones make another kind of node, or Keras has no usual ones.
CHOSEN = {
    "clip": {"low": -0.5, "high": 2.0},
    "general_relu": {"max_value": 3.0, "negative_slope": 0.2, "threshold": 0.5},
    "power": {"exponent": 1.5},
    "threshold": {"threshold": 1.0, "default_value": -0.5},
}
MAGNITUDES = np.geomspace(1e-3, 1e6, 91)
TAILS = np.concatenate([-MAGNITUDES[::-1], [0.0], MAGNITUDES]).astype(np.float32)


def attributes(name):
    return {"function": name, **FUNCTIONS[name].parameters, **CHOSEN.get(name, {})}


def last_node(function, *given):
    x = keras.Input((3,))
    return read_keras(keras.Model(x, function(x, *given))).nodes[-1]


def of_table(name):
    return apply_activation(attributes(name), {}, TAILS)


def assert_same(found, wanted):
    # Runtimes differ in the last digits, and near the ends of float32 in what overflows first.
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_keras_has_it_under_its_names(name):
    attrs = attributes(name)
    given = [attrs[key] for key in FUNCTIONS[name].parameters]
    for keras_name in FUNCTIONS[name].keras_names:
        found = last_node(getattr(ops, keras_name), *given) if hasattr(ops, keras_name) else None
        assert found is None or dict(found.attrs) == attrs
        if hasattr(keras.activations, keras_name) and name not in CHOSEN:
            assert dict(last_node(keras.layers.Activation(keras_name)).attrs) == attrs
        assert hasattr(ops, keras_name) or hasattr(keras.activations, keras_name)


@pytest.mark.parametrize("name", [name for name in NAMES if FUNCTIONS[name].keras_names])
def test_the_formula_is_that_of_keras_on_both_tails(name):
    function = getattr(ops, name, None) or getattr(keras.activations, name)
    given = [attributes(name)[key] for key in FUNCTIONS[name].parameters]
    assert_same(of_table(name), np.asarray(function(ops.convert_to_tensor(TAILS), *given)))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_of_its_values_holds(name):
    values = of_table(name).astype(np.float64)
    values = values[~np.isnan(values)]
    attrs = attributes(name)
    assert (values >= least_value(attrs)).all() and (values <= FUNCTIONS[name].most).all()
    if is_monotonic(attrs, {}):
        assert (np.diff(values[np.isfinite(values)]) >= -1e-6).all()


@pytest.mark.parametrize("name", NAMES)
def test_written_to_onnx_and_read_again(name):
    entry = Node("x", "input", (), {"dtype": "float32"}, {}, (1,))
    graph = Graph.build([entry, Node("y", "activation", ("x",), attributes(name))], ["x"], ["y"])
    written = write_onnx(graph)
    assert_same(run(written, {"x": TAILS[:, None]})[0][:, 0], of_table(name))
    read = import_onnx(written).graph
    assert_same(evaluate(read, TAILS[:, None])[:, 0], of_table(name))
    operators = [node.op_type for node in written.graph.node]
    if len(operators) == 1 and operators[0] in FUNCTIONS[name].operators:
        found = dict(read.nodes[-1].attrs)
        assert found.pop("function") == name
        assert found == pytest.approx({key: attributes(name)[key] for key in found})


OPERATORS = [(name, op) for name in NAMES for op in FUNCTIONS[name].operators]


@pytest.mark.parametrize("name, op", OPERATORS)
def test_operators_are_of_onnx(name, op):
    assert onnx.defs.has(op)


TENSORFLOW = [(name, known) for name in NAMES for known in FUNCTIONS[name].tensorflow]


@pytest.mark.parametrize("name, known", TENSORFLOW)
def test_keras_2_files_have_it_under_its_names(name, known):
    found = replacement(OpCall(known, Tensor("x", 0, 0), {}))
    registered = keras.saving.get_registered_object(found.class_name)
    layer = (registered or getattr(keras.layers, found.class_name)).from_config(found.config)
    assert dict(last_node(layer).attrs) == attributes(name)


@pytest.mark.parametrize("name", [name for name in NAMES if FUNCTIONS[name].tried])
def test_recognised_by_its_values(name):
    spec = {"kind": "activation", **attributes(name)}
    values = apply_activation(spec, {}, POINTS)
    assert recognised(POINTS, values, Tried.ALONE) == spec
    written_out = FUNCTIONS[name].tried == Tried.WRITTEN_OUT
    assert recognised(POINTS, values, Tried.WRITTEN_OUT) == (spec if written_out else None)


@pytest.mark.parametrize("spec", [
    {"kind": "identity"}, {"kind": "relu"}, {"kind": "relu", "max_value": 30.0},
    {"kind": "activation", "function": "leaky_relu", "negative_slope": 1 / 3},
    {"kind": "activation", "function": "elu", "alpha": 0.7},
    {"kind": "activation", "function": "gelu", "approximate": True},
    {"kind": "activation", "function": "clip", "low": -20.0, "high": 20.0},
    {"kind": "activation", "function": "clip", "low": None, "high": 0.3},
    {"kind": "activation", "function": "clip", "low": 0.3, "high": None},
])  # fmt: skip
def test_parameters_are_read_off_the_values(spec):
    node = Node("y", spec["kind"], ("x",), {key: spec[key] for key in spec if key != "kind"})
    (values,) = run_node(node, [POINTS], np.float64)
    found = recognised(POINTS, values, Tried.WRITTEN_OUT)
    assert found == {key: pytest.approx(value) for key, value in spec.items()}


@pytest.mark.parametrize("near", [
    lambda x: np.clip(x, -5e5, 5e5) * (1 + 1e-3 * (np.abs(x) > 1e5)),
    lambda x: np.maximum(x, 0.0) + 1e-3 * np.maximum(x - 1e5, 0.0),
    lambda x: x + np.where(np.abs(x) < 1e-2, 1e-3 * np.sign(x), 0.0),
])  # fmt: skip
def test_what_bends_far_out_or_near_zero_is_none(near):
    assert recognised(POINTS, near(POINTS), Tried.ALONE) is None
