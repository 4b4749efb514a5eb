"""Reshapes, transposes, slices and their kin; and that NCHW leaves no transposes behind."""

from typing import Any

import numpy as np
import pytest
from onnx_harness import check, kinds_of, node, weights
from parameters import slow

PICTURE = {"x": ("n", 6, 4, 5)}


def test_flatten_in_front_of_gemm_permutes_the_weights() -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("Flatten", "c", "f"),
        node("Relu", "f", "r"),
        node("BatchNormalization", "r g b m v", "n"),
        node("Mul", "n s", "t"),
        node("Gemm", "t k", "y", transB=1),
    ]
    constants = {"w": weights(3, 6, 2, 2), "k": weights(7, 36)}
    for seed, name in enumerate("gbms"):
        constants[name] = weights(36, seed=seed)
    constants["v"] = np.abs(weights(36))
    imported = check(nodes, PICTURE, constants)
    assert kinds_of(imported) == ["conv2d", "flatten", "relu", "batchnorm", "affine", "dense"]


@pytest.mark.parametrize("shape", [[-1, 120], [0, -1], [0, 120]])
def test_reshape_in_front_of_matmul_permutes_the_weights(shape: list[int]) -> None:
    nodes = [node("Reshape", "x shape", "f"), node("MatMul", "f k", "y")]
    imported = check(nodes, PICTURE, {"shape": np.array(shape), "k": weights(120, 7)})
    assert kinds_of(imported) == ["flatten", "dense"]


def test_flatten_that_is_the_output_is_in_the_order_of_onnx() -> None:
    imported = check(
        [node("Conv", "x w", "c"), node("Flatten", "c", "y")], PICTURE, {"w": weights(3, 6, 2, 2)}
    )
    assert "permute" in kinds_of(imported)


def test_flatten_of_one_pixel_moves_nothing() -> None:
    nodes = [node("GlobalAveragePool", "x", "p"), node("Reshape", "p s", "y")]
    imported = check(nodes, PICTURE, {"s": np.array([-1, 6])})
    assert kinds_of(imported) == ["global_avg_pool", "flatten"]


def test_networks_that_are_nhwc_inside_become_plain() -> None:
    nodes = [
        node("Transpose", "x", "a", perm=[0, 3, 1, 2]),
        node("Conv", "a w", "b", pads=[1, 1, 1, 1]),
        node("Transpose", "b", "c", perm=[0, 2, 3, 1]),
        node("Add", "c v", "d"),
        node("Relu", "d", "e"),
        node("ReduceMean", "e", "f", axes=[1, 2], keepdims=0),
        node("MatMul", "f k", "y"),
    ]
    constants = {"w": weights(4, 3, 3, 3), "v": weights(4), "k": weights(4, 5)}
    imported = check(nodes, {"x": ("n", 8, 7, 3)}, constants)
    assert imported.inputs[0].order == (0, 1, 2, 3)
    assert kinds_of(imported) == ["conv2d", "affine", "relu", "global_avg_pool", "dense"]


def test_channel_shuffle_is_one_permute() -> None:
    nodes = [
        node("Reshape", "x split", "a"),
        node("Transpose", "a", "b", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "b join", "c"),
        node("Conv", "c w", "y"),
    ]
    constants = {
        "split": np.array([0, 3, 2, 4, 5]),
        "join": np.array([0, 6, 4, 5]),
        "w": weights(4, 6, 1, 1),
    }
    imported = check(nodes, PICTURE, constants)
    assert kinds_of(imported) == ["reshape", "permute", "reshape", "conv2d"]


RESHAPES: dict[str, tuple[Any, list[int]]] = {
    "merge height and width": (("n", 6, 4, 5), [0, 6, -1]),
    "split channels": (("n", 6, 4, 5), [0, 2, 3, 4, 5]),
    "merge channels and height": (("n", 6, 4, 5), [0, 24, 5]),
    "new axis": (("n", 6), [-1, 6, 1, 1]),
    "picture of a vector": (("n", 60), [-1, 3, 4, 5]),
    "mixed": (("n", 6, 4, 5), [0, 8, 15]),
    "two ones": (("n", 1, 6, 1), [0, 6]),
    "nothing": (("n", 6, 4, 5), [0, 0, 0, 0]),
}


@pytest.mark.parametrize("label", RESHAPES)
def test_reshape(label: str) -> None:
    shape, target = RESHAPES[label]
    check([node("Reshape", "x s", "y")], {"x": shape}, {"s": np.array(target)})


def test_flattened_features_come_back_as_a_picture() -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("Flatten", "c", "f"),
        node("Reshape", "f s", "r"),
        node("Conv", "r w", "y"),
    ]
    constants = {"w": weights(6, 6, 1, 1), "s": np.array([0, 6, 4, 5])}
    imported = check(nodes, PICTURE, constants)
    assert "permute" not in kinds_of(imported)


