"""Activation functions read from ONNX, as one operator and written out as several."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx_harness import check, kinds_of, node, weights

PICTURE = {"x": ("n", 3, 5, 4)}

OPERATORS = {
    "Relu": ({}, 10, "relu"),
    "LeakyRelu": ({"alpha": 0.3}, 10, "leaky_relu"),
    "Sigmoid": ({}, 10, "sigmoid"),
    "HardSigmoid": ({"alpha": 1 / 6}, 10, "hard_sigmoid"),
    "HardSwish": ({}, 14, "hard_silu"),
    "Tanh": ({}, 10, "tanh"),
    "Elu": ({"alpha": 0.7}, 10, "elu"),
    "Selu": ({}, 10, "selu"),
    "Celu": ({"alpha": 2.0}, 12, "celu"),
    "Softplus": ({}, 10, "softplus"),
    "Softsign": ({}, 10, "softsign"),
    "Exp": ({}, 10, "exponential"),
    "Mish": ({}, 18, "mish"),
    "Gelu": ({}, 20, "gelu"),
    "ThresholdedRelu": ({"alpha": 0.4}, 10, "threshold"),
    "Erf": ({}, 10, "erf"),
    "Abs": ({}, 10, "absolute"),
    "Sin": ({}, 10, "sin"),
    "Atan": ({}, 10, "arctan"),
    "Shrink": ({"lambd": 0.3, "bias": 0.3}, 10, "soft_shrink"),
}


@pytest.mark.parametrize("op", OPERATORS)
def test_function_of_one_operator(op: str) -> None:
    attributes, opset, function = OPERATORS[op]
    imported = check([node(op, "x", "y", **attributes)], PICTURE, opset=opset)
    (made,) = [part for part in imported.graph if part.kind != "input"]
    assert made.attrs.get("function", made.kind) == function


def test_functions_with_unusual_parameters() -> None:
    nodes = [
        node("HardSigmoid", "x", "a", alpha=0.3, beta=0.4),
        node("HardSigmoid", "x", "b"),
        node("Selu", "x", "c", alpha=1.5, gamma=0.7),
        node("Gelu", "x", "d", approximate="tanh"),
        node("Concat", "a b c d", "y", axis=1),
    ]
    check(nodes, PICTURE, opset=20)


CLIPS: dict[str, tuple[float | None, float | None, str]] = {
    "relu6": (0.0, 6.0, "relu"),
    "relu": (0.0, None, "relu"),
    "both": (-0.5, 0.7, "clip"),
    "ceiling": (None, 0.4, "clip"),
    "floor": (0.2, None, "clip"),
    "limits of float32": (-3.4028235e38, 3.4028235e38, ""),
}


@pytest.mark.parametrize("opset", [10, 11, 13])
@pytest.mark.parametrize("label", CLIPS)
def test_clip(label: str, opset: int) -> None:
    low, high, kind = CLIPS[label]
    if opset == 10:
        bounds = {k: v for k, v in (("min", low), ("max", high)) if v is not None}
        nodes, constants = [node("Clip", "x", "y", **bounds)], {}
    else:
        pairs = (("low", low), ("high", high))
        constants = {k: np.float32(v) for k, v in pairs if v is not None}
        names = " ".join(k if v is not None else "_" for k, v in pairs)
        nodes = [node("Clip", f"x {names}", "y")]
    imported = check(nodes, PICTURE, constants, opset=opset)
    found = [part.attrs.get("function", part.kind) for part in imported.graph][1:]
    assert found == ([kind] if kind else [])


@pytest.mark.parametrize("shape", [(1,), (3, 1, 1), (3, 5, 4), (1, 3, 1, 1)])
def test_prelu(shape: tuple[int, ...]) -> None:
    imported = check([node("PRelu", "x s", "y")], PICTURE, {"s": weights(*shape)}, opset=16)
    assert kinds_of(imported) == ["activation"]


@pytest.mark.parametrize("opset", [10, 12, 13])
def test_softmax(opset: int) -> None:
    check([node("Softmax", "x", "y")], {"x": ("n", 7)}, opset=opset)
    check([node("Softmax", "x", "y", axis=-1)], {"x": ("n", 4, 7)}, opset=opset)
    check([node("Softmax", "x", "y", axis=1)], PICTURE, opset=opset)
    check([node("Softmax", "x", "y", axis=1)], {"x": ("n", 7, 1, 1)}, opset=opset)


def test_log_softmax() -> None:
    check([node("LogSoftmax", "x", "y", axis=1)], {"x": ("n", 7)}, tolerance=1e-4)


def _gelu(first: bool) -> Callable[[], tuple[list[Any], dict[str, float]]]:
    def build() -> tuple[list[Any], dict[str, float]]:
        constants = {"root": math.sqrt(2.0), "one": 1.0, "half": 0.5}
        nodes = [node("Div", "x root", "a"), node("Erf", "a", "b"), node("Add", "b one", "c")]
        if first:
            nodes += [node("Mul", "x half", "d"), node("Mul", "d c", "y")]
        else:
            nodes += [node("Mul", "x c", "d"), node("Mul", "d half", "y")]
        return nodes, constants

    return build


def _gelu_tanh() -> tuple[list[Any], dict[str, float]]:
    constants = {"three": 3.0, "k": 0.044715, "r": math.sqrt(2 / math.pi), "one": 1.0, "half": 0.5}
    nodes = [
        node("Pow", "x three", "a"),
        node("Mul", "a k", "b"),
        node("Add", "x b", "c"),
        node("Mul", "c r", "d"),
        node("Tanh", "d", "e"),
        node("Add", "one e", "f"),
        node("Mul", "half x", "g"),
        node("Mul", "g f", "y"),
    ]
    return nodes, constants


def _gelu_cube() -> tuple[list[Any], dict[str, float]]:
    nodes, constants = _gelu_tanh()
    return [node("Mul", "x x", "xx"), node("Mul", "xx x", "a"), *nodes[1:]], constants


def _mish() -> tuple[list[Any], dict[str, float]]:
    return [node("Softplus", "x", "a"), node("Tanh", "a", "b"), node("Mul", "x b", "y")], {}


def _mish_log() -> tuple[list[Any], dict[str, float]]:
    nodes = [node("Exp", "x", "e"), node("Add", "e one", "s"), node("Log", "s", "a")]
    return [*nodes, node("Tanh", "a", "b"), node("Mul", "x b", "y")], {"one": 1.0}


def _silu() -> tuple[list[Any], dict[str, float]]:
    return [node("Sigmoid", "x", "a"), node("Mul", "a x", "y")], {}


def _hard_silu() -> tuple[list[Any], dict[str, float]]:
    return [node("HardSigmoid", "x", "a", alpha=1 / 6), node("Mul", "x a", "y")], {}


def _hard_silu_clip() -> tuple[list[Any], dict[str, float]]:
    nodes = [
        node("Add", "x three", "a"),
        node("Clip", "a zero six", "b"),
        node("Mul", "x b", "c"),
        node("Div", "c six", "y"),
    ]
    return nodes, {"three": 3.0, "zero": 0.0, "six": 6.0}


def _hard_sigmoid() -> tuple[list[Any], dict[str, float]]:
    nodes = [node("Add", "x three", "a"), node("Clip", "a zero six", "b")]
    constants = {"three": 3.0, "zero": 0.0, "six": 6.0, "sixth": 1 / 6}
    return [*nodes, node("Mul", "b sixth", "y")], constants


def _softsign() -> tuple[list[Any], dict[str, float]]:
    nodes = [node("Abs", "x", "a"), node("Add", "a one", "b"), node("Div", "x b", "y")]
    return nodes, {"one": 1.0}


def _relu6() -> tuple[list[Any], dict[str, float]]:
    return [node("Relu", "x", "a"), node("Min", "a six", "y")], {"six": 6.0}


def _relu20() -> tuple[list[Any], dict[str, float]]:
    nodes = [node("Max", "x zero", "a"), node("Min", "a twenty", "y")]
    return nodes, {"zero": 0.0, "twenty": 20.0}


def _leaky() -> tuple[list[Any], dict[str, float]]:
    return [node("Mul", "x slope", "a"), node("Max", "x a", "y")], {"slope": 0.2}


SPELLED = {
    "gelu": (_gelu(True), "gelu"),
    "gelu, half at the end": (_gelu(False), "gelu"),
    "gelu by tanh": (_gelu_tanh, "gelu"),
    "gelu by products": (_gelu_cube, "gelu"),
    "mish": (_mish, "mish"),
    "mish by logarithm": (_mish_log, "mish"),
    "silu": (_silu, "silu"),
    "hard silu": (_hard_silu, "hard_silu"),
    "hard silu by clip": (_hard_silu_clip, "hard_silu"),
    "hard sigmoid": (_hard_sigmoid, "hard_sigmoid"),
    "softsign": (_softsign, "softsign"),
    "relu6": (_relu6, "relu"),
    "relu20": (_relu20, "relu"),
    "leaky relu": (_leaky, "leaky_relu"),
}


@pytest.mark.parametrize("label", SPELLED)
def test_function_written_out(label: str) -> None:
    build, function = SPELLED[label]
    nodes, constants = build()
    around = [node("Conv", "in w", "x"), *nodes]
    stored = {**{k: np.float32(v) for k, v in constants.items()}, "w": 9 * weights(4, 3, 1, 1)}
    imported = check(around, {"in": ("n", 3, 5, 4)}, stored)
    made = [part for part in imported.graph if part.kind in ("relu", "activation")]
    assert [part.attrs.get("function", part.kind) for part in made] == [function]
    ceiling = {"relu6": 6.0, "relu20": 20.0}.get(label)
    assert made[0].attrs.get("max_value") == ceiling
    assert len(imported.graph) == 3


def test_a_value_inside_a_function_that_others_read_stays() -> None:
    nodes = [node("Sigmoid", "x", "a"), node("Mul", "x a", "b"), node("Add", "a b", "y")]
    imported = check(nodes, PICTURE)
    assert kinds_of(imported) == ["activation", "multiply", "add"]


def test_prelu_as_keras_exports_it() -> None:
    nodes = [
        node("Relu", "x", "a"),
        node("Neg", "x", "b"),
        node("Relu", "b", "c"),
        node("Mul", "c slope", "d"),
        node("Add", "a d", "y"),
    ]
    imported = check(nodes, PICTURE, {"slope": weights(3, 1, 1)})
    (made,) = [part for part in imported.graph if part.kind != "input"]
    assert made.attrs["function"] == "prelu"
    assert made.weights["alpha"].shape == (1, 1, 3)
