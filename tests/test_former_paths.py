"""Modules that moved are found under their former paths, with a warning, and are the same."""

from __future__ import annotations

import importlib
import sys

import pytest

from quantkeras._former_paths import MOVED


@pytest.mark.parametrize("former", sorted(MOVED))
def test_former_paths(former: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, former, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{former} is {MOVED[former]} now"):
        found = importlib.import_module(former)
    real = importlib.import_module(MOVED[former])
    names = [name for name in vars(real) if not name.startswith("_")]
    assert names and all(getattr(found, name) is getattr(real, name) for name in names)


def test_modules_of_a_package_that_moved() -> None:
    with pytest.warns(DeprecationWarning):
        from quantkeras.commands.run_data import open_inputs

    from quantkeras.cli.run_data import open_inputs as present

    assert open_inputs is present


def test_what_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"quantkeras\.nonsense"):
        importlib.import_module("quantkeras.nonsense")
