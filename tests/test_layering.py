"""Who may import whom, read off the sources, and what the runtime pulls in when it is imported."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

HEAVY = ("keras", "tensorflow", "onnx", "onnxruntime", "jax", "torch", "tf2onnx", "h5py")
"""Packages that the integer runtime must do without."""


BESIDE_THE_RUNTIME = (
    "quantkeras.terminal.progress",
    "quantkeras.terminal.text_tables",
    "quantkeras.files.writing",
    "quantkeras._version",
)
"""Modules outside the runtime that it uses: they need nothing, and use what is installed."""


GEOMETRY = "sanitize.shapes"
"""Windows, pads and sizes, for float and for integer layers."""


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@cache
def imports(path: Path, typing_too: bool = False) -> tuple[str, ...]:
    """Absolute dotted names that a file imports, relative ones resolved."""
    return tuple(_imports(path, typing_too))


def _imports(path: Path, typing_too: bool) -> Iterator[str]:
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = set() if typing_too else {id(n) for node in _typing_blocks(tree) for n in node}
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            prefix = ".".join((*base, *([node.module] if node.module else [])))
            yield prefix
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def _typing_blocks(tree: ast.Module) -> Iterator[list[ast.AST]]:
    """Nodes under ``if TYPE_CHECKING:``, which never run."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield list(ast.walk(node))


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def third_party(path: Path) -> set[str]:
    """Top-level names outside the standard library and this project."""
    own = ("quantkeras", "sanitize", "model_zoo")
    tops = {name.split(".")[0] for name in imports(path) if name}
    return tops - set(sys.stdlib_module_names) - set(own)


def own_imports(path: Path) -> list[str]:
    return [name for name in imports(path) if within(name, ("quantkeras", "sanitize", "model_zoo"))]


@pytest.mark.parametrize("path", modules("quantkeras/numerics"), ids=lambda p: p.name)
def test_numerics_stands_on_numpy_alone(path: Path) -> None:
    assert third_party(path) <= {"numpy"}
    allowed = ("quantkeras.numerics", "quantkeras.errors", GEOMETRY)
    assert [n for n in own_imports(path) if not within(n, allowed)] == []


@pytest.mark.parametrize("path", modules("quantkeras/runtime"), ids=lambda p: p.name)
def test_the_runtime_stands_on_numerics(path: Path) -> None:
    assert third_party(path) <= {"numpy"}
    allowed = ("quantkeras.numerics", "quantkeras.runtime", "quantkeras.errors")
    allowed += BESIDE_THE_RUNTIME
    assert [n for n in own_imports(path) if not within(n, allowed)] == []


@pytest.mark.parametrize("module", ["sanitize", GEOMETRY])
def test_geometry_needs_nothing(module: str) -> None:
    code = (
        f"import sys; known = set(sys.modules); import {module}; print(*set(sys.modules) - known)"
    )
    found = {name.split(".")[0] for name in run_python(code).split()}
    assert found <= {"sanitize", *sys.stdlib_module_names}


@pytest.mark.parametrize("module", BESIDE_THE_RUNTIME)
def test_what_the_runtime_uses_besides_imports_only_the_errors(module: str) -> None:
    path = ROOT / f"{module.replace('.', '/')}.py"
    assert [n for n in own_imports(path) if not within(n, ("quantkeras.errors",))] == []
    # Optional: imported where they are used.
    assert third_party(path) <= {"rich", "tqdm"}


@pytest.mark.parametrize("path", modules("sanitize"), ids=lambda p: p.name)
def test_sanitize_knows_nothing_of_quantkeras(path: Path) -> None:
    assert [n for n in imports(path, typing_too=True) if within(n, ("quantkeras",))] == []


def test_only_the_commands_import_the_api_or_the_command_line() -> None:
    # The package's own lazy table names quantkeras.api as text, which is no import.
    above = {"quantkeras/api.py", "quantkeras/__main__.py"}
    for path in modules("quantkeras") + modules("sanitize"):
        place = path.relative_to(ROOT).as_posix()
        if place in above or place.startswith("quantkeras/cli/"):
            continue
        found = [n for n in imports(path) if within(n, ("quantkeras.api", "quantkeras.cli"))]
        assert found == [], place


def own_modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in modules("quantkeras") + modules("sanitize")
    }


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """Names that import each other in a circle, one such list; empty if there is none."""
    done: set[str] = set()

    def search(name: str, way: list[str]) -> list[str]:
        if name in way:
            return way[way.index(name) :]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if found := search(other, [*way, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := search(name, []))), [])


def test_no_files_import_each_other_in_a_circle() -> None:
    """Imports for types and those within functions count."""
    files = own_modules()
    graph = {
        name: {
            other
            for other in imports(path, typing_too=True)
            if other in files and not within(name, (other,))  # `from . import x` names the package
        }
        for name, path in files.items()
    }
    assert circle_in(graph) == []


def test_every_module_has_a_name_of_its_own() -> None:
    names = Counter(path.name for path in own_modules().values() if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


def run_python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("package", ["quantkeras", "quantkeras.numerics", "quantkeras.runtime"])
def test_importing_it_pulls_in_nothing_heavy(package: str) -> None:
    code = f"import sys, {package}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    assert run_python(code) == ""


NUMPY_ALONE = """
import sys
from importlib.abc import MetaPathFinder

class OnlyNumPy(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {*sys.stdlib_module_names, "numpy", "quantkeras", "sanitize"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, OnlyNumPy())
import io, tempfile, pathlib
import numpy as np
from quantkeras.numerics import Format
from quantkeras.numerics.layer import LayerParams, LayerSpec
from quantkeras.runtime import Program, ProgramInput, ProgramLayer

fmt = Format(8, False, 0)
layer = ProgramLayer("out", LayerSpec("identity"), LayerParams(), ("x",), fmt, (2,))
program = Program((ProgramInput("x", (2,), fmt),), (layer,), ("out",))
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "net.qkp"
    program.save(path)
    program = Program.load(path)
program.summary(print_fn=lambda line: None)
program.summary()
print(program.predict(np.array([[3, 4]]), verbose=True).tolist())
"""


def test_a_program_runs_where_only_numpy_is_installed() -> None:
    assert run_python(NUMPY_ALONE).splitlines()[-1] == "[[3.0, 4.0]]"


FIRST = """
import importlib, sys
for name in sys.argv[1:]:
    for known in [m for m in sys.modules if m.split(".")[0] in ("quantkeras", "sanitize")]:
        del sys.modules[known]
    importlib.import_module(name)
"""


@pytest.mark.slow
def test_any_module_may_be_imported_first() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in modules("quantkeras") + modules("sanitize")
        if path.stem != "__main__"
    ]
    command = [sys.executable, "-c", FIRST, *names]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
