"""What each node kind computes, once, in NumPy.

=================  ===========================================================================
kind               attributes, weights; meaning
=================  ===========================================================================
conv2d             strides, padding, dilation, groups; kernel (kh, kw, cin/groups, cout), [bias],
                   [pad_value (cin,)]: the value that stands in the padding, 0 unless given
depthwise_conv2d   strides, padding, dilation; kernel (kh, kw, c, m), [bias (c*m,)], [pad_value]
conv2d_transpose   strides, padding, output_padding, dilation; kernel (kh, kw, cout, cin), [bias]
depthwise_conv2d_  strides, padding, output_padding, dilation; kernel (kh, kw, c, m), [bias (c*m,)]
transpose
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
from .windows import WINDOW_KINDS, Run, pad_hw, with_bias

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


def _dense(attrs: Mapping[str, Any], weights: Mapping[str, Array], inputs: list[Array]) -> Array:
    return with_bias(inputs[0] @ weights["kernel"], weights)


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
    **WINDOW_KINDS,
    "dense": _dense,
    "batchnorm": _batchnorm,
    "affine": lambda attrs, weights, inputs: inputs[0] * weights["scale"] + weights["offset"],
    "relu": _relu,
    "activation": lambda attrs, weights, inputs: apply_activation(attrs, weights, inputs[0]),
    "softmax": _softmax,
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
    "pad": lambda attrs, weights, inputs: pad_hw(
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
