"""What is known of one element-wise function: one record, and nothing about it anywhere else."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Attrs = Mapping[str, Any]
#: f(x, parameters); the result has the shape and the precision of x.
Formula = Callable[[Array, Attrs], Array]


class Emitter(Protocol):
    """What is needed of a writer of ONNX: both give the name of a value."""

    def emit(self, op: str, *inputs: str, **attributes: Any) -> str: ...

    def number(self, value: float) -> str: ...


#: (writer, x, parameters) -> the value of the function, as ONNX operators of opset 17.
Writer = Callable[[Emitter, str, Attrs], str]
#: Gets attributes of an ONNX operator, or arguments, by (name, default); the parameters, None where
#: it is another function.
Operator = Callable[[Callable[[str, Any], Any]], dict[str, Any] | None]


class Tried(IntEnum):
    """Whether values that are not known are compared with a function."""

    NEVER = 0
    #: Those of a function that nothing is known of, such as a Lambda.
    ALONE = 1
    #: Those of arithmetic that a network writes out, too.
    WRITTEN_OUT = 2


def always(attrs: Attrs) -> bool:
    return True


def never(attrs: Attrs) -> bool:
    return False


@dataclass(frozen=True)
class Function:
    """One element-wise function of the kind ``activation``.

    parameters: with the values that Keras takes where none are given. rises: for which parameters
    f(a) <= f(b) for all a <= b. least, most: bounds of its values, whatever the parameters. write,
    operators: as ONNX has it, and which operators are it. keras: further names that Keras has for
    it (None: it has none, not even its own). tensorflow: functions that Keras 2 files call it.
    tried: see :class:`Tried`; those of a parameter are tried with its usual value.
    """

    name: str
    formula: Formula
    write: Writer | None
    operators: Mapping[str, Operator] = field(default_factory=dict)
    parameters: Attrs = field(default_factory=dict)
    rises: Callable[[Attrs], bool] = never
    least: float = -math.inf
    most: float = math.inf
    keras: tuple[str, ...] | None = ()
    tensorflow: Mapping[str, Operator] = field(default_factory=dict)
    tried: Tried = Tried.NEVER

    @property
    def keras_names(self) -> tuple[str, ...]:
        """The names under which Keras, its operations and its activations have it."""
        return () if self.keras is None else (self.name, *self.keras)


def operator(name: str, **attributes: tuple[str | float, float]) -> dict[str, Any]:
    """``write`` and ``operators`` of a function that one ONNX operator is.

    attributes: of the operator: the parameter that it is, or the number that it has to be, and what
    it is in ONNX where it is left out.
    """

    def write(w: Emitter, x: str, attrs: Attrs) -> str:
        given = {
            key: attrs[of] if isinstance(of, str) else of for key, (of, _) in attributes.items()
        }
        return w.emit(name, x, **{key: float(value) for key, value in given.items()})

    return {"write": write, "operators": called(name, **attributes)}


def called(*names: str, **attributes: tuple[str | float, float]) -> dict[str, Operator]:
    """The function under each of these names, with such attributes or arguments; see operator."""

    def read(get: Callable[[str, Any], Any]) -> dict[str, Any] | None:
        found = {}
        for key, (of, usual) in attributes.items():
            given = get(key, usual)
            number = given if isinstance(given, bool) else float(given)
            if isinstance(of, str):
                found[of] = number
            elif not math.isclose(number, of, rel_tol=1e-5):
                return None
        return found

    return dict.fromkeys(names, read)


def chain(*operators: str) -> Writer:
    """Operators without attributes, one after the other."""

    def write(w: Emitter, x: str, attrs: Attrs) -> str:
        for name in operators:
            x = w.emit(name, x)
        return x

    return write


def with_number(op: str, value: float, first: str = "") -> Writer:
    """``op`` of x (or of another operator of x) and a number."""

    def write(w: Emitter, x: str, attrs: Attrs) -> str:
        return w.emit(op, w.emit(first, x) if first else x, w.number(value))

    return write


def plain(function: Callable[[Array], Array]) -> Formula:
    """The formula of a function without parameters."""
    return lambda x, attrs: np.asarray(function(x))
