"""Arithmetic, matrix products and normalization read from ONNX."""

from typing import Any

import numpy as np
import pytest
from onnx_harness import check, kinds_of, node, weights
from parameters import slow

PICTURE = {"x": ("n", 3, 5, 4)}

CONSTANTS = {
    "number": (),
    "one": (1,),
    "per channel": (3, 1, 1),
    "per channel with batch": (1, 3, 1, 1),
    "per column": (4,),
    "per pixel": (3, 5, 4),
}


@pytest.mark.parametrize("op", ["Add", "Div", "Max", *slow("Sub", "Mul", "Min")])
@pytest.mark.parametrize("label", CONSTANTS)
def test_arithmetic_with_a_constant(op: str, label: str) -> None:
    constants = {"c": np.abs(weights(*CONSTANTS[label])) + np.float32(0.5)}
    nodes = [node(op, "x c", "a"), node(op, "c x", "b"), node("Add", "a b", "y")]
    # Divisors far from zero: 1 / x magnifies rounding.
    nodes = [node("Exp", "in", "x"), *nodes] if op == "Div" else nodes
    inputs = {"in": ("n", 3, 5, 4)} if op == "Div" else PICTURE
    check(nodes, inputs, constants)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean"])
def test_arithmetic_of_two_values(op: str) -> None:
    imported = check([node(op, "x z", "y")], {**PICTURE, "z": ("n", 3, 5, 4)})
    kind = {"Sub": "subtract", "Mul": "multiply", "Max": "maximum", "Min": "minimum"}.get(op, "add")
    assert kinds_of(imported)[0] == kind


def test_division_of_two_values() -> None:
    nodes = [node("Exp", "z", "e"), node("Div", "x e", "y")]
    check(nodes, {**PICTURE, "z": ("n", 3, 5, 4)})


def test_merges_of_many_values_and_constants() -> None:
    nodes = [node("Sum", "x x z c", "a"), node("Max", "a x z", "b"), node("Mean", "a b z", "y")]
    check(nodes, {**PICTURE, "z": ("n", 3, 5, 4)}, {"c": weights(3, 1, 1)})


def test_channels_scaled_by_a_vector_of_data() -> None:
    """Squeeze-and-excitation: (n, c, 1, 1) times (n, c, h, w)."""
    nodes = [
        node("GlobalAveragePool", "x", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f w b", "g"),
        node("Sigmoid", "g", "s"),
        node("Reshape", "s shape", "r"),
        node("Mul", "x r", "y"),
    ]
    constants = {"w": weights(3, 3), "b": weights(3), "shape": np.array([0, 3, 1, 1])}
    imported = check(nodes, PICTURE, constants)
    assert "permute" not in kinds_of(imported)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0, 0.5, -1.0])
def test_power(exponent: float) -> None:
    nodes = [node("Exp", "x", "e"), node("Pow", "e p", "y")]
    check(nodes, PICTURE, {"p": np.float32(exponent)})


def test_negative_square_root_and_reciprocal() -> None:
    nodes = [
        node("Exp", "x", "e"),
        node("Sqrt", "e", "a"),
        node("Reciprocal", "a", "b"),
        node("Log", "b", "c"),
        node("Neg", "c", "y"),
    ]
    check(nodes, PICTURE)


@pytest.mark.parametrize("opset", [13, *slow(10, 11)])
@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("factors", [{}, {"alpha": 0.5, "beta": 2.0}])
@pytest.mark.parametrize("bias", [None, (), (1,), (4,), (1, 4)])
def test_gemm(opset: int, trans: int, factors: dict[str, float], bias: Any) -> None:
    if bias is None and opset == 10:
        bias = (4,)
    constants = {"w": weights(4, 6) if trans else weights(6, 4)}
    names = "x w"
    if bias is not None:
        constants["b"], names = weights(*bias), "x w b"
    nodes = [node("Gemm", names, "y", transB=trans, **factors)]
    imported = check(nodes, {"x": ("n", 6)}, constants, opset=opset)
    assert kinds_of(imported) == ["dense"]


def test_gemm_that_adds_data() -> None:
    nodes = [node("Gemm", "x w z", "y", beta=0.5)]
    check(nodes, {"x": ("n", 6), "z": ("n", 4)}, {"w": weights(6, 4)})


def test_gemm_that_sums_over_samples_is_opaque() -> None:
    nodes = [node("Relu", "x", "r"), node("Gemm", "r w", "y", transA=1)]
    with pytest.raises(ValueError, match="Gemm_y"):
        check(nodes, {"x": (4, 4)}, {"w": weights(4, 5)})


def test_matmul_and_bias_are_one_dense_layer() -> None:
    nodes = [node("MatMul", "x w", "m"), node("Add", "b m", "a"), node("Relu", "a", "y")]
    imported = check(nodes, {"x": ("n", 6)}, {"w": weights(6, 4), "b": weights(4)})
    assert kinds_of(imported) == ["dense", "relu"]
    assert imported.graph["MatMul_m"].source == ("MatMul_m", "Add_a")


def test_matmul_that_two_read_keeps_its_bias_apart() -> None:
    nodes = [node("MatMul", "x w", "m"), node("Add", "m b", "a"), node("Mul", "a m", "y")]
    imported = check(nodes, {"x": ("n", 6)}, {"w": weights(6, 4), "b": weights(4)})
    assert kinds_of(imported) == ["dense", "affine", "multiply"]


def test_matmul_along_the_last_axis_and_from_the_left() -> None:
    nodes = [node("MatMul", "x w", "a"), node("MatMul", "v a", "y")]
    check(nodes, {"x": ("n", 5, 6)}, {"w": weights(6, 4), "v": weights(7, 5)})


def test_a_product_of_two_values_is_opaque() -> None:
    inputs = {"x": ("n", 5, 6), "z": ("n", 6, 4)}
    imported = check([node("MatMul", "x z", "y")], inputs, keras=False)
    assert kinds_of(imported) == ["opaque"]
    assert imported.graph["MatMul_y"].attrs["operator"] == "MatMul"


@pytest.mark.parametrize("opset", [10, 14, 15])
@pytest.mark.parametrize("shape", [("n", 3, 5, 4), ("n", 3, 8), ("n", 3)])
def test_batch_normalization(opset: int, shape: Any) -> None:
    constants = {
        "g": weights(3),
        "b": weights(3, seed=2),
        "m": weights(3, seed=3),
        "v": np.abs(weights(3)),
    }
    nodes = [node("BatchNormalization", "x g b m v", "y", epsilon=1e-3)]
    imported = check(nodes, {"x": shape}, constants, opset=opset)
    assert "batchnorm" in kinds_of(imported)


def test_shared_kernels_are_shared() -> None:
    nodes = [
        node("Conv", "x w b", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "r"),
        node("Conv", "r w b", "c", pads=[1, 1, 1, 1]),
        node("Conv", "c w b", "y", strides=[2, 2]),
    ]
    imported = check(nodes, PICTURE, {"w": weights(3, 3, 3, 3), "b": weights(3)})
    graph = imported.graph
    assert graph["Conv_a"].share == graph["Conv_c"].share == "Conv_a"
    assert graph["Conv_a"].weights["kernel"] is graph["Conv_c"].weights["kernel"]
    # Other strides: another layer, as far as Keras is concerned.
    assert graph["Conv_y"].share is None
