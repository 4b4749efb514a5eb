"""A layer that the user names stays float alone, also where it would be folded into another."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from parameters import slow

import quantkeras as qk
from quantkeras import QuantizationParams
from quantkeras.quantization.decide import make_plan, stays_float
from quantkeras.quantization.params import LayerOverride
from sanitize import read_keras, sanitize_graph

FLOAT = ("BatchNormalization", "Conv2D", "Dense", "ReLU", "Rescaling", "ZeroPadding2D", "Add")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(2, 1, (8, 6, 6, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    values = np.random.default_rng(1).normal(size=(32, 4)) * [1, 10, 3, 2] + [0, 5, 9, 100]
    return values.astype(np.float32)


def trained(inputs: keras.KerasTensor, outputs: keras.KerasTensor) -> keras.Model:
    """A model whose batch normalizations do something."""
    model = keras.Model(inputs, outputs)
    generator = np.random.default_rng(2)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            size = layer.gamma.shape
            spread = [generator.uniform(0.5, 2, size) for _ in range(2)]
            shift = [generator.normal(size=size) for _ in range(2)]
            layer.set_weights([spread[0], *shift, spread[1]])
    return model


@pytest.fixture(scope="module")
def folding() -> keras.Model:
    """What stands in front of and behind each layer would be folded into it."""
    image = keras.Input((6, 6, 3))
    x = layers.Rescaling(0.25, -0.5, name="scale")(image)
    x = layers.Conv2D(4, 3, padding="same", name="first")(x)
    x = layers.ReLU(name="rectify")(layers.BatchNormalization(name="behind")(x))
    x = layers.BatchNormalization(name="before")(x)
    x = layers.ZeroPadding2D(1, name="border")(x)
    x = layers.Conv2D(4, 3, name="second")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return trained(image, layers.Dense(3, name="head")(x))


def floats(quantized: keras.Model) -> list[str]:
    return [layer.name for layer in quantized.layers if type(layer).__name__ in FLOAT]


def is_near(model: keras.Model, quantized: keras.Model, x: np.ndarray) -> bool:
    wanted = np.asarray(model(x))
    return bool(np.abs(np.asarray(quantized(x)) - wanted).max() < 0.1 * np.abs(wanted).max())


@pytest.mark.parametrize(
    "name", ["scale", "first", "behind", "rectify", "before", "border", "second", "pool"]
)
def test_what_is_named_is_planned_as_float_alone(folding, name):
    params = QuantizationParams(float_layers=(name,))
    graph, _ = sanitize_graph(read_keras(folding), keep=stays_float(params))
    plan = make_plan(graph, params)
    (node,) = [entry.node for entry in plan.floats if not entry.expected]
    assert node.name == name
    assert not plan.stops


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scale", *slow("behind")])
def test_the_layers_around_a_float_one_are_integer(folding, images, name):
    params = QuantizationParams(float_layers=(name,))
    quantized = qk.quantize(folding, params, images)
    assert floats(quantized) == [name]
    assert type(quantized.get_layer(name)) is type(folding.get_layer(name))
    assert is_near(folding, quantized, images)
    status = {layer.name: layer.status for layer in qk.coverage(quantized).layers}
    assert [key for key, value in status.items() if value in ("float", "partly")] == [name]
    for part in qk.convert_parts(quantized):
        assert qk.verify(quantized, part, images).exact


@pytest.mark.slow
def test_a_normalization_of_inputs_far_from_zero(rows, tmp_path: Path):
    features = keras.Input((4,))
    normalization = layers.Normalization(name="normalization")
    normalization.adapt(rows)
    x = layers.Dense(8, activation="relu", name="hidden")(normalization(features))
    model = keras.Model(features, layers.Dense(2, name="head")(x))
    quantized = qk.quantize(model, QuantizationParams(float_layers=("normalization*",)), rows)
    covered = qk.coverage(quantized)
    assert covered["normalization"].status == "float"
    assert covered["hidden"].status == covered["head"].status == "integer"
    assert is_near(model, quantized, rows)
    (program,) = qk.convert_parts(quantized)
    assert qk.verify(quantized, program, rows).exact
    quantized.save(tmp_path / "model.keras")
    loaded = qk.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(rows), quantized(rows))


def test_a_named_layer_takes_in_what_is_folded_into_it(folding, images):
    quantized = qk.quantize(folding, QuantizationParams(float_layers=("first",)), images)
    covered = qk.coverage(quantized)
    assert covered["first"].status == "float"
    assert covered["behind"].merged_into == ("first",)
    assert covered["second"].status == "integer"


def test_a_layer_that_shall_be_integer_goes_into_no_float_one(folding, images):
    params = QuantizationParams(
        float_layers=("first",), overrides=(LayerOverride("behind", float=False),)
    )
    covered = qk.coverage(qk.quantize(folding, params, images))
    assert covered["first"].status == "float"
    assert covered["behind"].status == "integer"


def test_kinds_stay_float_as_well_as_names(folding, images):
    params = QuantizationParams(overrides=(LayerOverride("*", kind="batchnorm", float=True),))
    assert floats(qk.quantize(folding, params, images)) == ["behind", "before"]


def test_all_places_of_a_shared_layer(images):
    image = keras.Input((6, 6, 3))
    conv = layers.Conv2D(4, 3, padding="same", name="conv")
    norm = layers.BatchNormalization(name="norm")
    one, two = norm(conv(image)), norm(conv(layers.Conv2D(3, 1, name="start")(image)))
    model = trained(image, layers.GlobalAveragePooling2D()(layers.Add(name="sum")([one, two])))
    quantized = qk.quantize(model, QuantizationParams(float_layers=("norm",)), images)
    assert floats(quantized) == ["norm"]
    assert is_near(model, quantized, images)


def test_two_equal_layers_of_which_one_is_named(images):
    image = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, name="conv")(image)
    both = [layers.ReLU(name="one")(x), layers.ReLU(name="two")(x)]
    model = keras.Model(image, layers.Conv2D(2, 1, name="head")(layers.Concatenate()(both)))
    for name in ("one", "two"):
        quantized = qk.quantize(model, QuantizationParams(float_layers=(name,)), images)
        assert floats(quantized) == [name]


def test_onnx_nodes_that_do_nothing_have_a_name():
    onnx = pytest.importorskip("onnx")
    make = onnx.helper
    generator = np.random.default_rng(3)
    arrays = {
        "w": generator.normal(size=(4, 8)),
        "ones": np.ones(8),
        "zeros": np.zeros(8),
        "v": generator.normal(size=(8, 2)),
    }
    nodes = [
        make.make_node("MatMul", ["x", "w"], ["a"], "fc1"),
        make.make_node("Mul", ["a", "ones"], ["b"], "gain"),
        make.make_node("Add", ["b", "zeros"], ["c"], "bias"),
        make.make_node("Relu", ["c"], ["d"], "relu"),
        make.make_node("MatMul", ["d", "v"], ["y"], "fc2"),
    ]
    kind = onnx.TensorProto.FLOAT
    graph = make.make_graph(
        nodes,
        "g",
        [make.make_tensor_value_info("x", kind, ["n", 4])],
        [make.make_tensor_value_info("y", kind, ["n", 2])],
        [onnx.numpy_helper.from_array(v.astype(np.float32), k) for k, v in arrays.items()],
    )
    proto = make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8)
    samples = generator.normal(size=(16, 4)).astype(np.float32)
    params = QuantizationParams(float_layers=("gain", "bias"))
    for model in (proto, qk.from_onnx(proto)):
        quantized = qk.quantize(model, params, samples, as_onnx=False)
        assert qk.coverage(quantized)["relu"].status == "integer"
