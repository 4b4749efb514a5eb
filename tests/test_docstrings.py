"""Public names say what they take, give and raise, in sections that an API page is made of.

A callable with parameters has ``Args:``, which names exactly those, and ``Returns:`` (or
``Yields:``) unless it gives nothing; one without parameters says in its first sentence what it
gives. ``Raises:`` names exceptions, among them all that the callable raises itself. A class
documents the parameters of its constructor, a dataclass its fields, under ``Args:`` or
``Attributes:``. A method that overrides one of a base class is documented there.
"""

import ast
import builtins
import dataclasses
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from api_pages import PACKAGES

from quantkeras import errors

pytest.importorskip("onnx")

RESULTS = (
    ("quantkeras.report.covered_parts", "Part"),
    ("quantkeras.calibration.observer", "Observer"),
    ("quantkeras.calibration.observer", "Ranges"),
    ("quantkeras.calibration.observers", "MovingAverageObserver"),
    ("quantkeras.calibration.observers", "MseObserver"),
    ("quantkeras.calibration.observers", "PercentileObserver"),
    ("quantkeras.calibration.samples", "SampleStream"),
    ("quantkeras.numerics.bounds", "LayerBounds"),
    ("quantkeras.numerics.fixed_point", "Saturation"),
    ("quantkeras.numerics.layer", "LayerParams"),
    ("quantkeras.numerics.layer", "LayerSpec"),
    ("quantkeras.numerics.layer", "run_layer"),
    ("quantkeras.numerics.layer_windows", "Pool"),
    ("quantkeras.numerics.layer_windows", "Window"),
    ("quantkeras.quantization.layer_settings", "LayerOverride"),
    ("quantkeras.quantization.layer_settings", "LayerSettings"),
    ("quantkeras.quantization.params", "chosen_params"),
    ("quantkeras.ptq.bias_correction", "BiasResult"),
    ("quantkeras.ptq.blocks", "BlockResult"),
    ("quantkeras.ptq.equalization", "LinkResult"),
    ("quantkeras.ptq.ladder", "LadderStep"),
    ("quantkeras.ptq.adaptive_rounding", "RoundingResult"),
    ("quantkeras.ptq.sensitivities", "LayerSensitivity"),
    ("quantkeras.runtime.engines", "BlasEngine"),
    ("quantkeras.runtime.engines", "Engine"),
    ("quantkeras.runtime.engines", "ReferenceEngine"),
    ("quantkeras.runtime.lowered", "LoweredLayer"),
    ("quantkeras.runtime.lowered", "Rescale"),
    ("quantkeras.runtime.lowered", "StoredTensor"),
    ("sanitize.match", "Match"),
    ("sanitize.match", "Rewrite"),
    ("sanitize.pipeline", "RuleRow"),
)
"""What users meet beside these, as arguments and results: module and name."""

HEADER = re.compile(r"(Args|Attributes|Returns|Yields|Raises|Warns|Example):$")
ENTRY = re.compile(r"    (\*{0,2}[\w.]+): ")


def is_ours(thing: Any) -> bool:
    return (getattr(thing, "__module__", None) or "").split(".")[0] in ("quantkeras", "sanitize")


def sections(thing: Any) -> dict[str, list[str]]:
    """Section -> the names of its entries."""
    found: dict[str, list[str]] = {}
    current = None
    for line in inspect.cleandoc(thing.__doc__ or "").splitlines():
        if header := HEADER.match(line):
            current = found.setdefault(header[1], [])
        elif line and not line.startswith(" "):
            current = None
        elif current is not None and (entry := ENTRY.match(line)):
            current.append(entry[1])
    return found


def parameters(function: Callable[..., Any]) -> list[str]:
    """Names as they stand in ``Args:``, but self and cls."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    given = inspect.signature(function).parameters.values()
    return [stars.get(p.kind, "") + p.name for p in given if p.name not in ("self", "cls")]


def exception(name: str, module: Any) -> Any:
    """The exception that a name stands for in a docstring of that module."""
    if "." in name:
        home, name = name.rsplit(".", 1)
        return getattr(importlib.import_module(home), name, None)
    homes = (module, errors, builtins)
    return next((getattr(home, name) for home in homes if hasattr(home, name)), None)


def raised(function: Callable[..., Any]) -> set[str]:
    """Names of the exceptions that the body of a function makes and raises."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    made = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    return {
        call.func.id
        for call in made
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    }


def faults_of_raises(documented: list[str], function: Callable[..., Any]) -> Iterator[str]:
    module = importlib.import_module(function.__module__)
    known = [exception(name, module) for name in documented]
    for name, found in zip(documented, known, strict=True):
        if not (isinstance(found, type) and issubclass(found, BaseException)):
            yield f"Raises: {name} is no exception"
    for name in raised(function):
        kind = exception(name, module)
        if not any(isinstance(base, type) and issubclass(kind, base) for base in known):
            yield f"raises {name}, which Raises: does not name"


