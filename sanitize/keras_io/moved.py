"""Values whose samples are not along the first axis alone: (t, n, c), or (n, t, c) as (n*t, c).

The graph counts samples along the first axis. What moves them in the model moves nothing in the
graph: a :class:`Moved` tells which axes of the graph's value each axis of the model's tensor is.
What looks at each row alone is read on the value with its axes apart, samples first, and when the
model has brought the samples back, the value is an ordinary one again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
from numpy.typing import NDArray

from ..shapes import Shape
from .opaque_layers import operation_layer

Array = NDArray[Any]
Group = tuple[int, ...]
#: Sizes of all axes, None for one that counts samples, alone or times something.
Sizes = Sequence[int | None]


@dataclass(frozen=True)
class Moved:
    """A tensor of the model as a value of the graph.

    value: of the graph; shape: its unbatched sizes, all known. axes: for each axis of the model's
    tensor the axes of the value that it is made of, in order; 0 counts samples. batch: their
    number, None for any.
    """

    value: str
    shape: tuple[int, ...]
    axes: tuple[Group, ...]
    batch: int | None = None

    @property
    def rows(self) -> int:
        """The axis of the model's tensor that counts samples, alone or times something."""
        return next(place for place, group in enumerate(self.axes) if 0 in group)

    @property
    def ordinary(self) -> bool:
        """Whether the samples are along the first axis alone."""
        return bool(self.axes) and [axis for axis in self.axes[0] if self.size(axis) != 1] == [0]

    @property
    def sizes(self) -> tuple[int | None, ...]:
        """Sizes of the model's tensor, None for ``rows``."""
        return tuple(
            None if 0 in group else math.prod(self.shape[axis - 1] for axis in group)
            for group in self.axes
        )

    def size(self, axis: int) -> int | None:
        """Size of an axis of the value, None for the samples."""
        return self.shape[axis - 1] if axis else None

    def transposed(self, order: Sequence[int]) -> Moved:
        """The tensor with its axes in another order."""
        return replace(self, axes=tuple(self.axes[axis] for axis in order))

    def apart(self) -> tuple[tuple[int, ...], Moved]:
        """(order of our unbatched axes, what the value is then): in the order of the model.

        The axes that samples are counted with stay apart, the others are as in the model.
        """
        order = [axis for group in self.axes for axis in group if axis]
        axes: list[Group] = []
        shape: list[int] = []
        for group in self.axes:
            if 0 in group:
                numbers = iter(range(len(shape) + 1, len(shape) + len(group)))
                axes.append(tuple(next(numbers) if axis else 0 for axis in group))
                shape += [self.shape[axis - 1] for axis in group if axis]
            else:
                shape.append(math.prod(self.shape[axis - 1] for axis in group))
                axes.append((len(shape),))
        return tuple(axis - 1 for axis in order), replace(
            self, shape=tuple(shape), axes=tuple(axes)
        )

    def reshaped(self, target: Sizes) -> Moved | None:
        """The tensor in another shape; None where samples would mix.

        target: one size is None. Where an axis of the value is split, ``shape`` is another one than
        before: a reshape of the value.
        """
        known = math.prod(size for size in target if size is not None)
        times, rest = divmod(math.prod(self.shape), max(known, 1))
        pieces = [(axis, self.size(axis)) for group in self.axes for axis in group]
        groups: list[list[tuple[int, int]]] = []
        parts: dict[int, list[int]] = {axis: [] for axis in range(len(self.shape) + 1)}
        if rest or list(target).count(None) != 1:
            return None
        for wanted in target:
            left, missing = (times, True) if wanted is None else (wanted, False)
            group: list[tuple[int, int]] = []
            while left > 1 or missing:
                axis, size = pieces.pop(0) if pieces else (0, None)
                if size is None:
                    if not missing:
                        return None
                    missing = False
                    group.append((0, 0))
                    continue
                taken = size if left % size == 0 else left
                if size % taken or (taken == 1 and size > 1):
                    return None
                left //= taken
                group.append((axis, len(parts[axis])))
                parts[axis].append(taken)
                if taken < size:
                    pieces.insert(0, (axis, size // taken))
            groups.append(group)
        if any(size != 1 for _, size in pieces):
            return None
        for axis, _ in pieces:
            groups[-1].append((axis, len(parts[axis])))
            parts[axis].append(1)
        names = [(0, 0), *((axis, i) for axis in sorted(parts) for i in range(len(parts[axis])))]
        shape = tuple(size for axis in sorted(parts) for size in parts[axis])
        axes = tuple(tuple(map(names.index, part)) for part in groups)
        return replace(self, shape=shape, axes=axes)

    def of_model(self, array: Array) -> Array:
        """An array of the model's tensor as the value of the graph has it."""
        flat = [axis for group in self.axes for axis in group]
        sizes = [self.shape[axis - 1] if axis else -1 for axis in flat]
        return array.reshape(sizes).transpose([flat.index(axis) for axis in range(len(flat))])

    def operations(self) -> list[tuple[Any, Shape, Shape]]:
        """Layers that make the model's tensor of the value, with shapes in front and behind."""
        flat = [axis for group in self.axes for axis in group]
        turned = tuple(self.size(axis) for axis in flat[1:])
        shapes: list[tuple[Shape, Shape]] = []
        steps: list[Callable[[Any], Any]] = []
        if flat != sorted(flat):
            steps.append(lambda x: keras.ops.transpose(x, flat))
            shapes.append((self.shape, turned))
        if any(len(group) != 1 for group in self.axes):
            sizes = [-1 if size is None else size for size in self.sizes]
            steps.append(lambda x: keras.ops.reshape(x, sizes))
            shapes.append((turned, self.sizes[1:]))
        return [
            (operation_layer(step, shape=before), before, after)
            for step, (before, after) in zip(steps, shapes, strict=True)
        ]

    def constant(self, array: Array) -> Array | None:
        """A constant that meets the tensor, for the value with its axes :meth:`apart`.

        None where it has other numbers for other rows.
        """
        if array.size == 1:
            return array
        if array.ndim > len(self.axes):
            return None
        array = array.reshape((1,) * (len(self.axes) - array.ndim) + array.shape)
        place = self.rows
        if array.shape[place] != 1:
            return None
        shape = array.shape
        return array.reshape(1, *shape[:place], *(1,) * (len(self.axes[place]) - 1),
                             *shape[place + 1 :])  # fmt: skip


def ordinary(value: str, shape: Sizes) -> Moved | None:
    """An ordinary value as a Moved; None where a size behind the first axis is not known."""
    sizes = tuple(size for size in shape[1:] if size)
    if len(sizes) + 1 < len(shape):
        return None
    return Moved(value, sizes, tuple((axis,) for axis in range(len(shape))), shape[0])


def with_samples(target: Sizes, moved: Moved) -> list[int | None] | None:
    """The sizes ``target`` with None for the axis that counts samples; None where it is not known.

    Of several axes of a model for a fixed number of samples the first that keeps them apart.
    """
    sizes = list(target)
    if None in sizes or moved.batch is None:
        return sizes if sizes.count(None) == 1 else None
    total = moved.batch * math.prod(moved.shape)
    for place, size in enumerate(sizes):
        rest: list[int | None] = [*sizes[:place], None, *sizes[place + 1 :]]
        others = math.prod(other for other in rest if other is not None)
        if others and size == total // others and moved.reshaped(rest) is not None:
            return rest
    return None


#: What the reader knows of a tensor: the name of an ordinary value, or a Moved.
Value = str | Moved
