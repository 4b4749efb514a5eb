"""Files that earlier sources wrote are read, and compute what they computed then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exactness import as_numpy

import quantkeras as qk

FOLDER = Path(__file__).parent / "fixtures" / "quantized"


@pytest.fixture(scope="module")
def expected() -> Any:
    with np.load(FOLDER / "expected.npz") as found:
        return dict(found)


def assert_same_integers(program: qk.Program, expected: Any) -> None:
    wanted = {name[9:]: values for name, values in expected.items() if name.startswith("integers/")}
    found = program.run_integers(expected["samples"], keep=[*wanted])
    assert wanted
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("name", ["quantized.keras", "quantized.h5"])
def test_quantized_models(name: str, expected: Any) -> None:
    model = qk.load_model(FOLDER / name)
    found = as_numpy(model(expected["samples"], training=False))
    # The softmax behind the integers is float, and differs between machines.
    np.testing.assert_allclose(found, expected["predicted"], rtol=1e-5, atol=1e-6)
    assert_same_integers(qk.convert(model), expected)
    assert qk.params_of(model).weight_bits == 4


def test_programs(expected: Any) -> None:
    assert_same_integers(qk.Program.load(FOLDER / "program.qkp"), expected)
