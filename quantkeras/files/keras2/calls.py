"""The words in which a Keras 2 graph's TensorFlow functions and their replacements are put."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


class CannotReplace(Exception):
    """This call has no single Keras 3 layer; the text is the reason."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph: output `index` of call number `node` of `layer`."""

    layer: str
    node: int
    index: int


@dataclass(frozen=True)
class OpCall:
    """One call of a TensorFlow function.

    first: the first argument (a Tensor, a constant, or a list of these); rest: the others by name.
    """

    function: str
    first: Any
    rest: Mapping[str, Any]


@dataclass(frozen=True)
class Replacement:
    """The layer to put in place: its class, its configuration without a name, its inputs."""

    class_name: str
    config: Mapping[str, Any]
    inputs: tuple[Tensor, ...]


def tensor(value: Any) -> Tensor:
    """The argument, which must be a tensor of the graph."""
    if not isinstance(value, Tensor):
        raise CannotReplace("an argument that should be a tensor is a constant")
    return value


def constant(value: Any) -> Any:
    """A constant operand: a number or a nested list of numbers."""
    if not isinstance(value, int | float | list) or np.asarray(value).dtype.kind not in "if":
        raise CannotReplace("its second operand is neither a tensor nor a constant")
    return value
