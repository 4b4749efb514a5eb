"""Every kind of hardware layer as integer ONNX, in onnxruntime, against the reference engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from layer_cases import ALL_KINDS, layer_cases
from onnx_running import LEVELS, assert_equals_program
from runtime.small_programs import CONV_DENSE_X, conv_dense, gated, one_layer, two_by_two
from strategies import examples

from quantkeras.numerics import Format
from quantkeras.numerics.layer import LayerParams, LayerSpec
from quantkeras.runtime import Program, ProgramInput, ProgramLayer


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_any_layer(kind: str) -> None:
    @examples(5, 40)
    @given(layer_cases((kind,)))
    def check(case: Any) -> None:
        program = one_layer(case)
        inputs = {f"x{i}": x for i, x in enumerate(case.inputs)}
        assert_equals_program(program, inputs, input_type="integer")

    check()


@pytest.mark.parametrize("level", LEVELS)
def test_small_programs(level: str) -> None:
    rng = np.random.default_rng(1)
    assert_equals_program(conv_dense(), {"x": CONV_DENSE_X}, (level,))
    pair = {name: rng.uniform(-12, 12, (3, 4, 4, 2)) for name in "ab"}
    assert_equals_program(two_by_two(), pair, (level,))
    gate = {"x": rng.uniform(-9, 9, (3, 3, 2, 2)), "gate": rng.uniform(0, 255, (3, 1, 1, 2))}
    assert_equals_program(gated(), gate, (level,))


LAST = Format(8, True, 4)

MOVEMENTS = {
    "flatten": (LayerSpec("flatten"), (60,)),
    "reshape": (LayerSpec("reshape", shape=(5, -1, 2)), (5, 6, 2)),
    "reshape_rows": (LayerSpec("reshape", shape=(20, 3)), (20, 3)),
    "permute": (LayerSpec("permute", dims=(2, 0, 1)), (3, 4, 5)),
    "pad": (LayerSpec("pad", pads=((1, 0), (2, 3))), (5, 10, 3)),
    "slice": (LayerSpec("slice", slices=((3, None, -2), (0, 5, 2), (1, 3, 1))), (2, 3, 2)),
    "upsample": (LayerSpec("upsample", size=(2, 3)), (8, 15, 3)),
}


@pytest.mark.parametrize("name", MOVEMENTS)
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("bits", [8, 16])
def test_movements_keep_the_order_of_the_elements(name: str, layout: str, bits: int) -> None:
    spec, shape = MOVEMENTS[name]
    fmt = LAST if bits == 8 else Format(bits, False, 4)
    layer = ProgramLayer("moved", spec, LayerParams(), ("x",), fmt, shape)
    program = Program((ProgramInput("x", (4, 5, 3), fmt),), (layer,), ("moved",))
    x = np.random.default_rng(2).integers(fmt.qmin, fmt.qmax + 1, (2, 4, 5, 3)) / 16
    assert_equals_program(program, {"x": x}, input_layout=layout)


def test_integers_in_and_out() -> None:
    x = {"x": CONV_DENSE_X}
    assert_equals_program(conv_dense(), x, input_type="integer", output_type="integer")


def test_large_int64_maxima_are_exact() -> None:
    """onnxruntime's own Max and Min of int64 are not, beyond 32 bits."""
    params = LayerParams(
        bias=np.array([773902]), scale=np.array([867]), shift=np.array([-2]), qmin=0, qmax=511
    )
    layer = ProgramLayer(
        "sum", LayerSpec("add"), params, ("a", "b"), Format(9, False, 0), (1, 4, 1)
    )
    inputs = tuple(ProgramInput(name, (1, 4, 1), LAST.with_frac(0)) for name in "ab")
    x = np.arange(8).reshape(2, 1, 4, 1)
    assert_equals_program(Program(inputs, (layer,), ("sum",)), {"a": x, "b": x - 9})
