"""What an accumulator can reach: exact bounds, computed from the actual integer weights.

For each output channel, with x in [lo, hi] per input channel and integer weights w,

    min acc = sum(w+ * lo) + sum(w- * hi) + bias,   max acc = sum(w+ * hi) + sum(w- * lo) + bias (1)
    every partial sum, in any order, is at most   sum(|w| * max|x|) + |bias|   in magnitude      (2)

where w+ and w- are the positive and the negative weights. (1) is reached by some input, so a
narrower accumulator would overflow for it. (2) is what a floating-point carrier must hold: below
2**24 every partial sum is a float32, below 2**53 a float64, so any order of summation (also with
fused multiply-adds) gives the exact integer. Transforms that sum other numbers than these products
(Winograd, FFT) are not covered and must not carry integers.

Bounds are Python integers in object arrays, since a bound that itself overflowed would prove
nothing: an interval can be of any size, and `carrier` is the one place that judges it. Their shape
is (channels,), or () where one bound serves all, or anything broadcastable for element-wise layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import AccumulatorTooWide, QuantizationError
from .formats import Format
from .rounding import Ints, as_int64

FLOAT32_EXACT = 2**24
FLOAT64_EXACT = 2**53
INT64_SAFE = 2**62

Carrier = Literal["float32", "float64"]
PyInts = NDArray[np.object_]
T = TypeVar("T", np.int64, np.object_)


@dataclass(frozen=True, eq=False)
class Interval:
    """Integers between lo and hi, both inclusive, of one shape.

    Attributes:
        lo: the smallest ones, exact Python integers.
        hi: the largest ones.
        partial: >= max(|lo|, |hi|), bounds the magnitude of what is formed on the way (equation 2).

    Raises:
        QuantizationError: where lo > hi.
    """

    lo: PyInts
    hi: PyInts
    partial: PyInts

    def __init__(self, lo: ArrayLike, hi: ArrayLike, partial: ArrayLike = 0) -> None:
        """Limits broadcast together. Raises QuantizationError where lo > hi."""
        low, high, formed = np.broadcast_arrays(_exact(lo), _exact(hi), _exact(partial))
        if (low > high).any():
            raise QuantizationError(f"empty interval: [{low}, {high}]")
        object.__setattr__(self, "lo", low)
        object.__setattr__(self, "hi", high)
        object.__setattr__(self, "partial", _larger(formed, self.largest))

    @classmethod
    def of_format(cls, fmt: Format) -> Interval:
        """Take all integers of a format; `shifted` makes it one interval per channel.

        Args:
            fmt: the format.

        Returns:
            qmin .. qmax.
        """
        return cls(fmt.qmin, fmt.qmax)

    @property
    def largest(self) -> PyInts:
        """The largest magnitude, max(|lo|, |hi|)."""
        return _larger(abs(self.lo), abs(self.hi))

    @property
    def rows(self) -> tuple[PyInts, PyInts, PyInts]:
        """What sums are made of: minimum, maximum and magnitude."""
        return self.lo, self.hi, self.largest

    def contains(self, values: ArrayLike) -> bool:
        """Whether all of some integers lie inside.

        Args:
            values: integers (..., channels).

        Returns:
            True if they do.
        """
        integers = as_int64(values)
        return bool(((integers >= self.lo) & (integers <= self.hi)).all())

    def including(self, values: ArrayLike) -> Interval:
        """Widen the interval to hold other integers too.

        Args:
            values: e.g. a padding value (channels,).

        Returns:
            The wider interval.
        """
        return Interval(_smaller(self.lo, values), _larger(self.hi, values))

    def shifted(self, shifts: ArrayLike | None) -> Interval:
        """Follow the exact left shift that aligns channels.

        Args:
            shifts: >= 0, () or (channels,); None does nothing.

        Returns:
            The interval behind it.
        """
        if shifts is None:
            return self
        left = _exact(shifts)
        return Interval(self.lo << left, self.hi << left)

    def plus(self, bias: ArrayLike, shift: ArrayLike | None) -> Interval:
        """Follow the addition of ``bias << shift``, whenever it may be added.

        Args:
            bias: integers, (channels,).
            shift: >= 0, likewise; None for 0.

        Returns:
            The interval behind it.
        """
        added = _exact(bias) << _exact(0 if shift is None else shift)
        return Interval(self.lo + added, self.hi + added, self.partial + abs(added))

    def relu(self, max_value: ArrayLike | None = None) -> Interval:
        """Follow the clip to 0 .. max_value.

        Args:
            max_value: integers, () or (channels,); None: no upper limit.

        Returns:
            The interval behind it.
        """
        low, high = _larger(self.lo, 0), _larger(self.hi, 0)
        if max_value is None:
            return Interval(low, high)
        return Interval(_smaller(low, max_value), _smaller(high, max_value))

    def times(self, scale: ArrayLike) -> Interval:
        """Follow a multiplication, as of a rescale before it shifts, or of sums over many elements.

        Args:
            scale: integers >= 0, () or (channels,).

        Returns:
            The interval behind it.

        Raises:
            QuantizationError: for a negative scale.
        """
        factor = _exact(scale)
        if (factor < 0).any():
            raise QuantizationError("scales are not negative")
        return Interval(self.lo * factor, self.hi * factor)

    def rescaled(self, scale: ArrayLike, shift: ArrayLike, qmin: int, qmax: int) -> Interval:
        """Follow saturate((x * scale + 2**(shift-1)) >> shift): the rescale is monotonic.

        Args:
            scale: integers >= 0, () or (channels,).
            shift: likewise, of either sign.
            qmin: what it saturates to from below.
            qmax: and from above.

        Returns:
            The interval behind it.

        Raises:
            QuantizationError: for a negative scale.
        """
        product, count = self.times(scale), _exact(shift)
        right, left = _larger(count, 0), _larger(-count, 0)
        # Half of the step that is cut; nothing where nothing is cut.
        half = (1 << right) >> 1
        ends = [((end << left) + half) >> right for end in (product.lo, product.hi)]
        low, high = (_smaller(_larger(end, qmin), qmax) for end in ends)
        return Interval(low, high)


def conv_interval(
    x: Interval, weights: ArrayLike, *, groups: int = 1, pad_value: ArrayLike | None = None
) -> Interval:
    """Sums (out,) of a convolution; weights (kh, kw, in / groups, out) integers.

    x: aligned inputs, (in,) or (). pad_value: (in,) or one number that padded positions hold;
    pass 0 for zero padding, None if nothing is padded.
    """
    kernel = as_int64(weights, "weights")
    depth, out = kernel.shape[2], kernel.shape[3] // groups
    inputs = _inputs(x, depth * groups, pad_value)
    plus, minus = _signed_sums(kernel)
    parts = [
        _products(
            inputs[:, g * depth : (g + 1) * depth],
            plus[:, g * out : (g + 1) * out],
            minus[:, g * out : (g + 1) * out],
        )
        for g in range(groups)
    ]
    return Interval(*np.concatenate(parts, axis=1))


def depthwise_interval(
    x: Interval, weights: ArrayLike, *, pad_value: ArrayLike | None = None
) -> Interval:
    """Sums (in * multiplier,) of a depthwise convolution; weights (kh, kw, in, multiplier)
    integers, the rest as in `conv_interval`.
    """
    kernel = as_int64(weights, "weights")
    channels, multiplier = kernel.shape[2:]
    low, high, largest = np.repeat(_inputs(x, channels, pad_value), multiplier, axis=1)
    plus, minus = (part.reshape(-1).astype(object) for part in _signed_sums(kernel))
    return Interval(plus * low + minus * high, plus * high + minus * low, (plus - minus) * largest)


def elementwise_interval(kind: str, x: Interval, y: Interval) -> Interval:
    """``x + y``, ``x - y``, ``x * y``, the larger or the smaller of two tensors that know nothing
    of each other; shapes broadcast.

    kind: "add", "subtract", "multiply", "maximum" or "minimum".
    """
    if kind == "add":
        return Interval(x.lo + y.lo, x.hi + y.hi, x.partial + y.partial)
    if kind == "subtract":
        return Interval(x.lo - y.hi, x.hi - y.lo)
    if kind == "multiply":
        corners = [a * b for a in (x.lo, x.hi) for b in (y.lo, y.hi)]
        return Interval(reduce(_smaller, corners), reduce(_larger, corners))
    pick = {"maximum": _larger, "minimum": _smaller}[kind]
    return Interval(pick(x.lo, y.lo), pick(x.hi, y.hi))


def cover_intervals(xs: Sequence[Interval]) -> Interval:
    """The smallest interval around those of all alternatives, element by element."""
    return Interval(
        reduce(_smaller, (x.lo for x in xs)),
        reduce(_larger, (x.hi for x in xs)),
        reduce(_larger, (x.partial for x in xs)),
    )


def join_intervals(xs: Sequence[Interval], channels: Sequence[int]) -> Interval:
    """Intervals of a concatenation along the channels; channels[i] of tensor i."""
    columns = [
        np.stack([np.broadcast_to(row, (n,)) for row in x.rows])
        for x, n in zip(xs, channels, strict=True)
    ]
    return Interval(*np.concatenate(columns, axis=1))


# -- verdicts ---------------------------------------------------------------------------------


def carrier(bound: Interval | int, layer: str) -> Carrier:
    """Choose the narrowest float type in which sums are exact.

    Args:
        bound: the largest magnitude that they reach; of an interval: that of its partial sums.
        layer: its name, for the message.

    Returns:
        "float32" below 2**24, "float64" below 2**53.

    Raises:
        AccumulatorTooWide: naming the layer, from 2**53 on.
    """
    peak = _peak(bound.partial) if isinstance(bound, Interval) else bound
    if peak < FLOAT32_EXACT:
        return "float32"
    if peak < FLOAT64_EXACT:
        return "float64"
    raise AccumulatorTooWide(
        f"layer {layer!r}: sums reach {peak:.3g}, which takes {peak.bit_length() + 1} bits and no "
        "float carries exactly; use fewer weight or activation bits, or per-tensor activations, "
        "or leave the layer float (float_layers)"
    )


def bits_needed(x: Interval) -> NDArray[np.int64]:
    """Count the bits of the narrowest two's complement integer that holds an interval.

    Args:
        x: the interval, per channel.

    Returns:
        Bits, sign included, of the same shape.
    """
    # A negative number -v needs as many bits as v - 1, which is ~(-v).
    ends = _larger(_larger(x.lo, ~x.lo), _larger(x.hi, ~x.hi))
    lengths = [int(end).bit_length() + 1 for end in ends.flat]
    return np.array(lengths, dtype=np.int64).reshape(ends.shape)


# -- exact sums -------------------------------------------------------------------------------


def _inputs(x: Interval, channels: int, pad_value: ArrayLike | None) -> PyInts:
    """(3, channels): minimum, maximum and magnitude of each input, padding included."""
    each = x if pad_value is None else x.including(pad_value)
    if each.lo.shape not in ((), (1,), (channels,)):
        raise QuantizationError(
            f"intervals of shape {each.lo.shape} for weights of {channels} input channels"
        )
    return np.stack([np.broadcast_to(row, (channels,)) for row in each.rows])


def _signed_sums(kernel: Ints) -> tuple[Ints, Ints]:
    """Sums of the positive and of the negative weights over the first two axes."""
    if _peak(kernel) * kernel.size >= INT64_SAFE:
        raise QuantizationError("weights are far beyond 16 bits; quantize them first")
    return np.maximum(kernel, 0).sum(axis=(0, 1)), np.minimum(kernel, 0).sum(axis=(0, 1))


def _products(inputs: PyInts, plus: Ints, minus: Ints) -> PyInts:
    """(3, out) of sum(w * x) over `in`: inputs (3, in), plus and minus (in, out)."""
    # int64 is much faster than Python integers, and exact where all of (2) together fits.
    if _peak(plus - minus) * _peak(inputs) * max(1, plus.shape[0]) < INT64_SAFE:
        return _combine(inputs.astype(np.int64), plus, minus).astype(object)
    return _combine(inputs, plus.astype(object), minus.astype(object))


def _combine(inputs: NDArray[T], plus: NDArray[T], minus: NDArray[T]) -> NDArray[T]:
    """Equations (1) and (2) without the bias."""
    low, high, largest = inputs
    return np.stack(
        [low @ plus + high @ minus, high @ plus + low @ minus, largest @ (plus - minus)]
    )


def _exact(values: ArrayLike) -> PyInts:
    """Integers as Python integers. Raises TypeError for anything else."""
    array = np.asarray(values)
    if array.dtype.kind not in "iubO":
        raise TypeError(f"bounds are integers, not {array.dtype}")
    return array.astype(object)


def _smaller(a: ArrayLike, b: ArrayLike) -> PyInts:
    """Element-wise minimum in Python integers; NumPy alone would take a single one as int64."""
    return np.asarray(np.minimum(_exact(a), _exact(b), dtype=object), dtype=object)


def _larger(a: ArrayLike, b: ArrayLike) -> PyInts:
    """Element-wise maximum in Python integers."""
    return np.asarray(np.maximum(_exact(a), _exact(b), dtype=object), dtype=object)


def _peak(values: NDArray[np.generic]) -> int:
    """The largest magnitude as a Python integer; 0 if there are none."""
    return max(abs(int(values.min())), abs(int(values.max()))) if values.size else 0
