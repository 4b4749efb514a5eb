"""Writing an ONNX graph: unique names, shared constants, and the layout of tensors.

Tensors are described by their unbatched shape in this project's order, channels last. An ONNX
tensor of three axes (a map) is stored channels first, as the operators for maps want it; all
others are stored as they are described. The batch dimension comes first and is free.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper

from sanitize.onnx_io.builder import GraphBuilder
from sanitize.onnx_io.protos import value_info

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

BATCH = "batch"
"""Name of the free dimension."""

TO_MAP = (2, 0, 1)
"""Order of the axes (height, width, channels) in a stored map."""
FROM_MAP = (1, 2, 0)
"""Order of the axes of a stored map that gives back (height, width, channels)."""


COMPARISONS = {"Max": "Greater", "Min": "Less"}
"""Operator of two operands -> the comparison that says the first one is its result."""


class Tensor(NamedTuple):
    """A value of the graph. shape: unbatched, channels last; low, high: limits of its integers."""

    name: str
    dtype: npt.DTypeLike
    shape: Shape
    low: int = 0
    high: int = 0

    @property
    def is_map(self) -> bool:
        """Whether it is stored channels first."""
        return len(self.shape) == 3

    @property
    def stored(self) -> Shape:
        """Unbatched shape in the order of the graph."""
        return tuple(self.shape[axis] for axis in TO_MAP) if self.is_map else self.shape

    def stored_axis(self, axis: int) -> int:
        """Where an axis of the unbatched shape is in the order of the graph."""
        return TO_MAP.index(axis) if self.is_map else axis


class LayerBuilder(GraphBuilder):
    """Collects nodes and constants; ``scope`` names the layer that they belong to."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        super().__init__(taken)
        self._scope = ""
        self._start = 0

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """New nodes and values belong to the layer of that name."""
        self._scope, self._start = name, len(self.nodes)
        yield
        self._scope = ""

    # -- values ------------------------------------------------------------------------------

    def constant(self, values: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> str:
        """Name of an initializer; equal ones are written once."""
        array = np.ascontiguousarray(np.asarray(values).astype(dtype)).reshape(np.shape(values))
        name = f"{self._scope}/constant" if array.size > 1 else f"constant/{array}"
        return self.add_constant(array, name, (array.dtype.name, array.shape, array.tobytes()))

    def initializer(self, name: str, values: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        """Full name of an array that has a name within its layer."""
        array = np.ascontiguousarray(np.asarray(values).astype(dtype))
        return self.add_constant(array, f"{self._scope}/{name}")

    def node(self, op: str, inputs: Sequence[str], domain: str = "", **attributes: Any) -> str:
        """Adds a node of one output and returns the name of that."""
        name = self.unique(f"{self._scope}/{op}")
        self.add_node(op, inputs, [name], name, domain=domain, **attributes)
        return name

    def named(self, tensor: Tensor, name: str) -> Tensor:
        """The tensor under a name that was reserved for it.

        The last node of the scope is renamed if it makes the tensor, else an Identity is added.
        """
        made = len(self.nodes) > self._start and self.nodes[-1].output[0] == tensor.name
        if not made:
            self.node("Identity", [tensor.name])
        self.nodes[-1].output[0] = name
        return tensor._replace(name=name)

    def describe(self, tensor: Tensor) -> None:
        """Lists type and shape of a value for whoever reads the file."""
        self.infos.append(value_info(tensor.name, tensor.dtype, (BATCH, *tensor.stored)))

    # -- operators that every layer uses ------------------------------------------------------

    def operate(self, op: str, x: Tensor, values: npt.ArrayLike) -> Tensor:
        """``op(x, values)`` in x's type; values broadcast to the unbatched shape of x."""
        found = self.constant(stored_values(values, x), x.dtype)
        return x._replace(name=self.combine(op, x, found))

    def combine(self, op: str, x: Tensor, other: str) -> str:
        """Name of ``op(x, other)``, both of x's type.

        onnxruntime's Max and Min of int64 compare the lower 32 bits alone on some processors, so a
        comparison and a choice stand for them.
        """
        if op in COMPARISONS and np.dtype(x.dtype) == np.int64:
            first = self.node(COMPARISONS[op], [x.name, other])
            return self.node("Where", [first, x.name, other])
        return self.node(op, [x.name, other])

    def cast(self, x: Tensor, dtype: npt.DTypeLike) -> Tensor:
        """The same numbers in another type."""
        if np.dtype(x.dtype) == np.dtype(dtype):
            return x
        target = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return x._replace(name=self.node("Cast", [x.name], to=target), dtype=np.dtype(dtype))

    def reshape_stored(self, x: Tensor, stored: Sequence[int], shape: Shape) -> Tensor:
        """x under another stored shape (without the batch), which is that of ``shape``."""
        name = self.node("Reshape", [x.name, self.constant([0, *stored])])
        return x._replace(name=name, shape=shape)

    def to_order(self, x: Tensor, order: Sequence[int]) -> str:
        """Name of x with its stored axes (without the batch) in another order."""
        return self.node("Transpose", [x.name], perm=[0, *(axis + 1 for axis in order)])


def stored_values(values: npt.ArrayLike, x: Tensor) -> Array:
    """Constants that broadcast to the unbatched shape of x, in the order x is stored."""
    array = np.asarray(values)
    if array.size == 1:
        return array.reshape(())
    if not x.is_map:
        return array
    wide = array.reshape((1,) * (3 - array.ndim) + array.shape)
    return np.ascontiguousarray(wide.transpose(TO_MAP))
