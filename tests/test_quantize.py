"""quantize: what it accepts, what it leaves in float and says so, what it refuses."""

import warnings

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact
from keras import layers
from parameters import slow_rows

from quantkeras.api import quantize
from quantkeras.conversion import convert
from quantkeras.errors import QuantizationError
from quantkeras.layers import Dequantizer, HardwareLayer, InputQuantizer
from quantkeras.quantization.params import LayerOverride, QuantizationParams

X = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)


def small(activation="relu", tail=()):
    """conv - activation - conv - pool - dense."""
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((8, 8, 3), name="image"),
            layers.Conv2D(4, 3, name="conv_a"),
            layers.Activation(activation, name="act"),
            layers.Conv2D(5, 3, name="conv_b"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(3, name="head"),
            *tail,
        ]
    )


def named(model, name):
    return model.get_layer(name)


# -- what the user's model stays ---------------------------------------------------------------


def test_the_float_model_is_not_changed():
    model = small()
    before = [as_numpy(w).copy() for w in model.weights]
    quantize(model, samples=X)
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(as_numpy(weight), old)


def test_an_ordinary_functional_model():
    quantized = quantize(small(), samples=X)
    quantized.summary(print_fn=lambda *_, **__: None)
    kinds = [type(layer).__name__ for layer in quantized.layers]
    assert kinds == [
        "InputLayer",
        "InputQuantizer",
        "QuantizedConv2D",
        "QuantizedConv2D",
        "QuantizedDense",
        "Dequantizer",
    ]
    assert named(quantized, "conv_b").pool.kind == "global_average"
    quantized.compile("sgd", "mse", run_eagerly=True)
    quantized.fit(X, np.zeros((8, 3)), verbose=0)
    assert_exact(quantized, X)


# -- partial quantization ------------------------------------------------------------------------


def test_an_unsupported_layer_is_named_and_the_rest_runs():
    model = small("softmax")
    with pytest.warns(UserWarning, match=r"'act' .*no integer form.*up to its Dequantizer"):
        quantized = quantize(model, samples=X)
    assert not isinstance(named(quantized, "conv_b"), HardwareLayer)
    np.testing.assert_allclose(as_numpy(quantized(X)), as_numpy(model(X)), atol=0.05)
    program = convert(quantized)
    assert [layer.name for layer in program.layers] == ["conv_a"]
    assert program.float_tail[0].name == "act"
    ends = [layer.output for layer in quantized.layers if isinstance(layer, Dequantizer)]
    assert_exact(keras.Model(quantized.input, ends), X)


def test_strict_makes_a_partial_result_an_error():
    with pytest.raises(QuantizationError, match="'act'"):
        quantize(small("softmax"), samples=X, strict=True)
    quantize(small(), samples=X, strict=True)


def test_a_final_softmax_is_expected():
    quantized = quantize(small(tail=[layers.Softmax()]), samples=X, strict=True)
    np.testing.assert_allclose(as_numpy(quantized(X)).sum(axis=1), 1, rtol=1e-5)


def test_float_layers():
    quantized = quantize(small(), QuantizationParams(float_layers=["conv_b"]), X, strict=True)
    assert not isinstance(named(quantized, "conv_b"), HardwareLayer)
    with pytest.raises(QuantizationError, match="no layer is named 'typo'"):
        quantize(small(), QuantizationParams(float_layers=["typo"]), X)


def test_nothing_to_quantize():
    model = keras.Sequential([keras.Input((4,)), layers.Softmax()])
    with pytest.raises(QuantizationError, match="nothing in model .* can be quantized"):
        quantize(model, samples=np.ones((2, 4), np.float32))
    with pytest.raises(QuantizationError, match=r"takes .* an ONNX model, not 'net.h5'"):
        quantize("net.h5")


def test_faulty_weights():
    model = small()
    kernel = as_numpy(model.get_layer("conv_b").kernel).copy()
    kernel[0, 0, 0, 0] = np.nan
    model.get_layer("conv_b").kernel.assign(kernel)
    with pytest.raises(QuantizationError, match="'conv_b': its kernel holds NaN"):
        quantize(model, samples=X)


def test_dynamic_shapes_without_samples_are_refused_by_name_and_remedy():
    model = keras.Sequential([keras.Input((None, None, 3), name="image"), layers.Conv2D(2, 3)])
    with pytest.raises(QuantizationError, match=r"'image' leaves sizes open.*or shapes="):
        quantize(model)


# -- settings -------------------------------------------------------------------------------------


