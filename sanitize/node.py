"""One operation of a float graph: its kind, inputs, attributes and weights.

What kinds there are, and what each computes, stands in :mod:`sanitize.kinds`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kinds import KINDS, Trait
from .shapes import Shape

Array = NDArray[np.floating[Any]]


class GraphError(ValueError):
    """A graph that is not well formed; the message names the node and the reason."""


def producer_of(value: str) -> str:
    """The name of the node that makes ``value`` (``"lstm:1"`` is made by ``"lstm"``)."""
    return value.partition(":")[0]


def output_index(value: str) -> int:
    """Which output of its node ``value`` is."""
    index = value.partition(":")[2]
    return int(index) if index else 0


@dataclass(frozen=True, eq=False)
class Node:
    """One operation. See the table in :mod:`sanitize.kinds` for the attributes of each kind.

    Attributes:
        name: unique in its graph, without ":".
        kind: what it computes, a key of that table.
        inputs: the values that it reads.
        attrs: attributes by name.
        weights: float32 arrays by name, such as "kernel" (kh, kw, in, out) and "bias" (out,).
        shape: of the output, unbatched and channels last; None for sizes that are not known.
        source: the layers of the user's model that the node stands for; reports use it.
        share: the same text on all call sites of one layer that is called several times: these
            nodes hold the same weights and a rewrite must change all of them alike or none. None
            for a layer that is called once.
    """

    name: str
    kind: str
    inputs: tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Array] = field(default_factory=dict)
    shape: Shape = ()
    source: tuple[str, ...] = ()
    share: str | None = None

    def with_(self, **changes: Any) -> Node:
        """Make a copy with some fields changed.

        Args:
            **changes: the fields by name.

        Returns:
            The copy.
        """
        return dataclasses.replace(self, **changes)

    def with_attrs(self, **attrs: Any) -> Node:
        """Make a copy with attributes added or replaced.

        Args:
            **attrs: by name; a value of None removes the attribute.

        Returns:
            The copy.
        """
        merged = {**self.attrs, **attrs}
        return self.with_(attrs={k: v for k, v in merged.items() if v is not None})

    def with_weights(self, **weights: Array | None) -> Node:
        """Make a copy with weights added or replaced.

        Args:
            **weights: arrays by name, stored as float32; None removes one.

        Returns:
            The copy.
        """
        merged: dict[str, Array] = dict(self.weights)
        for key, value in weights.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = np.asarray(value, np.float32)
        return self.with_(weights=merged)

    @property
    def traits(self) -> Trait:
        """What its kind has in common with others."""
        return KINDS[self.kind].traits

    @property
    def output_count(self) -> int:
        """How many values the node makes: one, except for opaque nodes."""
        return len(self.attrs["shapes"]) if self.kind == "opaque" else 1

    @property
    def values(self) -> list[str]:
        """The names of what it makes: its own, and ``name:1`` and so on behind it."""
        return [self.name, *(f"{self.name}:{index}" for index in range(1, self.output_count))]

    @property
    def channels(self) -> int | None:
        """Size of the last axis of the output, None where it is not known."""
        return self.shape[-1] if self.shape else None

    def __str__(self) -> str:
        parts = [
            f"{key}={value!r}"
            for key, value in self.attrs.items()
            if key not in ("layer", "call", "shapes")
        ]
        if self.kind == "opaque":
            parts.insert(0, type(self.attrs["layer"]).__name__)
        parts += [f"{key}{tuple(value.shape)}" for key, value in self.weights.items()]
        if self.share is not None:
            parts.append(f"shared={self.share!r}")
        text = f"{self.name} = {self.kind}({', '.join(self.inputs)})"
        return " ".join([text, *parts, "->", str(self.shape)])


def value_shape(node: Node, value: str) -> Shape:
    """Unbatched shape of the value that ``node`` makes under the name ``value``."""
    index = output_index(value)
    if node.kind == "opaque":
        return tuple(node.attrs["shapes"][index])
    return node.shape


def node_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    """The output shape of ``node`` for these input shapes; GraphError where they do not fit."""
    _check_node(node)
    if node.kind == "input":
        return node.shape
    if node.kind == "opaque":
        return tuple(node.attrs["shapes"][0])
    weight_shapes = {key: value.shape for key, value in node.weights.items()}
    try:
        return KINDS[node.kind].shape(node.attrs, weight_shapes, shapes)
    except ValueError as error:
        raise GraphError(f"node '{node.name}' ({node.kind}): {error}") from error
    except KeyError as error:
        raise GraphError(f"node '{node.name}' ({node.kind}) lacks the attribute {error}") from error


def _check_node(node: Node) -> None:
    if ":" in node.name or not node.name:
        raise GraphError(f"'{node.name}' is not a node name: empty, or it contains ':'")
    if node.kind not in KINDS:
        raise GraphError(f"node '{node.name}' has the unknown kind '{node.kind}'")
    kind = KINDS[node.kind]
    missing = set(kind.needed) - set(node.weights)
    if missing:
        raise GraphError(f"node '{node.name}' ({node.kind}) lacks weights {sorted(missing)}")
    extra = set(node.weights) - set(kind.needed) - set(kind.optional)
    if extra:
        raise GraphError(f"node '{node.name}' ({node.kind}) has unknown weights {sorted(extra)}")
