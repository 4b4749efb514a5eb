"""from_onnx: ONNX models as Keras models; the table of patterns against the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from onnx_architectures import LARGE, NAMES, architecture
from onnx_harness import check_model, kinds_of, model, node, run, weights

import quantkeras
from quantkeras.onnx import onnx_models
from quantkeras.onnx.onnx_models import ImportMismatch, difference_to_onnx
from quantkeras.quantization.decide import make_plan
from quantkeras.quantization.params import QuantizationParams
from sanitize import sanitize_graph
from sanitize.onnx_io import PATTERNS, Pattern, import_onnx

PROTO = model(
    [
        node("Conv", "x w", "c"),
        node("Relu", "c", "r"),
        node("Flatten", "r", "f"),
        node("Gemm", "f k", "y"),
    ],
    {"x": ("n", 3, 6, 5)},
    {"w": weights(4, 3, 3, 3), "k": weights(48, 2)},
)


def test_a_model_is_channels_last_unless_asked() -> None:
    network = quantkeras.from_onnx(PROTO)
    assert network.input_shape == (None, 6, 5, 3) and network.output_shape == (None, 2)
    as_is = quantkeras.from_onnx(PROTO, layout="as_is")
    assert as_is.input_shape == (None, 3, 6, 5)
    x = np.random.default_rng(0).normal(size=(3, 3, 6, 5)).astype(np.float32)
    wanted = run(PROTO, {"x": x})[0]
    found = np.asarray(network(x.transpose(0, 2, 3, 1)))
    assert np.allclose(found, wanted, atol=1e-5)
    assert np.allclose(np.asarray(as_is(x)), wanted, atol=1e-5)


def test_a_wrong_import_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = quantkeras.from_onnx(PROTO)
    imported = import_onnx(PROTO)
    assert difference_to_onnx(network, imported, PROTO) < 1e-5
    kernel = network.layers[1].kernel
    kernel.assign(kernel * 1.01)
    assert difference_to_onnx(network, imported, PROTO) > 1e-3
    monkeypatch.setattr(onnx_models, "write_keras", lambda graph: network)
    with pytest.raises(ImportMismatch, match=r"differs from onnxruntime by .*check=False"):
        quantkeras.from_onnx(PROTO)
    assert quantkeras.from_onnx(PROTO, check=False) is network


@pytest.mark.slow
def test_reference_network(shared_dir: Path) -> None:
    network = quantkeras.from_onnx(shared_dir / "models" / "resnet20_cifar10.onnx")
    assert network.input_shape == (None, 32, 32, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "squeezenet" else pytest.mark.slow) for name in NAMES],
)
def test_architectures(name: str) -> None:
    imported = check_model(architecture(name), keras=name not in LARGE, tolerance=2e-5)
    assert "opaque" not in kinds_of(imported)


def _example(pattern: Pattern) -> Any:
    """A model in which the pattern stands behind a convolution, or at the input."""
    constants: dict[str, Any] = {
        "front": weights(4, 3, 3, 3),
        "conv": weights(4, 4, 3, 3),
        "direct": weights(4, 3, 3, 3),
        "low": np.float32(0.0),
        "high": np.float32(3.0),
        "scale": np.abs(weights(4, 1, 1)) + np.float32(0.2),
        "shift": weights(4, 1, 1),
        "small": np.float32(0.3),
        "matrix": weights(256, 5),
        "vector": weights(4, 5),
        "bias": weights(5),
        "v": np.abs(weights(4)) + np.float32(0.5),
    }
    first = pattern.operators[0]
    nodes = [node("Conv", "x front", "h", pads=[1, 1, 1, 1])]
    value = "h"
    inputs: tuple[Any, ...] = ("n", 3, 8, 8)
    if first in ("Transpose", "Mul"):
        nodes, value = [], "x"
        inputs = ("n", 8, 8, 3) if first == "Transpose" else inputs
    if pattern.layer == "dense" and first != "Flatten":
        nodes += [node("GlobalAveragePool", value, "g"), node("Flatten", "g", "v2")]
        value = "v2"
    if first in ("Add", "Concat"):
        nodes.append(node("MaxPool", value, "other", kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
    for index, op in enumerate(pattern.operators):
        out = f"t{index}"
        at_input = first in ("Transpose", "Mul")
        operands = {
            "Conv": f"{value} {'direct' if at_input else 'conv'}",
            "ConvTranspose": f"{value} conv",
            "BatchNormalization": f"{value} v v v v",
            "Clip": f"{value} low high",
            "Gemm": f"{value} {'matrix' if first == 'Flatten' else 'vector'} bias",
            "MatMul": f"{value} vector",
            "Mul": f"{value} {'small' if at_input else 'scale'}",
            "Concat": f"{value} other",
            "Add": f"{value} other",
        }
        if op == "Add" and index:
            dense = pattern.layer == "dense"
            operands["Add"] = f"{value} {'bias' if dense else 'small' if at_input else 'shift'}"
        attributes: dict[str, dict[str, Any]] = {
            "Conv": {"pads": [1, 1, 1, 1]},
            "MaxPool": {"kernel_shape": [2, 2], "strides": [2, 2]},
            "Transpose": {"perm": [0, 3, 1, 2]},
            "Concat": {"axis": 1},
            "ConvTranspose": {"strides": [2, 2], "kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"},
        }
        nodes.append(node(op, operands.get(op, value), out, **attributes.get(op, {})))
        value = out
    if pattern.layer != "dense":
        # Something behind it, for which a max pool is worth computing in integers.
        nodes += [node("Flatten", value, "flat"), node("MatMul", "flat tail", "y")]
        size = {"GlobalAveragePool": 4, "MaxPool": 64}
        pooled = [size[op] for op in pattern.operators if op in size]
        rows = (
            pooled[0]
            if pooled
            else {"conv2d_transpose": 1024, "concat": 512}.get(pattern.layer, 256)
        )
        constants["tail"], value = weights(rows, 3), "y"
    return model(nodes, {"x": inputs}, constants, outputs=[value])


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_patterns_become_one_hardware_layer(pattern: Pattern) -> None:
    graph, _ = sanitize_graph(check_model(_example(pattern), keras=False).graph)
    plan = make_plan(graph, QuantizationParams())
    assert not plan.floats
    names = [f"{op}_t{index}" for index, op in enumerate(pattern.operators)]
    blocks = [
        block
        for block in plan.blocks.values()
        if set(names) & {name for part in block.nodes for name in part.source}
    ]
    (block,) = blocks
    assert block.core.kind == pattern.layer
    covered = {name for part in block.nodes for name in part.source}
    # A transpose leaves no trace, and a flatten is a movement in front of the layer.
    assert {n for n in names if not n.startswith(("Transpose", "Flatten"))} <= covered


@pytest.mark.slow
def test_a_keras_model_comes_back_from_its_onnx_export(tmp_path: Path) -> None:
    pytest.importorskip("tf2onnx")
    image = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 127.5, -1.0)(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(6.0)(x)
    y = layers.DepthwiseConv2D(3, padding="same")(x)
    y = layers.BatchNormalization()(y)
    y = layers.Activation("silu")(y)
    x = layers.Concatenate()([x, layers.Conv2D(8, 1, activation="hard_silu")(y)])
    x = layers.UpSampling2D(2)(x)
    x = layers.Conv2DTranspose(6, 3, strides=2, padding="same")(x)
    x = layers.PReLU(shared_axes=[1, 2])(x)
    x = layers.MaxPooling2D(3, padding="same")(x)
    pooled = layers.GlobalAveragePooling2D()(x)
    flat = layers.Dense(4, activation="relu")(layers.Flatten()(x))
    outputs = layers.Dense(5, activation="softmax")(layers.Concatenate()([pooled, flat]))
    network = keras.Model(image, outputs)
    generator = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([generator.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
        if isinstance(layer, layers.PReLU):
            layer.set_weights([generator.uniform(0.1, 0.4, w.shape) for w in layer.get_weights()])
    x = generator.uniform(0.0, 255.0, (4, 16, 16, 3)).astype(np.float32)
    wanted = np.asarray(network(x))
    path = tmp_path / "network.onnx"
    network.export(str(path), format="onnx", verbose=False)
    back = quantkeras.from_onnx(path)
    assert np.allclose(np.asarray(back(x)), wanted, atol=1e-5)
    kinds = kinds_of(import_onnx(path))
    assert "permute" not in kinds and "opaque" not in kinds and "upsample" in kinds


def test_inputs_that_nothing_reads_are_left_out() -> None:
    """tf2onnx leaves them behind where it folded constants."""
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "y")]
    inputs = {"left/y:0": (1, 1, 1, 3), "x": ("n", 3, 6, 5)}
    given = model(nodes, inputs, {"w": weights(4, 3, 3, 3)})
    assert [tensor.name for tensor in quantkeras.from_onnx(given).inputs] == ["x"]


def scores(bias: float, tail: str = "") -> Any:
    """A sigmoid whose outputs are about exp(bias)."""
    constants = {"k": weights(64, 1) / 50, "b": np.full(1, bias, np.float32), "two": np.float32(2)}
    nodes = [node("Gemm", "x k b", "m"), node("Sigmoid", "m", "s"), node("Mul", "s s", "y")]
    nodes = nodes if tail else [*nodes[:1], node("Sigmoid", "m", "y")]
    return model(nodes, {"x": ("n", 64)}, constants)


@pytest.mark.parametrize("bias", [-13.0, -14.5, -30.0])
def test_tiny_outputs_are_judged_by_what_float32_leaves(bias: float) -> None:
    for tail in ("", "squared"):
        assert quantkeras.from_onnx(scores(bias, tail)).output_shape == (None, 1)


def test_small_outputs_are_still_checked() -> None:
    proto = scores(-5.0)
    network, imported = quantkeras.from_onnx(proto), import_onnx(proto)
    network.layers[1].bias.assign([-4.99])
    assert difference_to_onnx(network, imported, proto) > 1e-3


def test_networks_that_enlarge_roundings_are_judged_by_them() -> None:
    constants = {"w": weights(64, 64) * 300, "v": weights(64, 4) * 300, "k": weights(4, 2)}
    nodes = [node("MatMul", "x w", "h"), node("Relu", "h", "r"), node("MatMul", "r v", "z"),
             node("Sin", "z", "s"), node("MatMul", "s k", "y")]  # fmt: skip
    proto = model(nodes, {"x": ("n", 64)}, constants)
    network, imported = quantkeras.from_onnx(proto), import_onnx(proto)
    assert difference_to_onnx(network, imported, proto) > 1e-2


def test_large_networks_are_compared_on_one_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    monkeypatch.setattr(
        quantkeras.onnx.onnx_models,
        "run_batch",
        lambda network, arrays, **options: counts.append(len(arrays[0])) or [network(arrays[0])],
    )
    for length in (16, 2**20):
        nodes = [node("Conv", "x w", "c"), node("GlobalAveragePool", "c", "y")]
        proto = model(nodes, {"x": ("n", 1, 1, length)}, {"w": weights(8, 1, 1, 1)})
        quantkeras.from_onnx(proto)
    assert counts == [2, 1]
