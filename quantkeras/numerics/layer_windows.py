"""Sliding windows over height and width: of kernels and of pools."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sanitize.shapes import Pads as Pads
from sanitize.shapes import span, window_pads, window_places

from ..errors import QuantizationError

NO_PADS: Pads = ((0, 0), (0, 0))

LARGEST_STEP = 2**20
"""Rows or columns of the largest window, and between its places."""


class Phase(NamedTuple):
    """Every s-th output position along one axis of a transposed convolution of stride s.

    They all see input pixels through the same taps of the kernel, so that they are a convolution
    of their own. first: the first such position; taps: those of the kernel, maybe none; start: the
    input pixel under the first tap at `first`; neighbours in tap or position are one pixel apart.
    """

    first: int
    taps: slice
    start: int


@dataclass(frozen=True)
class Window:
    """A sliding window over height and width: of a kernel or of a pool.

    Attributes:
        size: (rows, columns).
        strides: of the output positions.
        padding: ``"same"`` and ``"valid"`` as TensorFlow defines them, or explicit
            ``((top, bottom), (left, right))``.
        dilation: distance of neighbouring elements of the window.
        input_dilation: distance of neighbouring input pixels, with zeros between them: a transposed
            convolution of stride s is a convolution of stride 1 by the flipped kernel, with
            input_dilation s and explicit padding around the widened input (``"same"`` would not say
            of which input).

    Raises:
        QuantizationError: for sizes, strides and dilations below 1 or far too large, and paddings
            that are none of these.
    """

    size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: str | Pads = "valid"
    dilation: tuple[int, int] = (1, 1)
    input_dilation: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        steps = (*self.size, *self.strides, *self.dilation, *self.input_dilation)
        if min(steps) < 1 or max(steps) > LARGEST_STEP:
            raise QuantizationError(
                f"no window has the size {self.size}, strides {self.strides}, dilation "
                f"{self.dilation} and input dilation {self.input_dilation}; they are from 1 to "
                f"{LARGEST_STEP}"
            )
        if isinstance(self.padding, str):
            fits = self.padding == "valid" or (
                self.padding == "same" and self.input_dilation == (1, 1)
            )
        else:
            fits = all(pad >= 0 for pads in self.padding for pad in pads)
        if not fits:
            raise QuantizationError(
                f"no window has the padding {self.padding!r} and input dilation "
                f"{self.input_dilation}; padding is 'valid', numbers >= 0, or 'same' where the "
                "input is not dilated"
            )

    @property
    def area(self) -> int:
        """Number of elements under the window."""
        return self.size[0] * self.size[1]

    def extent(self, axis: int) -> int:
        """Tell how much of the input the dilated window spans.

        Args:
            axis: 0 for rows, 1 for columns.

        Returns:
            Rows or columns.
        """
        return span(self.size[axis], self.dilation[axis])

    def pads(self, height_width: Sequence[int]) -> Pads:
        """Work out the explicit padding.

        Args:
            height_width: size of the input.

        Returns:
            ``((top, bottom), (left, right))``.
        """
        pads = window_pads(self.padding, height_width, self.size, self.strides, self.dilation)
        assert pads is not None
        return pads

    def output_size(self, height_width: Sequence[int]) -> tuple[int, int]:
        """Work out the size of the output.

        Args:
            height_width: size of the input.

        Returns:
            Height and width.
        """
        pads = self.pads(height_width)
        height, width = (
            self.places(a, self.widened(a, height_width[a]) + sum(pads[a])) for a in (0, 1)
        )
        return height, width

    def places(self, axis: int, length: int) -> int:
        """Count how often it finds place along an axis of a map that is widened and padded.

        Args:
            axis: 0 for rows, 1 for columns.
            length: of that map along it.

        Returns:
            The count of places.
        """
        size, stride, dilation = self.size[axis], self.strides[axis], self.dilation[axis]
        return window_places(length, (0, 0), size, stride, dilation)

    def widened(self, axis: int, length: int) -> int:
        """Tell how long an input is with the zeros between its pixels.

        Args:
            axis: 0 for rows, 1 for columns.
            length: without them.

        Returns:
            Rows or columns.
        """
        return (length - 1) * self.input_dilation[axis] + 1

    def tap_groups(self, axis: int) -> list[slice]:
        """Group the taps of the kernel that may see input pixels together, by the output position.

        All of them without input dilation; with it, the others see zeros meanwhile.

        Args:
            axis: 0 for rows, 1 for columns.

        Returns:
            The taps of each group.
        """
        stride = self.input_dilation[axis]
        shared = math.gcd(stride, self.dilation[axis])
        groups = [slice(i, None, stride // shared) for i in range(stride // shared)]
        return groups if shared == 1 else [*groups, slice(0, 0)]

    def phases(self, axis: int, length: int) -> list[Phase]:
        """Group output positions by which taps see the input.

        For stride and dilation 1, as transposed convolutions have them.

        Args:
            axis: 0 for rows, 1 for columns.
            length: pixels of the input along it.

        Returns:
            One entry for each remainder of the position by the stride.
        """
        stride, before = self.input_dilation[axis], self.pads((length, length))[axis][0]
        count = self.output_size((length, length))[axis]
        firsts = [(first, (before - first) % stride) for first in range(min(stride, count))]
        return [
            Phase(first, slice(tap, None, stride), (first + tap - before) // stride)
            for first, tap in firsts
        ]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Window:
        """Build from the plain lists and whole numbers of a JSON file.

        Args:
            config: the fields; those that are missing are at their default.

        Returns:
            The window.

        Raises:
            TypeError: for sizes that are no whole numbers.
        """
        padding = config.get("padding", "valid")
        if not isinstance(padding, str):
            (top, bottom), (left, right) = padding
            padding = ((index(top), index(bottom)), (index(left), index(right)))
        pair = {
            name: (index(config[name][0]), index(config[name][1]))
            for name in ("size", "strides", "dilation", "input_dilation")
            if name in config
        }
        return cls(padding=padding, **pair)


@dataclass(frozen=True)
class Pool:
    """Pooling inside a hardware layer.

    Padding never takes part. An average is a sum whose divisor :meth:`area` belongs to the rescale.
    At a padded border fewer elements are under the window; there the sum is first multiplied by an
    integer, see :meth:`border_factors`.

    Attributes:
        kind: ``"max"``, ``"average"`` or ``"global_average"``.
        window: None for the global kind.
        keepdims: of the global kind: keep rows and columns, one each.
    """

    kind: str
    window: Window | None = None
    keepdims: bool = False

    def area(self, height_width: Sequence[int]) -> int:
        """Tell by what the sums of an average must be divided.

        Args:
            height_width: size of the map.

        Returns:
            The number of elements under the window, or the least common multiple of these numbers
            where they differ.
        """
        if self.window is None:
            return height_width[0] * height_width[1]
        return math.lcm(*np.unique(self._divisors(height_width)).tolist())

    def border_factors(self, height_width: Sequence[int]) -> npt.NDArray[np.int64] | None:
        """Work out ``area / elements under the window`` per position.

        Args:
            height_width: size of the map.

        Returns:
            The factors, (oh, ow, 1); None if all are 1.
        """
        if self.window is None or self.window.pads(height_width) == NO_PADS:
            return None
        return (self.area(height_width) // self._divisors(height_width))[..., None]

    def counts(self, height_width: Sequence[int]) -> npt.NDArray[np.int64]:
        """Count the elements of a map that are under the window.

        Args:
            height_width: size of the map.

        Returns:
            The counts per position, (oh, ow).
        """
        if self.window is None:
            return np.full((1, 1), math.prod(height_width))
        window, pads = self.window, self.window.pads(height_width)
        lines = []
        for axis, length in enumerate(window.output_size(height_width)):
            first = np.arange(length) * window.strides[axis] - pads[axis][0]
            # Taps below the end of the map, less those before its start.
            step, most = window.dilation[axis], window.size[axis]
            below_end, before = (-(-(end - first) // step) for end in (height_width[axis], 0))
            lines.append(np.clip(below_end, 0, most) - np.clip(before, 0, most))
        return np.asarray(lines[0][:, None] * lines[1], np.int64)

    def _divisors(self, height_width: Sequence[int]) -> npt.NDArray[np.int64]:
        return np.maximum(self.counts(height_width), 1)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Pool:
        """Build from the plain lists and numbers of a JSON file.

        Args:
            config: the fields.

        Returns:
            The pool.

        Raises:
            KeyError: without a kind.
            TypeError: for sizes that are no whole numbers.
        """
        window = config.get("window")
        return cls(
            config["kind"],
            None if window is None else Window.from_config(window),
            bool(config.get("keepdims", False)),
        )