@pytest.mark.parametrize("opset", [10, 13])
def test_squeeze_and_unsqueeze(opset: int) -> None:
    constants: dict[str, Any] = {"w": weights(4, 6, 4, 5)}
    if opset == 10:
        nodes = [
            node("Squeeze", "c", "s", axes=[2, 3]),
            node("Unsqueeze", "s", "y", axes=[2, 3]),
        ]
    else:
        nodes = [node("Squeeze", "c axes", "s"), node("Unsqueeze", "s axes", "y")]
        constants["axes"] = np.array([2, -1])
    check([node("Conv", "x w", "c"), *nodes], PICTURE, constants, opset=opset)


def test_transpose_that_stays() -> None:
    nodes = [node("Transpose", "x", "t", perm=[0, 2, 1]), node("Softmax", "t", "y", axis=1)]
    check(nodes, {"x": ("n", 4, 5)})


def test_concat_on_every_axis() -> None:
    for axis in (1, 2, -1):
        nodes = [node("Conv", "x w", "c"), node("Concat", "c x", "y", axis=axis)]
        check(nodes, PICTURE, {"w": weights(6, 6, 1, 1)})


@pytest.mark.parametrize("opset", [10, 13, 18])
def test_split(opset: int) -> None:
    constants = {} if opset == 10 else {"parts": np.array([1, 3, 2])}
    attributes = {"split": [1, 3, 2]} if opset == 10 else {}
    names = "x" if opset == 10 else "x parts"
    nodes = [node("Split", names, "a b c", axis=1, **attributes)]
    nodes += [node("Concat", "c a b", "y", axis=1)]
    check(nodes, PICTURE, constants, opset=opset)
    even = {"num_outputs": 2} if opset == 18 else {}
    nodes = [node("Split", "x", "a b", axis=1, **even), node("Add", "a b", "y")]
    check(nodes, PICTURE, opset=opset)


def test_slices_of_channels_and_pixels() -> None:
    constants = {
        "from": np.array([1, 0]),
        "to": np.array([5, 2**63 - 1]),
        "axes": np.array([1, -1]),
        "steps": np.array([1, 2]),
        "last": np.array([-2]),
        "end": np.array([2**31 - 1]),
        "two": np.array([2]),
    }
    nodes = [node("Slice", "x from to axes steps", "a"), node("Slice", "a last end two", "y")]
    imported = check(nodes, PICTURE, constants)
    assert kinds_of(imported) == ["slice"]


def test_gather() -> None:
    constants = {"one": np.array(1), "some": np.array([0, 2, 4]), "mixed": np.array([3, 0, 0, 5])}
    check([node("Gather", "x one", "y", axis=2)], PICTURE, constants)
    check([node("Gather", "x some", "y", axis=1)], PICTURE, constants)
    imported = check([node("Gather", "x mixed", "y", axis=1)], PICTURE, constants)
    assert kinds_of(imported) == ["conv2d"]


@pytest.mark.parametrize("opset", [10, 11, 18])
@pytest.mark.parametrize("value", [0.0, 1.5])
def test_pad(opset: int, value: float) -> None:
    pads = [0, 0, 1, 2, 0, 0, 3, 0]
    if opset == 10:
        nodes, constants = [node("Pad", "x", "y", pads=pads, value=value)], {}
    else:
        constants = {"p": np.array(pads), "v": np.float32(value)}
        nodes = [node("Pad", "x p v", "y")]
    if opset == 18:
        constants = {"p": np.array([1, 2, 3, 0]), "v": np.float32(value), "a": np.array([2, 3])}
        nodes = [node("Pad", "x p v a", "y")]
    imported = check(nodes, PICTURE, constants, opset=opset)
    assert kinds_of(imported) == ["pad"]


def test_pad_of_channels_is_a_strided_convolution() -> None:
    """The shortcut of residual networks without weights: every other pixel, more channels."""
    nodes = [node("Slice", "x from to axes steps", "s"), node("Pad", "s pads value", "y")]
    constants = {
        "from": np.array([0, 0]),
        "to": np.array([99, 99]),
        "axes": np.array([2, 3]),
        "steps": np.array([2, 2]),
        "pads": np.array([0, 1, 0, 0, 0, 2, 0, 0]),
        "value": np.float32(0.25),
    }
    imported = check(nodes, PICTURE, constants)
    (conv,) = [part for part in imported.graph if part.kind != "input"]
    assert conv.kind == "conv2d" and conv.attrs["strides"] == (2, 2)


def test_pad_that_cuts_and_pad_of_vectors_and_sequences() -> None:
    check([node("Pad", "x p", "y")], PICTURE, {"p": np.array([0, -1, 0, 1, 0, 0, -1, 0])})
    check([node("Pad", "x p", "y")], {"x": ("n", 5)}, {"p": np.array([0, 1, 0, 2])})
    check([node("Pad", "x p", "y")], {"x": ("n", 5, 3)}, {"p": np.array([0, 1, 0, 0, 2, 0])})


