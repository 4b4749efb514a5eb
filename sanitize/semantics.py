"""What each node kind computes, once, in NumPy.

=================  ===========================================================================
kind               attributes, weights; meaning
=================  ===========================================================================
conv2d             strides, padding, dilation, groups; kernel (kh, kw, cin/groups, cout), [bias],
                   [pad_value (cin,)]: the value that stands in the padding, 0 unless given
depthwise_conv2d   strides, padding, dilation; kernel (kh, kw, c, m), [bias (c*m,)], [pad_value]
conv2d_transpose   strides, padding, output_padding, dilation; kernel (kh, kw, cout, cin), [bias]
dense              kernel (in, out), [bias]; works on the last axis
batchnorm          epsilon; mean, variance, [gamma], [beta]; last axis, inference statistics
affine             scale, offset: x * scale + offset, both broadcast against the unbatched shape
relu               [max_value]: clip(x, 0, max_value); max_value may be a weight per channel
activation         function and its parameters: see ``sanitize.activations``
max_pool           size, strides, padding; padding counts as minus infinity
avg_pool           size, strides, padding; padding is not counted in the mean
global_*_pool      keepdims
concat             axis
slice              slices: (start, stop, step) per axis; squeeze: axes of length 1 to drop
permute            dims: order of the unbatched axes
pad                padding ((top, bottom), (left, right)) with [value], else with zeros
upsample           size: nearest neighbour
opaque             call: a callable from a list of arrays to a list of arrays
=================  ===========================================================================

Padding is "same" (the odd element goes behind), "valid" or ((top, bottom), (left, right)). Nodes
with weights may carry a fused ``activation`` attribute: {"kind": ..., attributes of that kind}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .activations import apply_activation
from .graph import Graph, Node, producer_of
from .shapes import transpose_output, window_of, window_pads

Array = NDArray[Any]

#: What stands for minus infinity around a max pool.
LOWEST = float(np.finfo(np.float32).min)


def evaluate(
    graph: Graph,
    inputs: Mapping[str, Any] | Sequence[Any] | Array,
    keep: Literal["all"] | Iterable[str] | None = None,
    dtype: Any = np.float32,
) -> Any:
    """Run the network on a batch.

    ``inputs``: an array, a list in the order of ``graph.inputs``, or a dict by input name.
    Returns the outputs nested as the model nests them. With ``keep`` ("all", or value names) it
    returns instead a dict of these values, (n, *shape) each. ``dtype`` float32 or float64 is the
    precision of everything but opaque layers.
    """
    wanted = None if keep is None or keep == "all" else set(keep)
    last_read: dict[str, int] = {}
    for position, node in enumerate(graph.nodes):
        for value in node.inputs:
            last_read[value] = position
    values: dict[str, Array] = _named_inputs(graph, inputs, dtype)
    pinned = set(graph.outputs) | (wanted or set())
    for position, node in enumerate(graph.nodes):
        if node.kind != "input":
            results = run_node(node, [values[value] for value in node.inputs], dtype)
            for index, result in enumerate(results):
                values[node.name if index == 0 else f"{node.name}:{index}"] = result
        if keep != "all":
            for value in set(node.inputs):
                if last_read[value] == position and value not in pinned:
                    del values[value]
    if keep is None:
        return nest(graph.output_structure, [values[value] for value in graph.outputs])
    if wanted is None:
        return values
    return {value: values[value] for value in wanted}


def nest(structure: Any, leaves: Sequence[Any]) -> Any:
    """``leaves`` arranged as ``structure``, whose leaves are positions."""
    if isinstance(structure, Mapping):
        return {key: nest(part, leaves) for key, part in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)(nest(part, leaves) for part in structure)
    return leaves[structure]


def _named_inputs(graph: Graph, inputs: Any, dtype: Any) -> dict[str, Array]:
    if isinstance(inputs, Mapping):
        given = dict(inputs)
        if isinstance(graph.input_structure, Mapping) and set(given) == set(graph.input_structure):
            given = {graph.inputs[pos]: given[key] for key, pos in graph.input_structure.items()}
    elif isinstance(inputs, (list, tuple)):
        if len(inputs) != len(graph.inputs):
            raise ValueError(f"the graph has {len(graph.inputs)} inputs, {len(inputs)} given")
        given = dict(zip(graph.inputs, inputs, strict=True))
    elif len(graph.inputs) != 1:
        raise ValueError(f"the graph has inputs {graph.inputs}: pass a list or a dict")
    else:
        given = {graph.inputs[0]: inputs}
    missing = set(graph.inputs) - set(given)
    if missing:
        raise ValueError(f"no data for the inputs {sorted(missing)}")
    return {name: np.asarray(given[name]).astype(dtype, copy=False) for name in graph.inputs}


def run_node(node: Node, inputs: Sequence[Array], dtype: Any = np.float32) -> list[Array]:
    """Outputs of one node for batched ``inputs``, each (n, *shape)."""
    if node.kind == "opaque":
        results = node.attrs["call"](list(inputs))
        return [np.asarray(result).astype(dtype, copy=False) for result in results]
    weights = {key: value.astype(dtype, copy=False) for key, value in node.weights.items()}
    result = _RUN[node.kind](node.attrs, weights, list(inputs))
    fused = node.attrs.get("activation")
    if fused is not None:
        result = _RUN[fused["kind"]](fused, {}, [result])
    return [np.asarray(result, dtype)]


Run = Callable[[Mapping[str, Any], Mapping[str, Array], list[Array]], Array]


def _pad_hw(x: Array, pads: Any, value: Any = 0.0) -> Array:
    """The picture x (n, h, w, c) with ``value`` (a number, or (c,)) around it."""
    (top, bottom), (left, right) = pads
    if not (top or bottom or left or right):
        return x
    batch, height, width, channels = x.shape
    padded = np.empty((batch, height + top + bottom, width + left + right, channels), x.dtype)
    padded[...] = value
    padded[:, top : top + height, left : left + width] = x
    return padded


def _windows(
    kind: str, attrs: Mapping[str, Any], weights: Mapping[str, Array], x: Array, fill: Any
) -> tuple[Array, tuple[int, int]]:
    """View (n, ho, wo, c, kh, kw) of the padded input, and the kernel size."""
    shapes = {key: value.shape for key, value in weights.items()}
    padding, size, strides, dilation = window_of(kind, attrs, shapes)
    pads = window_pads(padding, x.shape[1:3], size, strides, dilation)
    x = _pad_hw(x, pads, fill)
    span = tuple((k - 1) * d + 1 for k, d in zip(size, dilation, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=(1, 2))
    view = view[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]]
    return view, size


def _with_bias(x: Array, weights: Mapping[str, Array]) -> Array:
    return np.asarray(x + weights["bias"]) if "bias" in weights else x


def _conv2d(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    view, (kh, kw) = _windows("conv2d", attrs, weights, inputs[0], weights.get("pad_value", 0.0))
    kernel, groups = weights["kernel"], attrs["groups"]
    cin, cout = kernel.shape[2], kernel.shape[3] // groups
    parts = []
    for group in range(groups):
        part = view[:, :, :, group * cin : (group + 1) * cin]
        columns = part.transpose(0, 1, 2, 4, 5, 3).reshape(-1, kh * kw * cin)
        matrix = kernel[..., group * cout : (group + 1) * cout].reshape(-1, cout)
        parts.append((columns @ matrix).reshape(*view.shape[:3], cout))
    return _with_bias(parts[0] if groups == 1 else np.concatenate(parts, -1), weights)


def _depthwise(
    attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]
) -> Array:
    fill = weights.get("pad_value", 0.0)
    view, (kh, kw) = _windows("depthwise_conv2d", attrs, weights, inputs[0], fill)
    kernel = weights["kernel"]
    total = np.zeros((*view.shape[:4], kernel.shape[3]), view.dtype)
    for row in range(kh):
        for column in range(kw):
            total += view[..., row, column, None] * kernel[row, column]
    return _with_bias(total.reshape(*view.shape[:3], -1), weights)


def _conv2d_transpose(
    attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]
) -> Array:
    x, kernel = inputs[0], weights["kernel"]
    batch, strides, dilation = x.shape[0], attrs["strides"], attrs["dilation"]
    output_padding = attrs.get("output_padding") or (None, None)
    full, out, before = [], [], []
    for axis in (0, 1):
        size, taps = x.shape[1 + axis], kernel.shape[axis]
        length = (size - 1) * strides[axis] + (taps - 1) * dilation[axis] + 1
        target = transpose_output(
            size, taps, strides[axis], attrs["padding"], output_padding[axis], dilation[axis]
        )
        assert target is not None
        cut = max(length - target, 0) // 2 if attrs["padding"] == "same" else 0
        full.append(max(length, target + cut))
        out.append(target)
        before.append(cut)
    canvas = np.zeros((batch, full[0], full[1], kernel.shape[2]), x.dtype)
    for row in range(kernel.shape[0]):
        for column in range(kernel.shape[1]):
            top, left = row * dilation[0], column * dilation[1]
            canvas[
                :,
                top : top + (x.shape[1] - 1) * strides[0] + 1 : strides[0],
                left : left + (x.shape[2] - 1) * strides[1] + 1 : strides[1],
            ] += x @ kernel[row, column].T
    rows = slice(before[0], before[0] + out[0])
    columns = slice(before[1], before[1] + out[1])
    return _with_bias(canvas[:, rows, columns], weights)


def _dense(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    return _with_bias(inputs[0] @ weights["kernel"], weights)


def _batchnorm(
    attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]
) -> Array:
    scale = 1.0 / np.sqrt(weights["variance"] + np.asarray(attrs["epsilon"], inputs[0].dtype))
    if "gamma" in weights:
        scale = scale * weights["gamma"]
    result = (inputs[0] - weights["mean"]) * scale
    return np.asarray(result + weights["beta"] if "beta" in weights else result)


def _relu(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    result = np.maximum(inputs[0], 0)
    ceiling = weights.get("max_value", attrs.get("max_value"))
    return result if ceiling is None else np.minimum(result, ceiling)


def _softmax(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    axis = attrs["axis"] + 1
    powers = np.exp(inputs[0] - inputs[0].max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def _max_pool(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    view, _ = _windows("max_pool", attrs, {}, inputs[0], -np.inf)
    return np.asarray(view.max(axis=(-2, -1)))


def _avg_pool(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    view, _ = _windows("avg_pool", attrs, {}, inputs[0], 0.0)
    counts, _ = _windows("avg_pool", attrs, {}, np.ones_like(inputs[0][:1, :, :, :1]), 0.0)
    return np.asarray(view.sum(axis=(-2, -1)) / counts.sum(axis=(-2, -1)))


def _global_avg(
    attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]
) -> Array:
    return np.asarray(inputs[0].mean(axis=(1, 2), keepdims=attrs["keepdims"]))


def _global_max(
    attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]
) -> Array:
    return np.asarray(inputs[0].max(axis=(1, 2), keepdims=attrs["keepdims"]))


def _fold(function: Callable[[Array, Array], Array]) -> Run:
    """An element-wise function of two arrays applied from left to right."""

    def run(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
        result: Array = inputs[0]
        for other in inputs[1:]:
            result = function(result, other)
        return result

    return run


def _slice(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    cut = inputs[0][(slice(None), *(slice(*limits) for limits in attrs["slices"]))]
    drop = tuple(axis + 1 for axis in attrs.get("squeeze", ()))
    return np.squeeze(cut, axis=drop) if drop else cut


def _reshape(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    # At most one unknown size can be worked out; the batch size is taken from the data.
    target = [-1 if size is None else size for size in attrs["shape"]]
    return inputs[0].reshape(inputs[0].shape[0], *target)


_RUN: Mapping[str, Run] = {
    "conv2d": _conv2d,
    "depthwise_conv2d": _depthwise,
    "conv2d_transpose": _conv2d_transpose,
    "dense": _dense,
    "batchnorm": _batchnorm,
    "affine": lambda attrs, weights, inputs: inputs[0] * weights["scale"] + weights["offset"],
    "relu": _relu,
    "activation": lambda attrs, weights, inputs: apply_activation(attrs, weights, inputs[0]),
    "softmax": _softmax,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "global_avg_pool": _global_avg,
    "global_max_pool": _global_max,
    "add": _fold(np.add),
    "subtract": _fold(np.subtract),
    "multiply": _fold(np.multiply),
    "maximum": _fold(np.maximum),
    "minimum": _fold(np.minimum),
    "concat": lambda attrs, weights, inputs: np.concatenate(inputs, axis=attrs["axis"] + 1),
    "flatten": lambda attrs, weights, inputs: inputs[0].reshape(inputs[0].shape[0], -1),
    "reshape": _reshape,
    "permute": lambda attrs, weights, inputs: inputs[0].transpose(
        0, *(axis + 1 for axis in attrs["dims"])
    ),
    "pad": lambda attrs, weights, inputs: _pad_hw(
        inputs[0], attrs["padding"], attrs.get("value", 0.0)
    ),
    "upsample": lambda attrs, weights, inputs: (
        inputs[0].repeat(attrs["size"][0], axis=1).repeat(attrs["size"][1], axis=2)
    ),
    "slice": _slice,
    "identity": lambda attrs, weights, inputs: inputs[0],
}


def values_of(graph: Graph, node: Node) -> list[str]:
    """The names of all values that ``node`` makes."""
    assert producer_of(node.name) == node.name
    rest = [f"{node.name}:{index}" for index in range(1, node.output_count)]
    return [node.name, *rest]
