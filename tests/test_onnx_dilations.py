"""Dilated convolutions of ONNX that Keras has no layer for, or TensorFlow no kernel on CPUs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_harness import model, node, run, weights

import quantkeras
from sanitize.graph import Graph, Node
from sanitize.spread_kernels import with_spread_kernels

X = np.random.default_rng(0).normal(size=(3, 4, 7, 6)).astype(np.float32)
BOTH = {"strides": [2, 1], "dilations": [1, 2]}


def network(operator: str, group: int = 1, **attributes: Any) -> Any:
    shape = (6, 4 // group, 3, 2) if operator == "Conv" else (4, 6 // group, 3, 2)
    return model(
        [node(operator, "x w b", "u", group=group, **attributes), node("Relu", "u", "y")],
        {"x": ("n", *X.shape[1:])},
        {"w": weights(*shape), "b": weights(6)},
    )


@pytest.mark.parametrize(
    "operator, group, attributes",
    [
        ("ConvTranspose", 1, {"dilations": [2, 3], "pads": [1, 0, 2, 1]}),
        ("ConvTranspose", 2, BOTH),
        ("Conv", 1, BOTH | {"pads": [1, 0, 2, 1]}),
        ("Conv", 2, {"strides": [2, 2], "dilations": [2, 2], "pads": [1, 1, 2, 2]}),
    ],
)
def test_dilated_convolutions_run_eagerly_and_as_integers(
    operator: str, group: int, attributes: dict[str, Any]
) -> None:
    proto = network(operator, group, **attributes)
    (wanted,) = run(proto, {"x": X})
    fed = np.moveaxis(X, 1, -1)
    found = np.moveaxis(np.asarray(quantkeras.from_onnx(proto)(fed)), -1, 1)
    assert np.allclose(found, wanted, atol=1e-5)
    quantized = quantkeras.quantize(proto, samples=X, as_onnx=False, strict=True)
    integers = quantkeras.convert(quantized).predict(fed)
    assert np.array_equal(integers, quantized(fed))
    assert np.square(integers - np.moveaxis(wanted, 1, -1)).mean() < 1e-3 * np.square(wanted).mean()


def test_a_program_of_a_dilated_transposed_convolution_keeps_its_kernel() -> None:
    proto, fed = network("ConvTranspose", dilations=[2, 3]), np.moveaxis(X, 1, -1)
    direct = quantkeras.quantize(proto, samples=X, as_onnx=False)
    spread = quantkeras.quantize(quantkeras.from_onnx(proto), samples=fed)
    assert direct.layers[2].kernel_size == (3, 2) and spread.layers[2].kernel_size == (5, 4)
    assert np.array_equal(direct(fed), spread(fed))


def test_kernels_without_dilation_stay_what_they_are() -> None:
    attrs = {"strides": (1, 1), "padding": "valid", "dilation": (1, 1)}
    kernel = np.ones((3, 3, 2, 2), np.float32)
    nodes = [
        Node("x", "input", (), {"dtype": "float32"}, {}, (5, 5, 2)),
        Node("t", "conv2d_transpose", ("x",), attrs, {"kernel": kernel}),
    ]
    graph = Graph.build(nodes, ("x",), ("t",), "g", 0, 0)
    assert with_spread_kernels(graph)["t"] is graph["t"]
