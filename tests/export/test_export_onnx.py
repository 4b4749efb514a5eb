"""export_onnx itself: files, names, metadata, the float tail, float models, and errors."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from onnx_running import metadata, onnx, run_onnx
from parameters import slow
from runtime.small_programs import CONV_DENSE_X, CONV_DENSE_Y, conv_dense, gated

from quantkeras import QuantizationParams, convert, export_onnx, quantize, save_model
from quantkeras.cli import main
from quantkeras.errors import ModelFileError, QuantizationError

keras = pytest.importorskip("keras")
layers = keras.layers

X = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype(np.float32)


def body(inputs: Any) -> Any:
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    return layers.Dense(5, name="head")(layers.Flatten(name="flat")(x))


def quantized(make: Any, params: QuantizationParams | None = None) -> Any:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3), name="image")
    return quantize(keras.Model(inputs, make(inputs), name="net"), params, X)


def compare(model: Any, exported: Any) -> None:
    found = list(run_onnx(exported, {"image": X}).values())
    wanted = [np.asarray(y) for y in keras.tree.flatten(model(X, training=False))]
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_program_on_disk_runs(tmp_path: Any) -> None:
    path = tmp_path / "net.onnx"
    export_onnx(conv_dense(), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.onnx"]
    loaded = onnx.load(path)
    (found,) = run_onnx(loaded, {"x": CONV_DENSE_X.astype(np.float32)}).values()
    np.testing.assert_array_equal(found, CONV_DENSE_Y)
    (batch, *sizes) = loaded.graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param and [size.dim_value for size in sizes] == [2, 2, 1]


def test_only_standard_operators_in_the_integer_form() -> None:
    model = export_onnx(gated())
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 13)]
    assert {node.domain for node in model.graph.node} == {""}


def test_metadata_say_the_formats() -> None:
    described = metadata(export_onnx(conv_dense(), format="qdq"))
    assert described["form"] == "qdq"
    (entry,) = described["inputs"]
    assert (entry["name"], entry["format"]) == ("x", {"bits": 8, "signed": False, "frac": 0})
    conv, _, scores = described["layers"]
    assert conv["source"] == ["conv", "bn", "relu"] and conv["weight_bits"] == 4
    assert scores["step"] == [0.5, 0.25]
    assert described["float_tail"][0]["name"] == "probabilities"


@pytest.mark.parametrize("form", ["integer", *slow("qdq", "qoperator", "encodings")])
def test_a_softmax_at_the_end_is_exported_with_the_model(form: str) -> None:
    model = quantized(lambda x: layers.Softmax(name="probabilities")(body(x)))
    assert convert(model).float_tail
    exported = export_onnx(model, format=form)
    assert [entry.name for entry in exported.graph.output] == ["probabilities"]
    if form == "integer":
        compare(model, exported)


def test_layers_that_stay_float_are_exported_behind_the_integers() -> None:
    params = QuantizationParams(float_layers=("last",))

    def make(x: Any) -> Any:
        y = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
        z = layers.Conv2D(2, 1, name="side")(y)
        return [layers.Conv2D(3, 3, activation="tanh", name="last")(y), z]

    model = quantized(make, params)
    exported = export_onnx(model)
    assert exported.graph.output[1].name == "side"
    compare(model, exported)


def test_an_argmax_at_the_end() -> None:
    def make(x: Any) -> Any:
        scores = body(x)
        return [keras.ops.argmax(scores, axis=-1), scores]

    with pytest.warns(UserWarning, match="argmax"):
        model = quantized(make)
    exported = export_onnx(model)
    found, scores = run_onnx(exported, {"image": X}).values()
    assert found.dtype == np.int32
    wanted = [np.asarray(y) for y in model(X)]
    np.testing.assert_array_equal(found, wanted[0])
    np.testing.assert_allclose(scores, wanted[1], atol=1e-6)


def test_integers_behind_float_layers_are_exported_part_by_part() -> None:
    def make(x: Any) -> Any:
        y = layers.Conv2D(4, 3, activation="tanh", name="float")(layers.Conv2D(4, 3)(x))
        return layers.Conv2D(2, 1, name="last")(y)

    model = quantized(make, QuantizationParams(float_layers=("float",)))
    with pytest.raises(QuantizationError, match="its parts one by one"):
        export_onnx(model)
    assert export_onnx(convert(model, part=1)).graph.output[0].name == "last"


def test_what_onnx_has_no_operator_for_is_named() -> None:
    class Odd(layers.Layer):
        def call(self, x: Any) -> Any:
            return keras.ops.erfinv(keras.ops.tanh(keras.ops.cumsum(x, axis=-1)))

    with pytest.warns(UserWarning, match="odd"):
        model = quantized(lambda x: Odd(name="odd")(body(x)))
    with pytest.raises(QuantizationError, match=r"odd.*export_onnx\(convert\(model\)\)"):
        export_onnx(model)
    assert export_onnx(convert(model)).graph.output[0].name == "head"


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_a_float_model_that_was_never_called(kind: str, tmp_path: Any) -> None:
    pytest.importorskip("tf2onnx")
    inputs = keras.Input((8, 8, 3), name="image")
    model = keras.Model(inputs, body(inputs), name="net")
    if kind == "sequential":
        model = keras.Sequential([inputs, *model.layers[1:]], name="net")
    exported = export_onnx(model, tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").is_file()
    assert [entry.name for entry in exported.graph.output] == ["head"]
    (found,) = run_onnx(exported, {exported.graph.input[0].name: X}).values()
    np.testing.assert_allclose(found, np.asarray(model(X)), atol=1e-4)


def test_arguments_that_make_no_sense() -> None:
    program = conv_dense()
    for arguments, message in (
        ({"format": "tflite"}, "format is 'integer' or"),
        ({"input_layout": "chw"}, "input_layout is"),
        ({"opset": 10}, "takes opset 13 at least"),
        ({"format": "qdq", "output_type": "integer"}, "float32 outputs"),
        ({"format": "encodings", "input_type": "uint8"}, "float32 inputs"),
        ({"format": "encodings", "encodings_version": "9"}, "encodings have the version"),
    ):
        with pytest.raises(QuantizationError, match=message):
            export_onnx(program, **arguments)
    with pytest.raises(QuantizationError, match="a str cannot be exported"):
        export_onnx("net.qkp")
    with pytest.raises(ModelFileError, match="there is no folder"):
        export_onnx(program, "/nowhere/net.onnx")
    with pytest.raises(QuantizationError, match="no input shape"):
        export_onnx(keras.Sequential([layers.Dense(2)]))


@pytest.mark.slow
def test_the_command(tmp_path: Any, capsys: Any) -> None:
    model = quantized(lambda x: layers.Softmax(name="probabilities")(body(x)))
    save_model(model, tmp_path / "net.keras")
    convert(model).save(tmp_path / "net.qkp")
    assert main(["export", "-m", f"{tmp_path}/net.keras"]) == 0
    assert "net.onnx: " in capsys.readouterr().out
    compare(model, onnx.load(tmp_path / "net.onnx"))
    words = ["-f", "encodings", "-o", f"{tmp_path}/float.onnx", "--encodings-version", "2.0.0"]
    assert main(["export", "-m", f"{tmp_path}/net.qkp", *words]) == 0
    assert "not exported: probabilities" in capsys.readouterr().out
    assert json.loads((tmp_path / "float.encodings").read_text())["version"] == "2.0.0"
    assert main(["export", "-m", f"{tmp_path}/net.txt"]) == 2
    assert main(["export", "-m", f"{tmp_path}/net.qkp", "-o", f"{tmp_path}/net.h5"]) == 2


def test_a_normalization_keeps_its_constants():
    """Keras's exporter makes inputs of them."""
    image = keras.Input((4, 4, 3), name="image")
    x = keras.layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])(image)
    model = keras.Model(image, keras.layers.Conv2D(2, 3, name="scores")(x))
    exported = export_onnx(model)
    assert [entry.name for entry in exported.graph.input] == ["image"]
    pictures = np.random.default_rng(0).normal(size=(5, 4, 4, 3)).astype(np.float32)
    (found,) = run_onnx(exported, {"image": pictures}).values()
    np.testing.assert_allclose(found, np.asarray(model(pictures)), atol=1e-5)


def test_the_forms_are_the_same_everywhere() -> None:
    from quantkeras.cli import export_command as command
    from quantkeras.onnx.onnx_export import FORMATS
    from quantkeras.onnx.onnx_forms import EXPORTERS

    assert tuple(EXPORTERS) == FORMATS == command.FORMATS
