"""Import paths of modules that have moved: they work on, with a DeprecationWarning, until 0.2."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

MOVED = {
    "quantkeras.analysis": "quantkeras.report",
    "quantkeras.commands": "quantkeras.cli",
    "quantkeras.export": "quantkeras.onnx",
    "quantkeras.float_network": "quantkeras.quantization.float_network",
    "quantkeras.model_io": "quantkeras.files.model_files",
    "quantkeras.onnx_models": "quantkeras.onnx.onnx_models",
    "quantkeras.onnx_quantization": "quantkeras.onnx.runtime_quantizer",
    "quantkeras.params": "quantkeras.quantization.params",
    "quantkeras.plan": "quantkeras.quantization.plan",
    "quantkeras.planning": "quantkeras.quantization.decide",
    "quantkeras.runtime.bounds": "quantkeras.runtime.program_bounds",
}
"""Former path -> the present one; modules of a package go along."""


class FormerPaths(MetaPathFinder, Loader):
    """Finds modules under their former paths."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        return spec_from_loader(name, self, is_package=True) if _present(name) else None

    def exec_module(self, module: ModuleType) -> None:
        present = _present(module.__name__)
        assert present is not None
        real = import_module(present)
        warnings.warn(f"{module.__name__} is {present} now", DeprecationWarning, stacklevel=2)
        vars(module)["__getattr__"] = partial(getattr, real)
        module.__doc__ = real.__doc__


def _present(name: str) -> str | None:
    package, _, last = name.rpartition(".")
    return MOVED.get(name) or (f"{MOVED[package]}.{last}" if package in MOVED else None)


def install() -> None:
    """Make the former paths importable."""
    if not any(isinstance(finder, FormerPaths) for finder in sys.meta_path):
        sys.meta_path.append(FormerPaths())
