"""Convolutions and matrix products of integers of any width, from those of bytes.

ONNX multiplies bytes: ConvInteger and MatMulInteger take 8-bit operands, each with a zero point
that is subtracted first, and sum in 32 bits. Wider numbers are written in digits of a byte,

    x = sum over i of (u[i] - z[i]) * 256**i,    w = sum over j of v[j] * base**j

so that their product is a sum of products of bytes, shifted. Padding is done with the zero point
and thus stands for 0.

The operands are always unsigned, with the zero point 128 for the weights: processors without an
instruction for sums of four byte products multiply unsigned by signed bytes with sums that
saturate at 16 bits, and the results would be wrong there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...errors import AccumulatorTooWide
from ..layer_builder import LayerBuilder, Tensor

Ints = npt.NDArray[np.int64]

INT32_LIMIT = 2**31
BYTE = 255
"""The largest magnitude of a digit of the data minus its zero point."""
WEIGHT_ZERO = 128

Product = Callable[[list[str]], str]
"""Adds the operator for [data, weights, zero point of data, zero point of weights]."""


class Digit(NamedTuple):
    """A byte of the data: (tensor - zero) * 256**position."""

    tensor: str
    dtype: npt.DTypeLike
    zero: int
    position: int


def emit_product(
    builder: LayerBuilder,
    x: Tensor,
    weights: npt.ArrayLike,
    outputs: int,
    layer: str,
    dtype: npt.DTypeLike,
    product: Product,
) -> str:
    """Name of the exact product of x with integer weights, in the type ``dtype`` that holds it.

    weights: as the operator takes them; outputs: the axis of their output channels. Raises
    AccumulatorTooWide where even the sums of the smallest digits leave 32 bits.
    """
    data = data_digits(builder, x)
    bits, parts = _weight_digits(np.asarray(weights, np.int64), outputs, layer)
    bounds = [_reach(part, outputs) for part in parts]
    together = sum(
        bound << (8 * digit.position + bits * j) for digit in data for j, bound in enumerate(bounds)
    )
    alone = len(data) == len(parts) == 1
    wide = np.int32 if alone or together < INT32_LIMIT else np.int64
    total = ""
    for digit in data:
        for j, part in enumerate(parts):
            zeros = [
                builder.constant(digit.zero, digit.dtype),
                builder.constant(WEIGHT_ZERO, np.uint8),
            ]
            kernel = builder.constant(part + WEIGHT_ZERO, np.uint8)
            term = Tensor(product([digit.tensor, kernel, *zeros]), np.int32, ())
            term = builder.cast(term, wide)
            power = 8 * digit.position + bits * j
            if power:
                term = builder.operate("Mul", term, 1 << power)
            total = builder.node("Add", [total, term.name]) if total else term.name
    return builder.cast(Tensor(total, wide, ()), dtype).name


def data_digits(builder: LayerBuilder, x: Tensor) -> list[Digit]:
    """The bytes of a tensor of integers within x.low .. x.high."""
    if x.dtype == np.uint8:
        return [Digit(x.name, x.dtype, 0, 0)]
    zero = max(0, -x.low)
    if x.dtype == np.int8:
        x = builder.cast(x, np.int32)
    # The zero itself is among the numbers: padding holds it.
    count = max(1, ((max(x.high, 0) + zero).bit_length() + 7) // 8)
    moved = builder.operate("Add", x, zero) if zero else x
    digits = []
    for i in range(count):
        part = builder.operate("Div", moved, 256**i) if i else moved
        # A cast to fewer bits keeps the lower ones.
        name = builder.cast(part, np.uint8).name
        digits.append(Digit(name, np.uint8, zero >> (8 * i) & BYTE, i))
    return digits


def _weight_digits(weights: Ints, outputs: int, layer: str) -> tuple[int, list[Ints]]:
    """Bits per digit and the digits, lowest first: the widest whose sums fit 32 bits."""
    for bits in range(8, 1, -1):
        parts = split_digits(weights, bits)
        if all(_reach(part, outputs) < INT32_LIMIT for part in parts):
            return bits, parts
    raise AccumulatorTooWide(
        f"layer {layer!r}: {weights.size} weights add up to more than 32 bits for ONNX; "
        "use fewer inputs"
    )


def split_digits(weights: Ints, bits: int) -> list[Ints]:
    """Digits d in -2**(bits-1) .. 2**(bits-1) - 1 with weights = sum of d[j] * 2**(bits * j)."""
    half, rest = 1 << (bits - 1), weights
    parts: list[Ints] = []
    while rest.any() or not parts:
        digit = ((rest + half) & ((1 << bits) - 1)) - half
        parts.append(digit)
        rest = (rest - digit) >> bits
    return parts


def _reach(part: Ints, outputs: int) -> int:
    """Bounds the magnitude of every sum of products with one digit of the weights."""
    others: Any = tuple(axis for axis in range(part.ndim) if axis != outputs % part.ndim)
    return BYTE * int(abs(part).sum(axis=others).max(initial=0))