def faults_of_function(function: Callable[..., Any]) -> Iterator[str]:
    """What the docstring of a function or method lacks."""
    if not function.__doc__:
        yield "no docstring"
        return
    found = sections(function)
    wanted = parameters(function)
    if found.get("Args", []) != wanted:
        yield f"Args: {found.get('Args')}, parameters {wanted}"
    gives = inspect.signature(function).return_annotation not in (None, "None")
    if gives and wanted and not {"Returns", "Yields"} & set(found):
        yield "no Returns:"
    yield from faults_of_raises(found.get("Raises", []), getattr(function, "__wrapped__", function))


def faults_of_class(cls: type) -> Iterator[str]:
    """What the docstring of a class lacks about making one, or about its fields."""
    if not cls.__doc__:
        yield "no docstring"
        return
    found = sections(cls)
    named = [*found.get("Args", []), *found.get("Attributes", [])]
    init = vars(cls).get("__init__")
    if dataclasses.is_dataclass(cls):
        wanted = [f.name for f in dataclasses.fields(cls) if f.init]
        if named != wanted:
            yield f"Attributes: {named}, fields {wanted}"
    elif "_fields" in vars(cls):
        if named != list(cls._fields):
            yield f"Attributes: {named}, fields {cls._fields}"
    elif init is not None and not sections(init).get("Args"):
        # What goes on to a stock class may be summed up.
        wanted = [name for name in parameters(init) if not name.startswith("*")]
        if [name for name in found.get("Args", []) if not name.startswith("*")] != wanted:
            yield f"Args: {found.get('Args')}, parameters {wanted}"
    own = [name for name in ("__init__", "__post_init__") if is_written(vars(cls).get(name))]
    for name in own:
        yield from faults_of_raises(found.get("Raises", []), vars(cls)[name])


def is_written(function: Any) -> bool:
    """Whether it stands in a file of ours: dataclasses, tuples and protocols make methods, too."""
    made = inspect.isfunction(function) and is_ours(function)
    return made and not function.__code__.co_filename.startswith("<")


def methods(cls: type) -> Iterator[tuple[str, Any]]:
    """(name, function or property) of a class and of our classes that it is made of; those that
    override another one are left out, as that is documented.
    """
    for position, base in enumerate(cls.__mro__):
        if not is_ours(base):
            continue
        for name, member in vars(base).items():
            over = any(name in vars(former) for former in cls.__mro__[position + 1 :])
            plain = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            if name.startswith("_") or over:
                continue
            if isinstance(member, property) or is_written(plain):
                yield f"{base.__name__}.{name}", plain


def faults(thing: Any) -> Iterator[str]:
    """What the docstrings of a public function or class lack."""
    if not inspect.isclass(thing):
        yield from faults_of_function(thing)
        return
    yield from faults_of_class(thing)
    if issubclass(thing, BaseException):
        return
    for name, method in methods(thing):
        if isinstance(method, property):
            if not method.__doc__:
                yield f"{name}: no docstring"
        else:
            yield from (f"{name}: {fault}" for fault in faults_of_function(method))


def public(package: str) -> dict[str, Any]:
    """Public functions and classes of a package by name."""
    module = importlib.import_module(package)
    found = {name: getattr(module, name) for name in module.__all__}
    return {
        name: thing
        for name, thing in found.items()
        if is_ours(thing) and (inspect.isclass(thing) or inspect.isroutine(thing))
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_have_their_sections(package):
    lacking = [f"{name}: {fault}" for name, x in public(package).items() for fault in faults(x)]
    assert not lacking, "\n".join(lacking)


@pytest.mark.parametrize(("module", "name"), RESULTS)
def test_docstrings_of_results_have_their_sections(module, name):
    found = getattr(importlib.import_module(module), name)
    assert not list(faults(found))


def test_what_is_not_documented_is_found():
    def without(x: int) -> int:
        """Twice x."""
        return 2 * x

    def other_names(x: int, y: int = 0) -> None:
        """Do it.

        Args:
            x: a number.
            z: another.

        Raises:
            Mistake: never.
        """
        raise ValueError(x)

    assert list(faults(without)) == ["Args: None, parameters ['x']", "no Returns:"]
    assert list(faults(other_names)) == [
        "Args: ['x', 'z'], parameters ['x', 'y']",
        "Raises: Mistake is no exception",
        "raises ValueError, which Raises: does not name",
    ]

    class Silent:
        """A class."""

        def __init__(self, size: int) -> None:
            self.size = size

    assert list(faults(Silent)) == ["Args: None, parameters ['size']"]