def test_pad_by_reflection_is_opaque() -> None:
    nodes = [node("Pad", "x p", "y", mode="reflect")]
    imported = check(nodes, PICTURE, {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}, keras=False)
    assert kinds_of(imported) == ["opaque"]


RESIZES: dict[str, tuple[dict[str, Any], list[float], str]] = {
    "asymmetric": (
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        [1, 1, 2, 2],
        "upsample",
    ),
    "half pixel": ({}, [1, 1, 3, 2], "upsample"),
    "halved": (
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        [1, 1, 0.5, 1],
        "slice",
    ),
}


@pytest.mark.parametrize("opset", [11, 13, 19])
@pytest.mark.parametrize("label", RESIZES)
def test_resize(label: str, opset: int) -> None:
    attributes, scales, kind = RESIZES[label]
    constants = {"scales": np.array(scales, np.float32), "roi": np.zeros(0, np.float32)}
    names = "x roi scales" if opset == 11 else "x _ scales"
    imported = check(
        [node("Resize", names, "y", mode="nearest", **attributes)], PICTURE, constants, opset=opset
    )
    assert kinds_of(imported) == [kind]


def test_resize_of_opset_10_and_to_given_sizes() -> None:
    scales = np.array([1, 1, 2, 2], np.float32)
    check([node("Resize", "x s", "y", mode="nearest")], PICTURE, {"s": scales}, opset=10)
    sizes = {"s": np.array([2, 6, 8, 10])}
    check([node("Resize", "x _ _ s", "y", mode="nearest")], {"x": (2, 6, 4, 5)}, sizes)


def test_resize_by_interpolation_is_opaque() -> None:
    nodes = [node("Resize", "x _ s", "y", mode="linear")]
    imported = check(nodes, PICTURE, {"s": np.array([1, 1, 2, 2], np.float32)}, keras=False)
    assert kinds_of(imported) == ["opaque"]


def test_upsampling_as_keras_exports_it() -> None:
    nodes = [
        node("Unsqueeze", "x two", "a"),
        node("Tile", "a rows", "b"),
        node("Reshape", "b high", "c"),
        node("Unsqueeze", "c three", "d"),
        node("Tile", "d columns", "e"),
        node("Reshape", "e wide", "y"),
    ]
    constants = {
        "two": np.array([2]),
        "three": np.array([3]),
        "rows": np.array([1, 1, 2, 1, 1]),
        "columns": np.array([1, 1, 1, 3, 1]),
        "high": np.array([-1, 8, 5, 3]),
        "wide": np.array([-1, 8, 15, 3]),
    }
    imported = check(nodes, {"x": ("n", 4, 5, 3)}, constants)
    assert kinds_of(imported) == ["upsample"]


def test_tile_and_expand() -> None:
    check([node("Tile", "x t", "y")], PICTURE, {"t": np.array([1, 2, 1, 1])})
    nodes = [node("GlobalAveragePool", "x", "p"), node("Expand", "p s", "y")]
    imported = check(nodes, PICTURE, {"s": np.array([1, 6, 3, 2])})
    assert kinds_of(imported) == ["global_avg_pool", "upsample"]


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    inputs = {"x": ("n", 8, 3, 5)}
    imported = check([node("DepthToSpace", "x", "y", blocksize=2, mode=mode)], inputs, opset=11)
    assert kinds_of(imported) == ["reshape", "permute", "reshape"]


def test_space_to_depth() -> None:
    check([node("SpaceToDepth", "x", "y", blocksize=2)], {"x": ("n", 3, 4, 6)})


REDUCTIONS: dict[str, tuple[Any, list[int], int]] = {
    "picture": (("n", 6, 4, 5), [2, 3], 0),
    "picture, axes kept": (("n", 6, 4, 5), [-1, -2], 1),
    "sequence": (("n", 6, 4), [2], 0),
    "sequence, axes kept": (("n", 6, 4), [1], 1),
    "channels and height": (("n", 6, 4, 5), [1, 2], 0),
}


@pytest.mark.parametrize("opset", [18, *slow(10, 13)])
@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax", "ReduceSum"])
@pytest.mark.parametrize("label", REDUCTIONS)
def test_reduction(label: str, op: str, opset: int) -> None:
    shape, axes, keep = REDUCTIONS[label]
    if opset == 18 or (opset == 13 and op == "ReduceSum"):
        nodes, constants = [node(op, "x a", "y", keepdims=keep)], {"a": np.array(axes)}
    else:
        nodes, constants = [node(op, "x", "y", axes=axes, keepdims=keep)], {}
    check(nodes, {"x": shape}, constants, opset=opset)
