"""Convolutions and poolings read from ONNX, against onnxruntime."""

from typing import Any

import numpy as np
import pytest
from onnx_harness import check, check_model, kinds_of, model, node, weights
from parameters import slow

from sanitize.onnx_io import OnnxError

PICTURE = {"x": ("n", 6, 9, 8)}

CONVOLUTIONS = {
    "plain": ({}, (4, 6, 3, 3)),
    "pads": ({"pads": [1, 1, 1, 1]}, (4, 6, 3, 3)),
    "asymmetric": ({"pads": [0, 2, 1, 0], "strides": [2, 1]}, (4, 6, 3, 2)),
    "unused pads": ({"pads": [1, 1, 1, 1], "strides": [2, 2]}, (4, 6, 3, 3)),
    "same upper": ({"auto_pad": "SAME_UPPER", "strides": [2, 3]}, (4, 6, 3, 3)),
    "same lower": ({"auto_pad": "SAME_LOWER", "strides": [2, 2]}, (4, 6, 4, 3)),
    "auto valid": ({"auto_pad": "VALID"}, (4, 6, 3, 3)),
    "dilated": ({"dilations": [2, 1], "pads": [2, 1, 2, 1]}, (4, 6, 3, 3)),
    "groups": ({"group": 2, "pads": [1, 1, 1, 1]}, (4, 3, 3, 3)),
    "depthwise": ({"group": 6, "pads": [1, 1, 1, 1]}, (6, 1, 3, 3)),
    "depthwise times two": ({"group": 6, "strides": [2, 2]}, (12, 1, 3, 3)),
    "pointwise": ({"strides": [2, 2]}, (4, 6, 1, 1)),
}


@pytest.mark.parametrize("opset", [*slow(10), 22])
@pytest.mark.parametrize("label", CONVOLUTIONS)
def test_convolution(label: str, opset: int) -> None:
    attributes, shape = CONVOLUTIONS[label]
    attributes = {"kernel_shape": shape[2:], **attributes}
    constants = {"w": weights(*shape), "b": weights(shape[0])}
    imported = check([node("Conv", "x w b", "y", **attributes)], PICTURE, constants, opset=opset)
    kind = "depthwise_conv2d" if "depthwise" in label else "conv2d"
    assert kinds_of(imported) == [kind]


def test_pads_get_the_names_that_keras_has() -> None:
    def padding(pads: list[int], size: int) -> Any:
        nodes = [node("Conv", "x w", "y", pads=pads, strides=[2, 2])]
        imported = check(nodes, {"x": ("n", 3, size, size)}, {"w": weights(4, 3, 3, 3)})
        return imported.graph["Conv_y"].attrs["padding"]

    assert padding([0, 0, 1, 1], 8) == "same"
    assert padding([1, 1, 1, 1], 7) == "same"
    # The last row of pads is not reached by any window.
    assert padding([1, 1, 1, 1], 8) == ((1, 0), (1, 0))
    assert padding([0, 0, 0, 0], 7) == "valid"


def test_convolution_without_bias_and_with_initializers_as_inputs() -> None:
    nodes = [node("Conv", "x w", "y", kernel_shape=[3, 3])]
    check(nodes, PICTURE, {"w": weights(4, 6, 3, 3)}, listed=True, opset=10)


def test_convolution_along_one_axis() -> None:
    nodes = [
        node("Conv", "x w b", "h", pads=[1, 1], strides=[2], kernel_shape=[3]),
        node("Relu", "h", "r"),
        node("MaxPool", "r", "p", kernel_shape=[2], strides=[2]),
        node("GlobalAveragePool", "p", "g"),
        node("Squeeze", "g axes", "y"),
    ]
    constants = {"w": weights(4, 5, 3), "b": weights(4), "axes": np.array([2])}
    imported = check(nodes, {"x": ("n", 5, 16)}, constants)
    assert imported.inputs[0].order == (0, 2, 1)


def test_a_convolution_along_three_axes_is_opaque() -> None:
    nodes = [node("Conv", "x w", "y")]
    imported = check(nodes, {"x": ("n", 2, 5, 5, 5)}, {"w": weights(3, 2, 2, 2, 2)}, keras=False)
    assert kinds_of(imported) == ["opaque"]


