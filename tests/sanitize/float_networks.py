"""Small float networks and the checks that reader, writer and rules share."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from sanitize import differences, evaluate, sanitize_graph
from sanitize.graph import Graph
from sanitize.keras_io import read_keras, write_keras
from sanitize.match import Log

layers = keras.layers


def randomized(model: Any, seed: int = 0) -> Any:
    """The model with weights, biases and statistics that leave no layer trivial.

    Some gammas are negative, and variances are far from one.
    """
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        shape = weight.shape
        name = weight.path.rsplit("/", 1)[-1]
        if "variance" in name:
            value = generator.uniform(0.3, 3.0, shape)
        elif name == "gamma":
            value = generator.uniform(0.5, 1.5, shape) * generator.choice([-1.0, 1.0, 1.0], shape)
        elif len(shape) == 1:
            value = generator.normal(size=shape) * 0.4
        else:
            value = generator.normal(size=shape) / np.sqrt(max(np.prod(shape[:-1]), 1))
        weight.assign(value.astype(np.float32))
    return model


def sequential(*parts: Any, shape: Sequence[int | None] = (12, 12, 4), seed: int = 0) -> Any:
    """A Sequential model of these layers with random weights."""
    return randomized(keras.Sequential([keras.Input(shape), *parts]), seed)


def random_batch(model: Any, seed: int = 1, size: int = 3) -> list[Any]:
    """Standard normal inputs, in the order of ``model.inputs``; unknown sizes become 14."""
    generator = np.random.default_rng(seed)
    shapes = [[14 if s is None else s for s in tensor.shape[1:]] for tensor in model.inputs]
    return [generator.normal(size=(size, *shape)).astype(np.float32) for shape in shapes]


def predictions(model: Any, inputs: list[Any]) -> list[Any]:
    """Flat outputs of a Keras model at inference."""
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    packed = keras.tree.pack_sequence_as(structure, inputs)
    outputs = keras.tree.flatten(model(packed, training=False))
    return [np.asarray(keras.ops.convert_to_numpy(value)) for value in outputs]


def relative_error(wanted: Sequence[Any], found: Sequence[Any]) -> float:
    """Largest difference relative to the largest value, over all outputs."""
    gaps = [
        float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-6))
        for a, b in zip(wanted, found, strict=True)
    ]
    return max(gaps)


def assert_reads(model: Any, opaque: int = 0, round_trip: bool = True) -> Graph:
    """The law of the reader, and that of the writer; returns the graph.

    ``opaque``: how many nodes may be opaque.
    """
    graph = read_keras(model)
    assert sum(node.kind == "opaque" for node in graph) == opaque, str(graph)
    inputs = random_batch(model)
    wanted = predictions(model, inputs)
    found = keras.tree.flatten(evaluate(graph, inputs))
    assert [a.shape for a in found] == [a.shape for a in wanted]
    assert relative_error(wanted, found) < 1e-5
    written = write_keras(graph)
    assert relative_error(wanted, predictions(written, inputs)) < 1e-5
    if round_trip:
        assert differences(graph, read_keras(written)) == []
    return graph


def assert_sanitizes(
    model: Any, fires: dict[str, int] | None = None, tolerance: float = 2e-5, **options: Any
) -> tuple[Graph, Log]:
    """Sanitize, run before and after, and compare how many times which rule fired.

    A second run over the written model ends in the same graph.
    """
    graph = read_keras(model)
    result, log = sanitize_graph(graph, **options)
    if fires is not None:
        assert log.counts() == fires, str(log)
    inputs = random_batch(model)
    wanted = predictions(model, inputs)
    found = keras.tree.flatten(evaluate(result, inputs))
    assert relative_error(wanted, found) < tolerance, str(log)
    written = write_keras(result)
    assert relative_error(wanted, predictions(written, inputs)) < tolerance
    again, _ = sanitize_graph(read_keras(written), **options)
    assert sorted(kinds(again)) == sorted(kinds(result))
    return result, log


def kinds(graph: Graph) -> list[str]:
    """Kinds of the nodes in topological order, without the inputs."""
    return [node.kind for node in graph if node.kind != "input"]


def resnet_like() -> Any:
    """Three residual blocks as in the 8-layer ResNet for CIFAR-10."""
    x = image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu")(x)
    for filters, stride in ((8, 1), (12, 2), (16, 2)):
        y = layers.Conv2D(filters, 3, strides=stride, padding="same")(x)
        y = layers.BatchNormalization()(y)
        y = layers.Activation("relu")(y)
        y = layers.Conv2D(filters, 3, padding="same")(y)
        y = layers.BatchNormalization()(y)
        if stride > 1:
            x = layers.Conv2D(filters, 1, strides=stride, padding="same")(x)
        x = layers.Activation("relu")(layers.Add()([x, y]))
    x = layers.AveragePooling2D(4)(x)
    x = layers.Dense(10, activation="softmax")(layers.Flatten()(x))
    return randomized(keras.Model(image, x, name="resnet_like"))


def mobilenet_like() -> Any:
    """Rescaled input, padded strided convolutions, depthwise blocks with ReLU6."""
    x = image = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 127.5, -1.0)(x)
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.Conv2D(8, 3, strides=2, use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    for filters, stride in ((12, 1), (16, 2)):
        if stride == 2:
            x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
        padding = "same" if stride == 1 else "valid"
        x = layers.DepthwiseConv2D(3, strides=stride, padding=padding, use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.Conv2D(filters, 1, use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Dropout(0.1)(x)
    x = layers.Conv2D(5, 1)(x)
    x = layers.Reshape((5,))(x)
    return randomized(keras.Model(image, layers.Softmax()(x), name="mobilenet_like"))
