"""Layers with weights as matrix products: rows of inputs, and kernels as matrices.

Each output position of a convolution is one row of inputs (its window, flattened) times a matrix.
Groups of channels, and the channels of a depthwise convolution, are independent products: all
arrays here have them on the first axis, (groups, ...). How well rounded weights do is seen in
some thousand random positions as well as in all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from ..layers import WeightedLayer
from ..numerics.layer_windows import Window
from .layer_by_layer import Step

Floats = NDArray[np.float32]

CHUNK_BYTES = 32 * 2**20
"""Size of the rows that are gathered at a time."""


def groups_of(layer: WeightedLayer) -> int:
    """How many independent products a layer is."""
    spec = layer.core_spec()
    return layer._input_shapes[0][-1] if spec.kind == "depthwise_conv2d" else spec.groups


def as_matrices(layer: WeightedLayer, kernel: Any) -> NDArray[Any]:
    """A kernel in the layer's own layout as (groups, inputs, outputs of a group)."""
    core = np.asarray(ops.convert_to_numpy(layer.core_kernel(ops.convert_to_tensor(kernel))))
    groups = groups_of(layer)
    if core.ndim == 2:
        return core[None]
    depthwise = layer.core_spec().kind == "depthwise_conv2d"
    inputs = core.shape[0] * core.shape[1] * (1 if depthwise else core.shape[2])
    return core.reshape(inputs, groups, -1).transpose(1, 0, 2)


def as_kernel(layer: WeightedLayer, matrices: NDArray[Any]) -> Floats:
    """The reverse of :func:`as_matrices`."""
    core = ops.convert_to_numpy(layer.core_kernel(ops.convert_to_tensor(layer.kernel)))
    flat = matrices[0] if core.ndim == 2 else matrices.transpose(1, 0, 2)
    arranged = np.ascontiguousarray(flat.reshape(core.shape), np.float32)
    # A core kernel is flipped, or has two axes swapped, or both: done twice it is undone.
    undone = layer.core_kernel(ops.convert_to_tensor(arranged))
    return np.asarray(ops.convert_to_numpy(undone), np.float32)


def along_outputs(layer: WeightedLayer, array: Any) -> NDArray[np.float64]:
    """An array per output channel, (c,), as (groups, 1, outputs of a group)."""
    return np.asarray(ops.convert_to_numpy(array), np.float64).reshape(groups_of(layer), 1, -1)


def sampled_rows(
    step: Step, count: int, generator: np.random.Generator
) -> Iterator[tuple[Floats, Floats, slice]]:
    """Rows of inputs and the float outputs that belong to them, in pieces.

    About ``count`` positions, the same number in each sample. Yields (groups, n, inputs),
    (groups, n, outputs of a group), and which samples they are from.
    """
    layer, target = step.layer, step.target
    window = layer.core_spec().window
    samples = len(target)
    places = int(np.prod(target.shape[1:-1]))
    each = min(places, max(1, -(-count // samples)))
    row_bytes = 4 * int(np.prod(layer.kernel.shape)) // max(1, target.shape[-1]) * groups_of(layer)
    at_once = max(1, CHUNK_BYTES // max(1, row_bytes * each))
    pad_value = layer.numbers().qpad_value if layer.has_pad_value else None
    for start in range(0, samples, at_once):
        part = slice(start, min(start + at_once, samples))
        chosen = _places(generator, part.stop - part.start, places, each)
        x, y = np.asarray(step.inputs[part]), np.asarray(target[part])
        outputs = np.take_along_axis(y.reshape(len(y), places, -1), chosen[..., None], axis=1)
        if window is None:
            flat = x.reshape(len(x), places, -1)
            rows = np.take_along_axis(flat, chosen[..., None], axis=1)[:, :, None]
        else:
            rows = _windows(x, window, target.shape[2], chosen, pad_value)
        yield _grouped(layer, rows), _by_group(layer, outputs), part


def _places(
    generator: np.random.Generator, samples: int, places: int, each: int
) -> NDArray[np.int64]:
    """(samples, each) different positions of each sample."""
    if each == places:
        return np.broadcast_to(np.arange(places), (samples, places))
    order = generator.random((samples, places)).argpartition(each - 1, axis=1)
    return order[:, :each]


def _windows(
    x: Floats, window: Window, width: int, places: NDArray[np.int64], pad_value: Any
) -> Floats:
    """(samples, places, taps, channels): what the windows at these output positions see."""
    pads = window.pads(x.shape[1:3])
    sh, sw = window.input_dilation
    height_width = [window.widened(axis, x.shape[axis + 1]) for axis in (0, 1)]
    shape = (len(x), *(n + sum(p) for n, p in zip(height_width, pads, strict=True)), x.shape[3])
    padded = np.zeros(shape, np.float32)
    if pad_value is not None:
        padded += np.asarray(ops.convert_to_numpy(pad_value), np.float32)
    (top, _), (left, _) = pads
    inside = padded[:, top : top + height_width[0], left : left + height_width[1]]
    inside[:, ::sh, ::sw] = x
    rows, columns = places // width * window.strides[0], places % width * window.strides[1]
    index = np.arange(len(x))[:, None]
    taps = [
        padded[index, rows + i * window.dilation[0], columns + j * window.dilation[1]]
        for i in range(window.size[0])
        for j in range(window.size[1])
    ]
    return np.stack(taps, axis=2)


def _grouped(layer: WeightedLayer, rows: Floats) -> Floats:
    """(samples, places, taps, channels) -> (groups, n, inputs of a group)."""
    groups, taps = groups_of(layer), rows.shape[2]
    split = rows.reshape(-1, taps, groups, rows.shape[3] // groups)
    return split.transpose(2, 0, 1, 3).reshape(groups, len(split), -1)


def _by_group(layer: WeightedLayer, outputs: Floats) -> Floats:
    groups = groups_of(layer)
    return outputs.reshape(-1, groups, outputs.shape[-1] // groups).transpose(1, 0, 2)
