"""Products in the value forms are those of the integers, whatever a runtime makes of them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_running import run_onnx

from quantkeras.numerics import Format
from quantkeras.numerics.layer import LayerParams, LayerSpec
from quantkeras.onnx import export_onnx
from quantkeras.runtime import Program, ProgramInput, ProgramLayer


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
@pytest.mark.parametrize("shape", [(64,), (5, 64)])
@pytest.mark.parametrize("weight_bits", [4, 8])
@pytest.mark.parametrize("bits", [8, 10, "8, per channel"])
def test_the_other_factor_of_a_matrix_is_not_rounded(bits, weight_bits, shape, form, rng) -> None:
    """Neither where it has more than 8 bits nor where its steps differ by channel."""
    channels = shape[-1]
    frac = rng.integers(0, 3, channels) if isinstance(bits, str) else np.zeros((), int)
    fmt = Format(8 if isinstance(bits, str) else bits, True, frac)
    # Two products of bytes with these fit into 16 bits, where some processors saturate.
    top = min(2 ** (weight_bits - 1) - 1, 63)
    shifts = (frac.max() - frac,) if frac.ndim else ()
    params = LayerParams(weights=rng.integers(-top, top + 1, (channels, 8)), input_shifts=shifts)
    layer = ProgramLayer(
        "y", LayerSpec("dense"), params, ("x",), None, (*shape[:-1], 8),
        output_scale=np.ones((), np.float32), weight_bits=weight_bits,
    )  # fmt: skip
    program = Program((ProgramInput("x", shape, fmt),), (layer,), ("y",))
    integers = rng.integers(fmt.qmin, fmt.qmax + 1, (4, *shape))
    x = (integers * 2.0**-frac).astype(np.float32)
    found = run_onnx(export_onnx(program, format=form), {"x": x})["y"]
    np.testing.assert_array_equal(found, program.predict(x))
