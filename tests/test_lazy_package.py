"""`import quantkeras` is light, and fetches its public names when they are asked for."""

import subprocess
import sys

import pytest

import quantkeras

HEAVY = ("keras", "tensorflow", "onnx", "onnxruntime", "h5py")


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after the statement."""
    code = f"import sys; {statement}; print(*(m for m in sys.modules if '.' not in m))"
    return set(subprocess.check_output([sys.executable, "-c", code], text=True).split())


@pytest.mark.parametrize("package", ["quantkeras", "quantkeras.numerics"])
def test_importing_loads_no_framework(package):
    assert modules_after(f"import {package}").isdisjoint(HEAVY)


def test_importing_the_package_does_not_even_load_numpy():
    assert "numpy" not in modules_after("import quantkeras")


def test_a_public_name_is_that_of_its_module():
    from quantkeras.numerics import FixedPoint

    assert quantkeras.FixedPoint is FixedPoint
    assert "FixedPoint" in dir(quantkeras)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        quantkeras.quantise  # noqa: B018 - looking it up is the test


def test_version():
    assert quantkeras.__version__.count(".") == 2
