"""Encodings files: what they say in each schema, and models quantized by them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from onnx_running import run_onnx
from runtime.small_programs import conv_dense

import quantkeras
from quantkeras import convert, export_onnx, quantize
from quantkeras.errors import ModelFileError, QuantizationError
from quantkeras.onnx import Encoding, encoding_observers, read_encodings
from quantkeras.onnx.encodings import VERSIONS, encodings_document
from quantkeras.runtime import Program

keras = pytest.importorskip("keras")
layers = keras.layers

BYTES = Encoding("image", 8, False, np.array(0.5), np.array(114))
SIGNED = Encoding("sum", 8, True, np.array(0.25), np.array(0))
KERNEL = Encoding("conv.weight", 4, True, np.array([0.5, 0.125]), np.zeros(2, int), 0, True)


def test_schema_0_6_1_lists_entries_per_channel() -> None:
    document = encodings_document([BYTES, SIGNED, KERNEL], "0.6.1")
    assert document["version"] == "0.6.1"
    assert document["activation_encodings"]["image"] == [
        {
            "bitwidth": 8,
            "dtype": "int",
            "is_symmetric": "False",
            "max": 70.5,
            "min": -57.0,
            "offset": -114,
            "scale": 0.5,
        }
    ]
    kernel = document["param_encodings"]["conv.weight"]
    assert [entry["scale"] for entry in kernel] == [0.5, 0.125]
    assert [entry["offset"] for entry in kernel] == [-8, -8]
    assert kernel[0]["min"] == -4.0 and kernel[0]["max"] == 3.5


def test_schema_1_0_0_lists_scales_and_offsets() -> None:
    document = encodings_document([BYTES, KERNEL], "1.0.0")
    (image,), (kernel,) = document["activation_encodings"], document["param_encodings"]
    assert image == {
        "name": "image",
        "enc_type": "PER_TENSOR",
        "dtype": "INT",
        "bw": 8,
        "is_sym": False,
        "scale": [0.5],
        "offset": [-114.0],
    }
    assert kernel["enc_type"] == "PER_CHANNEL" and kernel["is_sym"]
    assert kernel["offset"] == [-8.0, -8.0]


def test_schema_2_0_0_mirrors_quantize_linear() -> None:
    document = encodings_document([BYTES, SIGNED, KERNEL], "2.0.0")
    assert document["encodings"] == [
        {"name": "image", "output_dtype": "uint8", "y_scale": 0.5, "y_zero_point": 114},
        {"name": "sum", "output_dtype": "int8", "y_scale": 0.25},
        {"name": "conv.weight", "output_dtype": "int4", "y_scale": [0.5, 0.125], "axis": 0},
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_written_is_read(version: str, tmp_path: Any) -> None:
    path = tmp_path / "net.encodings"
    path.write_text(json.dumps(encodings_document([BYTES, SIGNED, KERNEL], version)))
    found = read_encodings(path)
    assert list(found) == ["image", "sum", "conv.weight"]
    for wanted in (BYTES, SIGNED, KERNEL):
        entry = found[wanted.name]
        np.testing.assert_array_equal(entry.step, wanted.step)
        np.testing.assert_array_equal(entry.low, wanted.low)
        np.testing.assert_array_equal(entry.high, wanted.high)
        assert (entry.bits, entry.axis, entry.is_param) == (
            wanted.bits,
            wanted.axis,
            wanted.is_param,
        )


def test_files_of_other_kinds_are_refused(tmp_path: Any) -> None:
    with pytest.raises(ModelFileError, match="there is no file"):
        read_encodings(tmp_path / "none")
    (tmp_path / "text").write_text("{")
    with pytest.raises(ModelFileError, match="no JSON"):
        read_encodings(tmp_path / "text")
    with pytest.raises(ModelFileError, match="no encodings file"):
        read_encodings({"version": "0.6.1"})
    blocks = {"name": "w", "output_dtype": "int4", "y_scale": [1.0], "block_size": 32}
    with pytest.raises(ModelFileError, match="per block"):
        read_encodings({"encodings": [blocks]})
    with pytest.raises(QuantizationError, match=r"0\.6\.1 or"):
        encodings_document([BYTES], "3")


def test_the_exported_float_model_has_its_encodings_beside_it(tmp_path: Any) -> None:
    program = conv_dense()
    model = export_onnx(program, tmp_path / "net.onnx", "encodings", encodings_version="2.0.0")
    assert not {"QuantizeLinear", "DequantizeLinear"} & {n.op_type for n in model.graph.node}
    found = read_encodings(tmp_path / "net.encodings")
    constants = {c.name: quantkeras_array(c) for c in model.graph.initializer}
    known = {name for node in model.graph.node for name in (*node.input, *node.output)}
    assert set(found) <= known
    for entry in found.values():
        if entry.is_param:
            integers = np.moveaxis(constants[entry.name], entry.axis or 0, -1) / entry.step
            np.testing.assert_allclose(integers, np.round(integers), atol=1e-5)
    assert found["conv"].step == 0.5 and found["conv"].bits == 8 and not found["conv"].signed
    # 225 * 128 / 256 = 112.5 of the conv is not rounded here.
    x = np.array([[10, 20], [30, 40]], np.float32).reshape(1, 2, 2, 1)
    (scores,) = run_onnx(model, {"x": x}).values()
    np.testing.assert_allclose(scores, [[(112.5 * 3 + 7) / 2, (112.5 * -5 - 1) / 4]])


def quantkeras_array(constant: Any) -> np.ndarray:
    from onnx import numpy_helper

    return numpy_helper.to_array(constant)


def small_network() -> Any:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 6, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = layers.Add(name="sum")([x, layers.Conv2D(4, 1, name="side")(x)])
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.Flatten(name="flat")(x)))


@pytest.mark.slow
def test_a_model_is_quantized_by_the_ranges_of_a_file(tmp_path: Any) -> None:
    x = np.random.default_rng(0).normal(size=(32, 6, 6, 3)).astype(np.float32)
    params = quantkeras.QuantizationParams(per_tensor_activations=True)
    first = quantize(small_network(), params, x)
    export_onnx(first, tmp_path / "net.onnx", "encodings")
    observers = encoding_observers(tmp_path / "net.encodings")
    assert {"conv", "side", "sum"} <= set(observers)
    again = quantize(small_network(), params, x / 100, observer=observers)
    wanted, found = (formats(convert(model)) for model in (first, again))
    assert found["sum"] == wanted["sum"] and found["side"] == wanted["side"]
    with pytest.raises(QuantizationError, match="no encodings of 'nothing'"):
        encoding_observers(tmp_path / "net.encodings", {"conv": "nothing"})


def formats(program: Program) -> dict[str, str]:
    return {name: str(fmt) for name, fmt in program.formats.items()}


def test_values_beyond_a_table_take_its_last_entries() -> None:
    """The float graph does not saturate in front of it."""
    rng = np.random.default_rng(4)
    image = keras.Input((4, 4, 3))
    y = layers.Conv2D(4, 1, activation="leaky_relu", use_bias=False)(image)
    samples = rng.uniform(-1, 1, (16, 4, 4, 3)).astype(np.float32)
    program = convert(
        quantize(keras.Model(image, layers.GlobalAveragePooling2D()(y)), samples=samples)
    )
    (entry,) = program.inputs
    model = export_onnx(program, format="encodings")
    far = run_onnx(model, {entry.name: 1e6 * samples})[program.outputs[0]]
    held = run_onnx(model, {entry.name: 2e6 * samples})[program.outputs[0]]
    np.testing.assert_array_equal(far, held)
