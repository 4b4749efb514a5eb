"""An offset at the input in exported models: the same integers as in the program."""

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_running import assert_equals_program, metadata
from value_running import assert_within_one

from quantkeras.numerics import Format
from quantkeras.numerics.layer import LayerParams, LayerSpec
from quantkeras.onnx import export_onnx
from quantkeras.runtime import Program, ProgramInput, ProgramLayer

SCALE = np.array([1 / 3, 7.0, 0.01], np.float32)
OFFSET = np.array([100.5, 0.0, 128.0], np.float32)


@pytest.fixture(scope="module")
def program() -> Program:
    fmt = Format(8, True, [2, 0, 6])
    entry = ProgramInput("x", (3,), fmt, SCALE, OFFSET)
    weights = np.array([[1, -2], [3, 1], [2, 2]], np.int64)
    params = LayerParams(
        weights=weights,
        input_shifts=(np.array([4, 6, 0]),),
        scale=np.array([3, 5]),
        shift=np.array([6, 7]),
        qmin=-128,
        qmax=127,
    )
    dense = ProgramLayer(
        "dense", LayerSpec("dense"), params, ("x",), Format(8, True, 3), (2,), weight_bits=8
    )
    return Program((entry,), (dense,), ("dense",))


def test_floats(program: Program) -> None:
    x = np.random.default_rng(0).uniform(0, 255, (32, 3)).astype(np.float32)
    assert_equals_program(program, {"x": x})
    assert_within_one(program, {"x": x}, format="qdq")


def test_pixels_through_a_table(program: Program) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 3)).astype(np.uint8)
    assert_equals_program(program, {"x": pixels}, input_type="uint8")


def test_it_is_described(program: Program) -> None:
    (described,) = metadata(export_onnx(program))["inputs"]
    assert described["offset"] == OFFSET.tolist()
    np.testing.assert_array_equal(np.float32(described["scale"]), SCALE)


def test_it_is_one_difference_then_one_product() -> None:
    """Each rounded to float32 by itself: (1 + 2**-23 - 1) * 3 is 3 * 2**-23, not zero."""
    one, fmt = np.float32(1), Format(8, True, 23)
    entry = ProgramInput("x", (1,), fmt, np.float32([3]), np.float32([1]))
    assert entry.quantize(np.array([[np.nextafter(one, np.float32(2))]])).item() == 3
    assert not entry.takes_integers
