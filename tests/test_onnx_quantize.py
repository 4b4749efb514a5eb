"""quantize on ONNX models: the same core as for Keras, samples in either layout, ONNX back."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from keras import layers
from onnx_harness import model, node, random_arrays, run, weights
from parameters import slow

import quantkeras
from quantkeras import QuantizationParams, convert, coverage, from_onnx, quantize, retrain
from quantkeras.calibration.batches import SampleError
from quantkeras.cli import main
from quantkeras.errors import FloatTailWarning, QuantizationError
from quantkeras.onnx.whole_model import export_whole
from sanitize.onnx_io import OnnxError, custom_pattern_scope

NET = model(
    [
        node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("Conv", "r w2", "d"),
        node("Flatten", "d", "f"),
        node("Gemm", "f k b", "y"),
    ],
    {"x": ("n", 3, 6, 5)},
    {"w": weights(4, 3, 3, 3), "w2": weights(4, 4, 3, 3), "k": weights(48, 2), "b": weights(2)},
)
STOPPING = model(
    [
        node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("Resize", "r _ s", "u", mode="linear"),
        node("Conv", "u w2", "d"),
        node("Flatten", "d", "f"),
        node("Gemm", "f k", "y"),
    ],
    {"x": ("n", 3, 6, 5)},
    {
        "w": weights(4, 3, 3, 3),
        "s": np.array([1, 1, 2, 2], np.float32),
        "w2": weights(4, 4, 3, 3),
        "k": weights(320, 2),
    },
    outputs=["y", "r"],
)


def integers(quantized: Any) -> list[Any]:
    """All integer arrays of its program, in order."""
    program = convert(quantized)
    found: list[Any] = []
    for layer in program.layers:
        params = layer.params
        found += [params.weights, params.bias, params.scale, params.shift]
    return found


def same_integers(one: Any, other: Any) -> bool:
    pairs = zip(integers(one), integers(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.slow
def test_either_layout_of_samples_gives_the_same() -> None:
    first = random_arrays(NET, 16)["x"]
    last = first.transpose(0, 2, 3, 1)
    one = quantize(NET, samples=first, as_onnx=False)
    assert same_integers(one, quantize(NET, samples=last, as_onnx=False))
    assert same_integers(one, quantize(NET, samples={"x": first}, as_onnx=False))
    assert same_integers(one, quantize(from_onnx(NET), samples=last))
    # Layers are named after the ONNX nodes.
    assert [layer.name for layer in convert(one).layers if layer.params.weights is not None] == [
        "Conv_c",
        "Conv_d",
        "Gemm_y",
    ]
    assert coverage(one)["Gemm_y"].type == "Gemm" and coverage(one).complete


def test_samples_of_another_shape_are_told_both_layouts() -> None:
    with pytest.raises(SampleError, match=r"\(n, 3, 6, 5\) or \(n, 6, 5, 3\), got \(4, 6, 3, 5\)"):
        quantize(NET, samples=np.zeros((4, 6, 3, 5), np.float32), as_onnx=False)
    with pytest.raises(SampleError, match="The channels come last here"):
        quantize(from_onnx(NET), samples=np.zeros((4, 3, 6, 5), np.float32))


@pytest.mark.slow
def test_a_quantized_onnx_model_learns_with_fit() -> None:
    quantized = quantize(
        NET, QuantizationParams(weight_bits=4), random_arrays(NET, 32)["x"], as_onnx=False
    )
    x = random_arrays(NET, 32, seed=1)["x"]
    target = run(NET, {"x": x})[0]
    quantized.compile(keras.optimizers.Adam(0.001), "mse")
    images = x.transpose(0, 2, 3, 1)
    before = quantized.evaluate(images, target, verbose=0)
    quantized.fit(images, target, epochs=10, verbose=0)
    assert quantized.evaluate(images, target, verbose=0) < before


@pytest.mark.parametrize("source", ["path", *slow("proto", "bytes")])
def test_onnx_in_onnx_out(source: str, tmp_path: Path) -> None:
    given: Any = NET
    if source == "bytes":
        given = NET.SerializeToString()
    elif source == "path":
        given = tmp_path / "net.onnx"
        onnx.save(NET, given)
    x = random_arrays(NET, 16)["x"]
    exported = quantize(given, samples=x)
    assert [entry.name for entry in exported.graph.input] == ["x"]
    assert [entry.name for entry in exported.graph.output] == ["y"]
    quantized = quantize(NET, samples=x, as_onnx=False)
    wanted = np.asarray(quantized(x.transpose(0, 2, 3, 1)))
    (found,) = run(exported, {"x": x})
    assert np.array_equal(found, wanted)
    assert np.abs(found - run(NET, {"x": x})[0]).max() < 0.2


def test_what_stays_float_is_named_once_and_runs_behind_the_integers() -> None:
    x = random_arrays(STOPPING, 16)["x"]
    with pytest.warns(UserWarning, match="stay float") as caught:
        quantized = quantize(STOPPING, samples=x, as_onnx=False)
    (message,) = [str(entry.message) for entry in caught if entry.category is UserWarning]
    assert "'Resize_u' (Resize): Resize has no integer form" in message
    assert "Behind: 'Conv_d' (Conv), 'Flatten_f' (Flatten), 'Gemm_y' (Gemm)" in message
    with pytest.raises(QuantizationError, match="Resize_u"):
        quantize(STOPPING, samples=x, strict=True, as_onnx=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        exported = quantize(STOPPING, samples=x)
    assert [entry.name for entry in exported.graph.output] == ["y", "r"]
    wanted = [np.asarray(y) for y in quantized(x.transpose(0, 2, 3, 1))]
    found = run(exported, {"x": x})
    assert np.allclose(found[0], wanted[0], atol=1e-5)
    assert np.array_equal(found[1], wanted[1].transpose(0, 3, 1, 2))
    assert {"Resize", "Conv", "Gemm", "ConvInteger"} <= {n.op_type for n in exported.graph.node}


def test_a_layer_for_an_onnx_operator_is_saved_and_loaded(tmp_path: Path) -> None:
    network = from_onnx(STOPPING)
    x = random_arrays(STOPPING)["x"]
    wanted = run(STOPPING, {"x": x})[0]
    for name in ("net.keras", "net.h5"):
        quantkeras.save_model(network, tmp_path / name)
        loaded = quantkeras.load_model(tmp_path / name)
        found = np.asarray(loaded(x.transpose(0, 2, 3, 1))[0])
        assert np.allclose(found, wanted, atol=1e-5)


def test_a_loaded_onnx_operator_keeps_its_name_and_the_reason(tmp_path: Path) -> None:
    quantkeras.save_model(from_onnx(STOPPING, check=False), tmp_path / "net.keras")
    network = quantkeras.load_model(tmp_path / "net.keras")
    told = r"'Resize_u' \(Resize\): Resize has no integer form here \(it interpolates by the mode"
    with pytest.raises(QuantizationError, match=told):
        quantize(network, samples=np.zeros((8, 6, 5, 3), np.float32), strict=True)
    with pytest.warns(UserWarning, match=told):
        quantized = quantize(network, samples=random_arrays(STOPPING, 8)["x"].transpose(0, 2, 3, 1))
    found = coverage(quantized)
    assert found["Resize_u"].type == found["Resize_u"].became == "Resize"
    with pytest.warns(FloatTailWarning, match=r"'Resize_u' \(Resize\)"):
        convert(quantized)


def test_sequences_and_channels_last_models_keep_their_axes() -> None:
    sequence = model(
        [node("Conv", "x w", "h", pads=[1, 1]), node("Relu", "h", "r"), node("Conv", "r w2", "y")],
        {"x": ("n", 3, 16)},
        {"w": weights(4, 3, 3), "w2": weights(4, 4, 3)},
    )
    last = model(
        [
            node("Transpose", "x", "t", perm=[0, 3, 1, 2]),
            node("Conv", "t w", "h"),
            node("Relu", "h", "r"),
            node("Conv", "r w2", "c"),
            node("Transpose", "c", "y", perm=[0, 2, 3, 1]),
        ],
        {"x": ("n", 8, 7, 3)},
        {"w": weights(4, 3, 3, 3), "w2": weights(4, 4, 3, 3)},
    )
    for proto in (sequence, last):
        x = random_arrays(proto, 16)["x"]
        exported = quantize(proto, samples=x)
        wanted = run(proto, {"x": x})[0]
        found = run(exported, {"x": x})[0]
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()


def test_a_keras_model_with_a_float_end_as_onnx() -> None:
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    x = layers.Dense(3, name="head")(layers.GlobalAveragePooling2D()(x))
    network = keras.Model(image, layers.Softmax(name="probabilities")(x))
    samples = np.random.default_rng(0).uniform(size=(16, 8, 8, 3)).astype(np.float32)
    quantized = quantize(network, samples=samples)
    exported = export_whole(quantized)
    assert [entry.name for entry in exported.graph.input] == ["image"]
    (found,) = run(exported, {"image": samples})
    assert np.allclose(found, np.asarray(quantized(samples)), atol=1e-6)


def test_integers_behind_float_layers_are_refused() -> None:
    params = QuantizationParams(float_layers=["Conv_d"])
    with pytest.raises(QuantizationError, match=r"integer layers behind float ones.*part="):
        quantize(NET, params, random_arrays(NET, 8)["x"])


def test_custom_patterns_are_in_force_while_quantizing() -> None:
    seen: list[str] = []

    def watch(nodes: Any, graph: Any) -> None:
        seen.append(nodes[0].name)

    with custom_pattern_scope({("Conv", "Relu"): watch}):
        quantize(NET, samples=random_arrays(NET, 8)["x"], as_onnx=False)
    assert seen == ["Conv_c"]


def test_errors_name_what_is_wrong(tmp_path: Path) -> None:
    damaged = tmp_path / "net.onnx"
    damaged.write_bytes(NET.SerializeToString()[:-40])
    with pytest.raises(OnnxError, match=r"net\.onnx.*(parsed|damaged)"):
        quantize(damaged, as_onnx=False)
    with pytest.raises(QuantizationError, match="not dict"):
        quantize({})


def test_without_the_package_onnx(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(NET, path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    for verb in (quantize, from_onnx, quantkeras.load_model):
        with pytest.raises(QuantizationError, match=r"pip install quantkeras\[onnx\]"):
            verb(path)


@pytest.mark.slow
def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, samples = tmp_path / "net.onnx", tmp_path / "x.npz"
    onnx.save(NET, source)
    x = random_arrays(NET, 16)["x"]
    np.savez(samples, x=x)
    words = ["quantize", "-m", str(source), "-sa", str(samples), "-w", "4"]
    assert main(words) == 0
    assert "net_i8_w4_a8.keras: 3 quantized layers" in capsys.readouterr().out
    quantized = quantkeras.load_model(tmp_path / "net_i8_w4_a8.keras")
    target = tmp_path / "out.onnx"
    assert main([*words, "-o", str(target)]) == 0
    found = run(onnx.load(target), {"x": x})[0]
    assert np.array_equal(found, np.asarray(quantized(x.transpose(0, 2, 3, 1))))
    assert main(["sanitize", "-m", str(source)]) == 0
    assert (tmp_path / "net_sanitized.keras").is_file()
    capsys.readouterr()
    source.write_bytes(b"\x08\x08\x12\x07pytorch")
    assert main(words) == 2
    assert "net.onnx' is not an ONNX model" in capsys.readouterr().err


def _exported(network: Any, path: Path) -> Path:
    """A Keras model as Keras itself exports it."""
    pytest.importorskip("tf2onnx")
    network(np.zeros((1, *network.input_shape[1:]), np.float32))
    network.export(str(path), format="onnx", verbose=False)
    return path


@pytest.mark.slow
def test_keras_and_its_onnx_export_give_the_same_integers(tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    image = keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    y = layers.Conv2D(8, 1)(y)
    x = layers.ReLU()(layers.Add()([x, layers.BatchNormalization()(y)]))
    x = layers.MaxPooling2D(2)(x)
    x = layers.Concatenate()([x, layers.Conv2D(4, 3, padding="same", activation="relu")(x)])
    flat = layers.Dense(6, activation="relu")(layers.Flatten()(x))
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), flat])
    network = keras.Model(image, layers.Dense(5, activation="softmax")(x))
    generator = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([generator.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
        elif getattr(layer, "bias", None) is not None:  # exporters leave out biases of zeros
            layer.bias.assign(0.1 * generator.normal(size=layer.bias.shape))
    path = _exported(network, tmp_path / "net.onnx")
    samples = generator.normal(size=(32, 12, 12, 3)).astype(np.float32)
    one, other = quantize(network, samples=samples), quantize(path, samples=samples, as_onnx=False)
    specs = [[layer.spec for layer in convert(q).layers] for q in (one, other)]
    assert specs[0] == specs[1]
    assert same_integers(one, other)
    found = convert(other).predict(samples)
    assert np.array_equal(found, convert(one).predict(samples))


@pytest.mark.slow
def test_reference_network(shared_dir: Path) -> None:
    """ResNet20: accuracy of the import, at 8 bits, in onnxruntime, and after retraining."""
    path = shared_dir / "models" / "resnet20_cifar10.onnx"
    data = np.load(shared_dir / "data" / "cifar10_lossless_part.npz")
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    train, test = (
        ((data[name] / 255 - mean) / deviation).astype(np.float32) for name in ("x_train", "x_test")
    )
    labels = data["y_test"].ravel()

    def accuracy(predict: Any) -> float:
        return float((predict(test).argmax(-1) == labels).mean())

    network = from_onnx(path)
    images = test.transpose(0, 3, 1, 2)
    proto = onnx.load(path)
    wanted = run(proto, {proto.graph.input[0].name: images})[0]
    assert np.abs(network.predict(test, verbose=0) - wanted).max() < 1e-4
    base = accuracy(lambda x: wanted)
    quantized = quantize(path, samples=train, as_onnx=False)
    program = convert(quantized)
    assert accuracy(program.predict) >= base - 0.005
    exported = quantize(path, samples=train)
    names = [[entry.name for entry in part] for part in (proto.graph.input, exported.graph.input)]
    assert names[0] == names[1]
    many = np.concatenate([test, train[: 2000 - len(test)]])
    found = run(exported, {names[0][0]: many.transpose(0, 3, 1, 2)})[0]
    assert np.array_equal(found, program.predict(many))
    four = quantize(path, QuantizationParams(weight_bits=4), train, as_onnx=False)
    before = accuracy(convert(four).predict)
    keras.utils.set_random_seed(0)
    retrain(four, train, data["y_train"].ravel(), teacher=network, epochs=1, verbose=0)
    after = accuracy(convert(four).predict)
    assert after > before
