"""The state of one reading: values so far, nodes so far, and moving data between layouts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..node import Node, node_shape, value_shape
from ..onnx_errors import OnnxError
from .fold import Known
from .layout import Order, Rows, Sizes, Tensor, natural_order, plan_reshape, steps_to
from .view import OnnxGraph, OnnxNode

Array = NDArray[Any]


class NotUnderstood(Exception):
    """A use of an operator that the graph has no kinds for, and why; the node becomes opaque."""


class Reading:
    """What the operator entries work with.

    values: what each ONNX value is, by its name. nodes: our nodes, by name. batches: batch sizes
    that shapes are worked out for.
    """

    def __init__(self, graph: OnnxGraph, batches: tuple[int, ...]) -> None:
        self.graph = graph
        self.batches = batches
        self.values: dict[str, Tensor | Rows | Known] = {
            name: Known((array,)) for name, array in graph.constants.items()
        }
        self.nodes: dict[str, Node] = {}
        # Per node with a kernel: the ONNX constants it is made of, to find shared ones.
        self.kernels: dict[str, tuple[str, ...]] = {}
        # Nodes left to the branch or loop that they decide, by what they make.
        self.put_off: dict[str, OnnxNode] = {}
        # Whether there was such a one.
        self.alone = False
        # Whether (n, c, t) is held as (n, t, c) somewhere.
        self.sequences = False
        self.label = ""
        self.source: tuple[str, ...] = ()

    # -- values -----------------------------------------------------------------------------

    def tensor(self, name: str) -> Tensor:
        """The value of that name, which must be one that data flow into."""
        value = self.values[name]
        if isinstance(value, Known):
            raise NotUnderstood(f"its input '{name}' is a constant")
        if isinstance(value, Rows):
            raise NotUnderstood(f"its input '{name}' counts more than samples along an axis")
        return value

    def known(self, name: str) -> Known | None:
        """The value of that name if it is known without data."""
        value = self.values.get(name)
        return value if isinstance(value, Known) else None

    def constant(self, name: str) -> Array:
        """The constant of that name; NotUnderstood where data or the batch size flow into it."""
        known = self.known(name)
        array = None if known is None else known.constant
        if array is None:
            raise NotUnderstood(f"its input '{name}' is not a constant")
        return array

    def optional(self, node: OnnxNode, index: int) -> Array | None:
        """The constant that is input number ``index``; None where it is left out."""
        name = node.input(index)
        return self.constant(name) if name else None

    def setting(self, node: OnnxNode, attribute: str, index: int, default: Any = None) -> Any:
        """What older opsets have as an attribute and newer ones as input ``index``.

        Lists come as tuples, arrays of one element as numbers.
        """
        if attribute in node.attributes:
            return node.attributes[attribute]
        array = self.optional(node, index)
        if array is None:
            return default
        return tuple(array.tolist()) if array.ndim else array.item()

    # -- nodes ------------------------------------------------------------------------------

    def unique(self, wish: str) -> str:
        """A name for a node: letters, digits and ``_ . - /`` only, not taken yet."""
        wish = re.sub(r"[^A-Za-z0-9_./-]", "_", wish).lstrip("/_-.") or "node"
        wish = re.sub("/+", "/", wish).rstrip("/")
        name, count = wish, 0
        while name in self.nodes:
            count += 1
            name = f"{wish}_{count}"
        return name

    def emit(
        self,
        kind: str,
        inputs: Sequence[str],
        attrs: Mapping[str, Any] | None = None,
        weights: Mapping[str, Any] | None = None,
        suffix: str = "",
    ) -> str:
        """Make a node, named after the ONNX node being read; its value."""
        arrays = {
            key: np.asarray(array, np.float32)
            for key, array in (weights or {}).items()
            if array is not None
        }
        name = self.unique(f"{self.label}/{suffix}" if suffix else self.label)
        node = Node(name, kind, tuple(inputs), dict(attrs or {}), arrays, (), self.source)
        shape = node_shape(node, [self.shape_of(value) for value in inputs])
        self.nodes[name] = node.with_(shape=shape)
        return name

    def shape_of(self, value: str) -> Sizes:
        """Unbatched shape of one of our values; all sizes are known."""
        shape = value_shape(self.nodes[value.partition(":")[0]], value)
        return tuple(int(size) for size in shape if size is not None)

    def made(self, value: str, order: Order, dtype: Any = np.float32) -> Tensor:
        """Our value as a Tensor."""
        return Tensor(value, self.shape_of(value), order, np.dtype(dtype))

    def same(self, tensor: Tensor, value: str) -> Tensor:
        """A value of the layout of ``tensor``, for what works element by element."""
        return replace(tensor, value=value, shape=self.shape_of(value))

    # -- layouts ----------------------------------------------------------------------------

    def unfolded(self, tensor: Tensor) -> Tensor:
        """The value with its features in the order that ONNX has them in."""
        if tensor.folded is None:
            return tensor
        shape, dims = tensor.folded.shape, tensor.folded.dims
        value = self.emit("reshape", [tensor.value], {"shape": shape}, suffix="unflatten")
        value = self.emit("permute", [value], {"dims": dims}, suffix="permute")
        value = self.emit("flatten", [value], suffix="flatten")
        return replace(tensor, value=value, folded=None)

    def arranged(self, tensor: Tensor, order: Order) -> Tensor:
        """The value with its axes in ``order``."""
        tensor = self.unfolded(tensor)
        if order[0] != tensor.batch_axis:
            raise NotUnderstood("it works on an axis that counts samples")
        step = steps_to(tensor, order)
        if step is None:
            return tensor
        kind, numbers = step
        if kind == "reshape":
            value = self.emit("reshape", [tensor.value], {"shape": numbers}, suffix="reshape")
        else:
            value = self.emit("permute", [tensor.value], {"dims": numbers}, suffix="permute")
        return replace(tensor, value=value, shape=self.shape_of(value), order=order)

    def natural(self, tensor: Tensor) -> Tensor:
        """Channels last for pictures, in ONNX' order for everything else."""
        return self.arranged(tensor, natural_order(tensor.rank))

    def reshaped(self, tensor: Tensor, target: Sizes, batch_axis: int = 0) -> Tensor:
        """The value behind an ONNX Reshape to sizes ``target`` per sample.

        batch_axis: the ONNX axis that counts samples then; ``target`` leaves it out.
        """
        if int(np.prod(target)) != int(np.prod(tensor.shape)):
            raise NotUnderstood(f"it cannot reshape {tensor.onnx_shape} to samples of {target}")
        before = math.prod(tensor.onnx_shape[axis] or 1 for axis in range(tensor.batch_axis))
        if before != math.prod(target[:batch_axis]):
            raise NotUnderstood("the axes in front of the samples change their size")
        if tensor.folded is not None:
            folded = tensor.folded
            shape = folded.shape
            order = tuple(folded.dims.index(dim) + 1 for dim in range(len(shape)))
        else:
            # Counted from 1 without the batch: axes on both sides of it are never merged, as the
            # products of the sizes in front of it agree.
            shape = tensor.shape
            order = tuple(axis + (axis < tensor.batch_axis) for axis in tensor.order[1:])
        plan = plan_reshape(shape, order, target)
        value = tensor.value
        if plan.dims is not None:
            if shape != tensor.shape:
                value = self.emit("reshape", [value], {"shape": shape}, suffix="unflatten")
            value = self.emit("permute", [value], {"dims": plan.dims}, suffix="permute")
        if self.shape_of(value) != plan.shape and (stretched := self._stretched(value, plan.shape)):
            value = stretched
        elif self.shape_of(value) != plan.shape:
            flat = len(plan.shape) == 1
            kind, attrs = ("flatten", {}) if flat else ("reshape", {"shape": plan.shape})
            value = self.emit(kind, [value], attrs)
        result = Tensor(value, plan.shape, plan.order, tensor.dtype, plan.folded)
        if batch_axis:
            rest = (axis - (axis <= batch_axis) for axis in plan.order[1:])
            result = replace(self.unfolded(result), order=(batch_axis, *rest))
        return result

    def _stretched(self, value: str, target: Sizes) -> str | None:
        """Nearest-neighbour upsampling written as a new axis, copies along it, and a reshape.

        (h, w, c) -> (h, 1, w, c) -> (h, k, w, c) -> (h*k, w, c), and alike for the width.
        """
        copies = self.nodes[value.partition(":")[0]]
        count = len(copies.inputs)
        if copies.kind != "concat" or len(set(copies.inputs)) != 1 or len(target) != 3:
            return None
        single = self.nodes[copies.inputs[0].partition(":")[0]]
        axis = int(copies.attrs["axis"]) - 1
        if single.kind != "reshape" or axis not in (0, 1):
            return None
        shape = self.shape_of(single.inputs[0])
        if len(shape) != 3 or self.shape_of(single.name) != (
            *shape[: axis + 1],
            1,
            *shape[axis + 1 :],
        ):
            return None
        size = (count, 1) if axis == 0 else (1, count)
        if target != (shape[0] * size[0], shape[1] * size[1], shape[2]):
            return None
        source = single.inputs[0]
        before = self.nodes[source.partition(":")[0]]
        if before.kind == "upsample":
            first = before.attrs["size"]
            source, size = before.inputs[0], (size[0] * first[0], size[1] * first[1])
        return self.emit("upsample", [source], {"size": size})

    def fitted(self, tensor: Tensor, array: Array) -> Array:
        """An ONNX constant that meets ``tensor`` in an element-wise operation, in our layout.

        Leading axes of size 1 are dropped: a number comes as (), one per channel as (c,).
        """
        while array.ndim > tensor.rank and array.shape[0] == 1:
            array = array[0]
        sizes = tensor.onnx_shape
        if array.ndim > tensor.rank:
            raise NotUnderstood(f"its constant {array.shape} has more axes than its input {sizes}")
        array = array.reshape((1,) * (tensor.rank - array.ndim) + array.shape)
        for size, wanted in zip(array.shape, sizes, strict=True):
            if size != 1 and size != wanted:
                raise NotUnderstood(f"its constant {array.shape} does not fit its input {sizes}")
        array = array.transpose(tensor.order)[0]
        if tensor.folded is not None and array.size > 1:
            array = self.placed(tensor, array)
        while array.ndim and array.shape[0] == 1:
            array = array[0]
        return np.asarray(array)

    def placed(self, tensor: Tensor, array: Array) -> Array:
        """An array with one row per ONNX feature of (n, features), with its rows in our order."""
        if tensor.folded is None:
            return array
        result = np.empty_like(array)
        result[tensor.folded.places()] = array
        return result


def axes_setting(
    reading: Reading, node: OnnxNode, rank: int, index: int = 1
) -> tuple[int, ...] | None:
    """The ``axes`` of a node as sorted numbers from 0; None where it names none."""
    axes = reading.setting(node, "axes", index)
    if axes is None:
        return None
    numbers = (axes,) if isinstance(axes, int) else tuple(axes)
    return tuple(sorted(int(axis) % rank for axis in numbers))


def needs_float(tensor: Tensor) -> None:
    """NotUnderstood for an integer value, whose arithmetic wraps and truncates."""
    if tensor.dtype.kind not in "fV":
        raise NotUnderstood(f"it computes with {tensor.dtype} numbers")


def error_at(node: OnnxNode, problem: str) -> OnnxError:
    """An error about one node."""
    return OnnxError(f"node {node} {problem}")
