"""Where the axes of an ONNX value are: transposing costs nothing until somebody looks.

ONNX pictures are (n, c, h, w), ours (n, h, w, c). Every ONNX value is held as one of our values
plus an *order*: ``order[j]`` is the ONNX axis that our axis ``j`` is, the batch axis included. A
Transpose only relabels the axes. Data move when an operator needs them elsewhere, and not at all
between operators that agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Order = tuple[int, ...]
Sizes = tuple[int, ...]

#: Our order of an ONNX picture (n, c, h, w), and of an ONNX sequence (n, c, t).
PICTURE: Order = (0, 2, 3, 1)
SEQUENCE: Order = (0, 2, 1)


@dataclass(frozen=True)
class Folded:
    """How a flattened axis is made: ours from (h, w, c) in that order, ONNX' from (c, h, w).

    shape: the sizes that our axis was flattened from; dims: which of them ONNX takes first, second,
    and so on.
    """

    shape: Sizes
    dims: tuple[int, ...]

    def places(self) -> NDArray[np.int64]:
        """For every ONNX position along the axis, our position."""
        count = np.arange(math.prod(self.shape))
        return count.reshape(self.shape).transpose(self.dims).ravel()


@dataclass(frozen=True)
class Tensor:
    """An ONNX value that data flow into.

    value: name of our value; shape: its unbatched shape; order: see the module; dtype: of the ONNX
    value. folded: for (n, features) only, where the features are in another order than in ONNX.
    """

    value: str
    shape: Sizes
    order: Order
    dtype: np.dtype[Any]
    folded: Folded | None = None

    @property
    def rank(self) -> int:
        """Number of axes, the batch included."""
        return len(self.order)

    @property
    def batch_axis(self) -> int:
        """The ONNX axis that counts samples."""
        return self.order[0]

    @property
    def onnx_shape(self) -> tuple[int | None, ...]:
        """Sizes in ONNX order, None for the batch."""
        sizes: list[int | None] = [None] * self.rank
        for axis, size in zip(self.order[1:], self.shape, strict=True):
            sizes[axis] = size
        return tuple(sizes)

    def sizes(self, batch: int) -> list[int]:
        """Sizes of the ONNX value for a number of samples."""
        return [batch if size is None else size for size in self.onnx_shape]

    def place(self, axis: int) -> int:
        """Our unbatched axis that is the ONNX axis ``axis`` (negative counts from the end)."""
        return self.order.index(axis % self.rank) - 1

    def relabelled(self, perm: Sequence[int]) -> Tensor:
        """The value behind an ONNX Transpose: output axis i is input axis perm[i]."""
        return replace(self, order=tuple(list(perm).index(axis) for axis in self.order))


@dataclass(frozen=True)
class Rows:
    """An ONNX value one axis of which counts samples times something: that of ``tensor`` with
    ``count`` neighbouring ONNX axes from ``start`` on written as one. One of them counts samples.

    So (n, t, c) reshaped to (n*t, c) stays (n, t, c) in the graph, as long as what computes with it
    looks at each row alone.
    """

    tensor: Tensor
    start: int
    count: int

    @property
    def rank(self) -> int:
        """Number of axes of the ONNX value."""
        return self.tensor.rank - self.count + 1

    def sizes(self, batch: int) -> list[int]:
        """Sizes of the ONNX value for a number of samples."""
        sizes = [batch if size is None else size for size in self.tensor.onnx_shape]
        end = self.start + self.count
        return [*sizes[: self.start], math.prod(sizes[self.start : end]), *sizes[end:]]

    def __str__(self) -> str:
        axes = range(self.start, self.start + self.count)
        others = [str(axis) for axis in axes if axis != self.tensor.batch_axis]
        what = f"axis {others[0]}" if len(others) == 1 else f"the axes {' and '.join(others)}"
        sizes = self.tensor.onnx_shape
        return f"the samples and {what} of {sizes} (None counts samples) as one axis"

    def inner_axis(self, axis: int) -> int:
        """The ONNX axis of ``tensor`` that an axis other than the merged one is."""
        axis %= self.rank
        return axis if axis < self.start else axis + self.count - 1

    def alike(self, other: Tensor | Rows) -> bool:
        """Whether another value is of the same rank and merges axes of the same sizes."""
        if not isinstance(other, Rows):
            return False
        end = self.start + self.count
        mine, others = self.tensor.onnx_shape, other.tensor.onnx_shape
        same = (self.start, self.count, len(mine)) == (other.start, other.count, len(others))
        return same and mine[self.start : end] == others[self.start : end]


def natural_order(rank: int) -> Order:
    """Channels last for a picture, as in ONNX for everything else."""
    return PICTURE if rank == 4 else tuple(range(rank))


def steps_to(tensor: Tensor, order: Order) -> tuple[str, tuple[int, ...]] | None:
    """How ``tensor`` gets into ``order``: ("reshape", shape) or ("permute", dims); None if it is.

    Moving only axes of size 1 moves no data, which a reshape says.
    """
    if tensor.order == order:
        return None
    dims = tuple(tensor.order.index(axis) - 1 for axis in order[1:])
    shape = tuple(tensor.shape[dim] for dim in dims)
    moved = [dim for dim in dims if tensor.shape[dim] != 1]
    return ("reshape", shape) if moved == sorted(moved) else ("permute", dims)


@dataclass(frozen=True)
class Reshaping:
    """A reshape in terms of our axes.

    dims: permutation of the axes needed first, or None; shape, order: of the result; folded: set
    where flattening without the permutation leaves the features in another order.
    """

    dims: tuple[int, ...] | None
    shape: Sizes
    order: Order
    folded: Folded | None


def plan_reshape(shape: Sizes, order: Order, target: Sizes) -> Reshaping:
    """How (n, *sizes) in ONNX order becomes (n, *target) in ONNX order, batch first in both.

    shape, order: ours, ``order`` without the batch (ONNX axes from 1). The ONNX axes that are
    merged or split together must lie next to each other, in order; other axes may lie anywhere.
    """
    sizes = dict(zip(order, shape, strict=True))
    groups = _groups([sizes[axis] for axis in range(1, len(order) + 1)], list(target))
    current = [axis for axis in order if sizes[axis] != 1]
    # Groups in the order in which their first axis comes in our value.
    ordered = sorted(groups, key=lambda group: current.index(group[0][0]))
    wanted = [axis for inputs, _ in ordered for axis in inputs]
    result = [axis for _, outputs in ordered for axis in outputs]
    full = _with_ones(result, target)
    out_shape = tuple(target[axis - 1] for axis in full)
    if wanted == current:
        return Reshaping(None, out_shape, (0, *full), None)
    ones = [axis for axis in order if sizes[axis] == 1]
    dims = tuple(order.index(axis) for axis in [*wanted, *ones])
    if len(target) == 1:
        onnx_dims = tuple(order.index(axis) for axis in range(1, len(order) + 1))
        return Reshaping(None, out_shape, (0, 1), Folded(shape, onnx_dims))
    return Reshaping(dims, out_shape, (0, *full), None)


def _groups(source: list[int], target: list[int]) -> list[tuple[list[int], list[int]]]:
    """Smallest sets of neighbouring axes (from 1, sizes above 1) with equal products."""
    left = [(axis, size) for axis, size in enumerate(source, 1) if size != 1]
    right = [(axis, size) for axis, size in enumerate(target, 1) if size != 1]
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(left) or j < len(right):
        inputs, outputs = [left[i][0]], [right[j][0]]
        a, b = left[i][1], right[j][1]
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                inputs.append(left[i][0])
                a, i = a * left[i][1], i + 1
            else:
                outputs.append(right[j][0])
                b, j = b * right[j][1], j + 1
        groups.append((inputs, outputs))
    return groups


def _with_ones(axes: list[int], target: Sizes) -> list[int]:
    """All axes of ``target``, ``axes`` in their order among them; channels last if possible."""
    if not target:
        return []
    rank = len(target) + 1
    candidates = [natural_order(rank)[1:], tuple(range(1, rank))]
    if rank == 3:
        candidates.append(SEQUENCE[1:])
    fitting = [c for c in candidates if [axis for axis in c if axis in axes] == axes]
    for candidate in fitting:
        if target[candidate[-1] - 1] != 1:
            return list(candidate)
    if fitting:
        return list(fitting[0])
    result = list(axes)
    for axis in range(1, rank):
        if axis not in result:
            result.insert(result.index(axis - 1) + 1 if axis - 1 in result else 0, axis)
    return result
