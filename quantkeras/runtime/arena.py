"""Places for tensors in one piece of memory, used again when a tensor is no longer needed.

Finding the smallest memory is hard (it is the dynamic storage allocation problem). First fit with
the largest first is what small runtimes do, and mostly reaches the bound below which it cannot
fall: what is alive at one time. Other orders are tried where it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .schedule import Block, most_alive


class Arena(NamedTuple):
    """offsets: of each block, in order; size: of the memory that holds them all."""

    offsets: list[int]
    size: int


Order = Callable[[Block], tuple[int, ...]]

_ORDERS: tuple[Order, ...] = (
    lambda block: (-block.size, block.first),
    lambda block: (block.first - block.last, -block.size),
    lambda block: (-block.size * (block.last - block.first + 1), block.first),
    lambda block: (block.first, -block.size),
)
"""The largest, the longest, the largest by size and time, the earliest first."""


def place(blocks: Sequence[Block], alignment: int = 1) -> Arena:
    """Offsets of blocks of memory: those that are needed at one time never overlap.

    alignment: offsets are multiples of it, and the size is.
    """
    padded = [block._replace(size=-(-block.size // alignment) * alignment) for block in blocks]
    least, _ = most_alive(padded)
    best: Arena | None = None
    for order in _ORDERS:
        found = _first_fit(padded, sorted(range(len(padded)), key=lambda i: order(padded[i])))
        if best is None or found.size < best.size:
            best = found
        if best.size == least:
            break
    assert best is not None
    return best


def _first_fit(blocks: Sequence[Block], order: Sequence[int]) -> Arena:
    """Each block in turn as low as those that are there already allow."""
    offsets = [0] * len(blocks)
    placed: list[int] = []
    for index in order:
        block, offset = blocks[index], 0
        for other in sorted((i for i in placed if blocks[i].meets(block)), key=offsets.__getitem__):
            if offset + block.size <= offsets[other]:
                break
            offset = max(offset, offsets[other] + blocks[other].size)
        offsets[index] = offset
        placed.append(index)
    ends = (offset + block.size for offset, block in zip(offsets, blocks, strict=True))
    return Arena(offsets, max(ends, default=0))
