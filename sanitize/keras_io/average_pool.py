"""Average pooling with explicit padding, for which Keras has no layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Node
from ..shapes import Shape


def count_correction(node: Node, shape: Shape) -> NDArray[Any] | None:
    """What to multiply the mean over a zero-padded picture by, so that padding does not count.

    node: an average pool on an input of ``shape`` (h, w, c). Returns (ho, wo, 1), the size of the
    window over the number of pixels in it; None for other nodes and where padding has a name.
    """
    padding = node.attrs["padding"] if node.kind == "avg_pool" else "valid"
    if isinstance(padding, str) or padding == ((0, 0), (0, 0)):
        return None
    counts = []
    for axis, (before, after) in enumerate(padding):
        length = shape[axis]
        if length is None:
            raise ValueError(
                f"node '{node.name}' is an average pool with explicit padding on a picture of"
                " unknown size, which Keras has no layer for; fix the size of the input"
            )
        inside = np.pad(np.ones(length), (before, after))
        size, stride = node.attrs["size"][axis], node.attrs["strides"][axis]
        windows = np.lib.stride_tricks.sliding_window_view(inside, size)[::stride]
        counts.append(size / windows.sum(axis=1))
    return np.asarray(counts[0][:, None, None] * counts[1][None, :, None])
