"""Dilated convolutions without dilation: the zeros between the taps stand in the kernel.

The sums are the same, for more products. Keras has no Conv2D and no Conv2DTranspose with strides
and dilation at once, and TensorFlow's kernels for CPUs refuse a dilated Conv2DTranspose that is not
compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph import Graph, Node


def spread_kernel(kernel: NDArray[Any], dilation: Sequence[int]) -> NDArray[Any]:
    """A kernel (kh, kw, ...) with dilation - 1 zeros between its taps."""
    down, across = dilation
    size = ((kernel.shape[0] - 1) * down + 1, (kernel.shape[1] - 1) * across + 1)
    spread = np.zeros((*size, *kernel.shape[2:]), kernel.dtype)
    spread[::down, ::across] = kernel
    return spread


def with_spread_kernels(graph: Graph) -> Graph:
    """The same network, in which no Conv2DTranspose has a dilation."""
    return graph.with_nodes(_spread(node) for node in graph)


def _spread(node: Node) -> Node:
    if node.kind != "conv2d_transpose" or tuple(node.attrs["dilation"]) == (1, 1):
        return node
    kernel = spread_kernel(node.weights["kernel"], node.attrs["dilation"])
    return node.with_attrs(dilation=(1, 1)).with_weights(kernel=kernel)