def test_a_kernel_made_of_data_is_an_error_that_names_the_node() -> None:
    nodes = [node("Relu", "w", "v"), node("Conv", "x v", "y")]
    with pytest.raises(OnnxError, match="'Conv_y'.*one row per sample"):
        check(nodes, {"x": (2, 3, 6, 6), "w": (2, 3, 3, 3)})


TRANSPOSED = {
    "plain": ({"strides": [2, 2]}, (6, 4, 3, 3)),
    "kernel 4": ({"strides": [2, 2], "pads": [1, 1, 1, 1]}, (6, 4, 4, 4)),
    "kernel 2": ({"strides": [2, 2]}, (6, 4, 2, 2)),
    "kernel 1": ({"strides": [2, 2], "output_padding": [1, 1]}, (6, 4, 1, 1)),
    "torch": ({"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, (6, 4, 3, 3)),
    "cropped": ({"strides": [2, 2], "pads": [1, 1, 1, 1]}, (6, 4, 3, 3)),
    "keras": ({"strides": [2, 2], "auto_pad": "SAME_UPPER"}, (6, 4, 3, 3)),
    "same lower": ({"strides": [2, 2], "auto_pad": "SAME_LOWER"}, (6, 4, 3, 3)),
    "output shape": ({"strides": [2, 2], "output_shape": [18, 16]}, (6, 4, 3, 3)),
    "stride 1": ({"pads": [1, 1, 1, 1]}, (6, 4, 3, 3)),
    "rectangular": ({"strides": [2, 1], "pads": [0, 1, 1, 1]}, (6, 4, 3, 2)),
    "dilated": ({"strides": [2, 2], "dilations": [2, 2]}, (6, 4, 3, 3)),
    "depthwise": ({"strides": [2, 2], "pads": [1, 1, 1, 1], "group": 6}, (6, 1, 4, 4)),
    "depthwise times two": ({"strides": [2, 2], "group": 6}, (6, 2, 3, 3)),
    "groups": ({"strides": [2, 2], "group": 3}, (6, 2, 3, 3)),
}


@pytest.mark.parametrize("opset", [22, *slow(10)])
@pytest.mark.parametrize("label", TRANSPOSED)
def test_transposed_convolution(label: str, opset: int) -> None:
    attributes, shape = TRANSPOSED[label]
    channels = shape[1] * attributes.get("group", 1)
    constants = {"w": weights(*shape), "b": weights(channels)}
    nodes = [node("ConvTranspose", "x w b", "y", kernel_shape=shape[2:], **attributes)]
    # Keras' own layer has no dilation together with strides on this backend.
    imported = check(nodes, PICTURE, constants, opset=opset, keras=label != "dilated")
    if label in ("kernel 4", "torch", "keras", "kernel 2", "depthwise", "stride 1"):
        assert len(kinds_of(imported)) == 1


MAX_POOLS = {
    "plain": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "no strides": {"kernel_shape": [2, 2]},
    "pads": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    "ceil": {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
    "ceil 3": {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    "ceil with pads": {
        "kernel_shape": [3, 2],
        "strides": [3, 3],
        "pads": [1, 0, 1, 1],
        "ceil_mode": 1,
    },
    "same": {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    "same lower": {"kernel_shape": [2, 3], "strides": [1, 2], "auto_pad": "SAME_LOWER"},
}


@pytest.mark.parametrize("opset", [10, *slow(12), 22])
@pytest.mark.parametrize("label", MAX_POOLS)
def test_max_pool(label: str, opset: int) -> None:
    imported = check([node("MaxPool", "x", "y", **MAX_POOLS[label])], PICTURE, opset=opset)
    assert kinds_of(imported) == ["max_pool"]


def test_a_max_pool_with_dilation_or_indices_is_opaque() -> None:
    nodes = [node("MaxPool", "x", "y", kernel_shape=[2, 2], dilations=[2, 2])]
    assert kinds_of(check(nodes, PICTURE, keras=False)) == ["opaque"]


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("label", MAX_POOLS)
def test_average_pool(label: str, include: int) -> None:
    attributes = {**MAX_POOLS[label], "count_include_pad": include}
    check_model(model([node("AveragePool", "x", "y", **attributes)], PICTURE, opset=19))


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pool(op: str) -> None:
    imported = check([node(op, "x", "p"), node("Flatten", "p", "y")], PICTURE)
    assert kinds_of(imported)[1:] == ["flatten"]