def test_overrides_per_layer():
    params = QuantizationParams(
        activation_bits=8,
        overrides=[
            LayerOverride("conv_a", weight_bits=4, activation_bits=5),
            LayerOverride("*", kind="dense", weight_bits=16),
        ],
    )
    quantized = quantize(small(), params, X)
    assert named(quantized, "conv_a").weight_quantizer.bits == 4
    assert named(quantized, "conv_a").output_quantizer.bits == 5
    assert named(quantized, "conv_b").weight_quantizer.bits == 8
    assert named(quantized, "head").weight_quantizer.bits == 16
    assert_exact(quantized, X, graph=False)


@pytest.mark.slow
def test_last_output_bits():
    quantized = quantize(small(), QuantizationParams(last_output_bits=6), X)
    program = assert_exact(quantized, X, graph=False)
    assert program.layers[-1].output_format.bits == 6
    assert quantize(small(), samples=X).get_layer("head").output_quantizer is None


@pytest.mark.parametrize("per_tensor", [True, False])
def test_flatten_with_either_kind_of_format(per_tensor):
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)]
    )
    params = QuantizationParams(per_tensor_activations=per_tensor)
    assert_exact(quantize(model, params, X), X, graph=False)


# -- inputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "signed", "integer"),
    [
        (np.uint8, False, True),
        (np.float32, True, False),
        *slow_rows((np.int8, True, True)),
    ],
)
def test_input_kinds(dtype, signed, integer, rng):
    x = (rng.normal(size=X.shape) * 40 + 60 * (dtype is np.uint8)).clip(-128, 127)
    x = (x.clip(0, 255) if dtype is np.uint8 else x).astype(dtype)
    quantized = quantize(small(), samples=x)
    quantizer = next(q for q in quantized.layers if isinstance(q, InputQuantizer))
    assert (quantizer.signed, quantizer.integer_input) == (signed, integer)
    program = assert_exact(quantized, x, graph=False)
    if integer:
        np.testing.assert_array_equal(program.run_integers(x, keep=["image"])["image"], x)


def test_float_inputs_that_are_never_negative_are_unsigned():
    quantized = quantize(small(), samples=np.abs(X))
    assert not next(q for q in quantized.layers if isinstance(q, InputQuantizer)).signed
    assert_exact(quantized, np.abs(X), graph=False)


@pytest.mark.slow
def test_several_inputs_and_outputs_by_name(rng):
    a, b = keras.Input((4,), name="a"), keras.Input((6, 6, 2), name="b")
    y = layers.Add()([layers.Dense(5)(a), layers.Dense(5)(layers.Flatten()(b))])
    model = keras.Model({"a": a, "b": b}, {"sum": layers.ReLU()(y), "more": layers.Dense(2)(y)})
    x = {
        "b": rng.integers(0, 256, (7, 6, 6, 2)).astype(np.uint8),
        "a": rng.normal(size=(7, 4)).astype(np.float32),
    }
    quantized = quantize(model, samples=x)
    assert set(quantized.output) == {"sum", "more"}
    program = convert(quantized)
    wanted = quantized.predict(x, verbose=0)
    for values in program.predict(x):
        assert any(np.array_equal(values, y) for y in wanted.values())


def test_without_samples_one_warning():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        quantized = quantize(small())
    (only,) = [w for w in caught if issubclass(w.category, UserWarning)]
    assert "random" in str(only.message)
    assert_exact(quantized, np.abs(X) * 60, graph=False)  # of the size of pixels


# -- structure ------------------------------------------------------------------------------------


def test_shared_layers_stay_shared():
    a, b = keras.Input((8, 8, 3), name="a"), keras.Input((8, 8, 3), name="b")
    shared = layers.Conv2D(4, 3, activation="relu", name="shared")
    y = layers.Concatenate()([shared(a), shared(b)])
    model = keras.Model([a, b], layers.Dense(2)(layers.GlobalAveragePooling2D()(y)))
    x = [X, X * 0.3]
    quantized = quantize(model, samples=x)
    assert sum(layer.name.startswith("shared") for layer in quantized.layers) == 1
    assert_exact(quantized, x)


def test_nested_models():
    inner = keras.Sequential([keras.Input((6, 6, 4)), layers.Conv2D(4, 3), layers.ReLU()])
    outer = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), inner, layers.Dense(2)])
    quantized = quantize(outer, samples=X)
    assert sum(isinstance(layer, HardwareLayer) for layer in quantized.layers) == 3
    assert_exact(quantized, X, graph=False)
