"""A quantized model computes in float32, whatever dtype policy is set around it."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import pytest
from parameters import slow

import quantkeras as qk

layers = keras.layers

X = np.linspace(0, 1, 8 * 6 * 6 * 3, dtype=np.float32).reshape(8, 6, 6, 3) ** 2


def network(dtype: str | None = None) -> keras.Model:
    """Movements that a policy would reach, a table, and a softmax."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3), dtype=dtype)
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = layers.UpSampling2D(2)(layers.ZeroPadding2D(1)(x))
    x = layers.Flatten()(layers.MaxPooling2D(4)(layers.Concatenate()([x, x])))
    x = layers.Dense(4, activation="swish", name="swish")(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="scores")(x))


@pytest.fixture
def policy(request: pytest.FixtureRequest) -> Iterator[str]:
    """A global policy other than float32: mixed_float16, or the one that a test asks for."""
    name = getattr(request, "param", "mixed_float16")
    keras.config.set_dtype_policy(name)
    yield name
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """Made under float32."""
    return network()


@pytest.fixture(scope="module")
def quantized(model: keras.Model) -> keras.Model:
    """Quantized under float32."""
    return qk.quantize(model, samples=X)


@pytest.fixture(scope="module")
def outputs(quantized: keras.Model) -> np.ndarray:
    """What the quantized model gives under float32."""
    return np.asarray(quantized(X))


@pytest.mark.parametrize("policy", ["mixed_float16", *slow("bfloat16")], indirect=True)
def test_quantizing_under_a_policy_gives_the_same_model(
    policy: str, model: keras.Model, outputs: np.ndarray
) -> None:
    found = qk.quantize(model, samples=X)
    assert {layer.dtype_policy.name for layer in found.layers} == {"float32"}
    result = np.asarray(found(X))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, outputs)
    copy = keras.models.clone_model(found)
    copy.set_weights(found.get_weights())
    np.testing.assert_array_equal(np.asarray(copy(X)), outputs)


@pytest.mark.parametrize("suffix", [".keras", *slow(".h5")])
def test_loading_under_a_policy(policy, suffix, quantized, outputs, tmp_path) -> None:
    path = qk.save_model(quantized, tmp_path / f"model{suffix}")
    np.testing.assert_array_equal(np.asarray(qk.load_model(path)(X)), outputs)


@pytest.mark.slow
def test_a_model_of_the_policy_is_exact(policy: str) -> None:
    model = network()
    found = qk.quantize(model, samples=X)
    assert qk.verify(found, qk.convert(found), X).exact
    np.testing.assert_allclose(
        np.asarray(found(X)), np.asarray(model(X)).astype(np.float32), atol=0.02
    )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", *slow("bfloat16")])
def test_inputs_of_half_precision_become_float32(dtype: str) -> None:
    found = qk.quantize(network(dtype), samples=X)
    assert found.inputs[0].dtype == "float32"
    assert qk.verify(found, qk.convert(found), X).exact


def test_export_under_a_policy(policy, quantized, outputs) -> None:
    runtime = pytest.importorskip("onnxruntime")
    exported = qk.export_onnx(quantized)
    session = runtime.InferenceSession(exported.SerializeToString())
    (result,) = session.run(None, {session.get_inputs()[0].name: X})
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, outputs, atol=1e-6)


def test_a_float_model_of_bfloat16_is_exported_in_float32() -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    inputs = keras.Input((6, 6, 3))
    model = keras.Model(inputs, layers.Conv2D(2, 3, dtype="bfloat16")(inputs))
    session = runtime.InferenceSession(qk.export_onnx(model).SerializeToString())
    (result,) = session.run(None, {session.get_inputs()[0].name: X})
    np.testing.assert_allclose(result, np.asarray(model(X)).astype(np.float32), atol=0.02)


@pytest.mark.slow
def test_training_under_a_policy(policy: str, model: keras.Model) -> None:
    found = qk.quantize(model, samples=X)
    live = qk.live_batchnorm(found, X)
    assert {variable.dtype for variable in live.variables} == {"float32"}
    teacher = network()  # computes in half precision
    distiller = qk.Distiller(live, teacher)
    distiller.compile("sgd", jit_compile=False)
    assert np.isfinite(distiller.train_on_batch(X))
    folded = qk.fold_batchnorm(live)
    assert qk.verify(folded, qk.convert(folded), X).exact
