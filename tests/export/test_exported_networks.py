"""Whole networks as ONNX: every integer in onnxruntime is that of the program."""

from __future__ import annotations

from functools import cache
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_running import (
    LEVELS,
    assert_equals_program,
    channels_first,
    products_saturate,
    run_onnx,
)
from parameters import slow
from random_networks import WIDTHS, Network, mostly_quantized, networks
from strategies import examples
from value_running import assert_layers_within_one

from model_zoo import resnet8
from model_zoo.demo_data import cifar10_demo
from quantkeras import QuantizationParams, convert, export_onnx, quantize
from quantkeras.runtime import Program

PARAMS = st.builds(QuantizationParams, **WIDTHS)


def fed(program: Program, model: Any, samples: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Samples of the inputs that the program reads, by name."""
    by_name = dict(zip((tensor.name for tensor in model.inputs), samples, strict=True))
    return {entry.name: by_name[entry.name] for entry in program.inputs}


@pytest.mark.slow
def test_random_networks() -> None:
    with mostly_quantized() as attempts:

        @examples(2, 150)
        @given(networks(), PARAMS)
        def run(network: Network, params: QuantizationParams) -> None:
            _, quantized, samples = attempts.quantize(network, params)
            program = convert(quantized)
            feeds = fed(program, quantized, samples)
            assert_equals_program(program, feeds, ("DISABLE_ALL", "ENABLE_ALL"))

        run()


@pytest.mark.slow
def test_random_models_with_their_tails() -> None:
    """With its float tail, an exported model gives what the Keras model gives."""
    with mostly_quantized() as attempts:

        @examples(4, 60)
        @given(networks(), PARAMS)
        def run(network: Network, params: QuantizationParams) -> None:
            _, model, samples = attempts.quantize(network, params)
            exported = export_onnx(model)
            names = [entry.name for entry in exported.graph.input]
            outputs = list(run_onnx(exported, dict(zip(names, samples, strict=True))).values())
            feed = samples if len(samples) > 1 else samples[0]
            wanted = [np.asarray(y) for y in keras.tree.flatten(model(feed, training=False))]
            assert len(outputs) == len(wanted)
            for a, b in zip(outputs, wanted, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-4 * max(1.0, float(abs(b).max())))

        run()


@pytest.mark.slow
def test_other_forms_of_random_networks() -> None:
    """onnxruntime takes the other forms, and each layer is within one step."""
    widths = st.sampled_from([8, 8, 16])
    params_drawn = st.builds(
        QuantizationParams,
        per_tensor_activations=st.booleans(),
        weight_bits=widths,
        activation_bits=widths,
        output_bits=widths,
    )
    with mostly_quantized() as attempts:

        @examples(3, 100)
        @given(networks(), params_drawn)
        def run(network: Network, params: QuantizationParams) -> None:
            _, quantized, samples = attempts.quantize(network, params)
            program = convert(quantized)
            feeds = fed(program, quantized, samples)
            # What saturates is the runtime's, not the file's.
            for form in ("qdq",) if products_saturate() else ("qdq", "qoperator"):
                assert_layers_within_one(program, feeds, form)
            check_encodings(program, feeds)

        run()


def check_encodings(program: Program, feeds: dict[str, np.ndarray]) -> None:
    """The float model of the encodings has no rounding: the integers approximate it."""
    wanted = program.predict(feeds, as_dict=True)
    outputs = run_onnx(export_onnx(program, format="encodings"), feeds)
    for name, values in wanted.items():
        assert outputs[name].shape == values.shape
        gap = abs(outputs[name] - values)
        assert gap.mean() <= 0.05 * max(abs(values).max(), 1e-3), name


@cache
def quantized_resnet8(per_tensor: bool = False) -> Any:
    """The trained network of the zoo, quantized on its own images."""
    (train, _), _ = cifar10_demo()
    params = QuantizationParams(per_tensor_activations=per_tensor)
    return quantize(resnet8.load(), params, train[:100])


def images(count: int) -> np.ndarray:
    return cifar10_demo()[1][0][:count]


@pytest.mark.parametrize(
    "level", slow("ENABLE_ALL", "DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED")
)
def test_resnet8_is_exact_at_every_optimisation_level(level: str) -> None:
    program = convert(quantized_resnet8())
    (entry,) = program.inputs
    assert_equals_program(program, {entry.name: images(16)}, (level,))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_resnet8_on_bytes_gives_what_the_model_predicts(layout: str) -> None:
    model = quantized_resnet8()
    exported = export_onnx(model, input_type="uint8", input_layout=layout)
    (entry,), x = exported.graph.input, images(50)
    fed = channels_first(x) if layout == "nchw" else x
    (found,) = run_onnx(exported, {entry.name: np.ascontiguousarray(fed)}).values()
    wanted = np.asarray(model(x.astype(np.float32), training=False))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert entry.name == "image"
    assert [output.name for output in exported.graph.output] == ["classifier_softmax"]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["qdq", "qoperator"])
@pytest.mark.parametrize("per_tensor", [False, True])
def test_other_forms_agree_on_the_class(form: str, per_tensor: bool) -> None:
    program, x = convert(quantized_resnet8(per_tensor)), images(200)
    (entry,) = program.inputs
    exported = export_onnx(program, format=form, input_type="uint8")
    kinds = {node.op_type for node in exported.graph.node}
    assert ("QLinearConv" in kinds) == (form == "qoperator" and per_tensor)
    if products_saturate() and "QLinearConv" in kinds:
        pytest.skip("onnxruntime's integer products saturate on this processor")
    level = "ENABLE_BASIC" if products_saturate() else "ENABLE_ALL"
    found = run_onnx(exported, {entry.name: x}, level)[program.outputs[0]]
    wanted = program.predict(x)
    assert (found.argmax(axis=1) == wanted.argmax(axis=1)).mean() >= 0.98
    assert abs(found - wanted).max() < 0.05 * abs(wanted).max()


@pytest.mark.slow
def test_imported_resnet20_is_exact_on_all_images(shared_dir: Any) -> None:
    from quantkeras import from_onnx

    pixels = np.load(shared_dir / "data" / "cifar10_jpeg_eval2000.npz")["x"]
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    x = ((pixels / 255 - mean) / deviation).astype(np.float32)
    model = from_onnx(shared_dir / "models" / "resnet20_cifar10.onnx")
    quantized = quantize(model, QuantizationParams(), x[:256])
    program = convert(quantized)
    (entry,) = program.inputs
    assert_equals_program(program, {entry.name: x}, every_integer=False)


@pytest.mark.parametrize("form", ["integer", "qdq", "qoperator"])
def test_zeros_in_front_of_a_max_pool_win_over_what_is_negative(form: str) -> None:
    """onnxruntime's optimizer makes pads of the pooling of them, if nothing stands between."""
    image = keras.Input((6, 6, 2), name="image")
    x = keras.layers.Conv2D(3, 1, use_bias=False, name="conv")(image)
    x = keras.layers.MaxPooling2D(3, 2, name="pool")(keras.layers.ZeroPadding2D(1)(x))
    scores = keras.layers.Dense(2, name="scores")(keras.layers.Flatten(name="flat")(x))
    model = keras.Model(image, scores)
    kernel = np.array(model.get_layer("conv").kernel)
    model.get_layer("conv").kernel.assign(-np.abs(kernel))
    x = np.random.default_rng(0).uniform(0.1, 1, (16, 6, 6, 2)).astype(np.float32)
    params = QuantizationParams(per_tensor_activations=True)
    program = convert(quantize(model, params, x))
    exported = export_onnx(program, format=form)
    wanted = program.predict(x)
    for level in LEVELS:
        (found,) = run_onnx(exported, {"image": x}, level).values()
        if form == "integer":
            np.testing.assert_array_equal(found, wanted)
        elif not products_saturate() or level in ("DISABLE_ALL", "ENABLE_BASIC"):
            assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
