"""from_onnx: an ONNX model as a float Keras model, checked against onnxruntime."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from sanitize import evaluate
from sanitize.functions import FUNCTIONS
from sanitize.graph import Graph, producer_of
from sanitize.keras_io import write_keras
from sanitize.keras_io.names import layer_name
from sanitize.keras_io.opaque_layers import clone_layer
from sanitize.spread_kernels import with_spread_kernels

from ..errors import QuantizationError
from ..qmodel.running import run_batch
from ..quantization.float_network import FloatNetwork, onnx_network, onnx_shapes

if TYPE_CHECKING:
    from sanitize.onnx_io import OnnxImport, Port

#: Largest difference to onnxruntime, relative to the largest output: float32 rounding of a deep
#: network stays far below, a wrong operator far above.
TOLERANCE = 1e-3

#: By how much a difference may exceed that between float32 and float64 on the same numbers.
NOISE_FACTOR = 10.0

#: Numbers that all values of a network hold for one sample; with more the check takes one sample.
_LARGE_NETWORK = 2**23

_ENDING_AT_ONE = frozenset(name for name, function in FUNCTIONS.items() if function.most == 1.0)
_PASSING = ("flatten", "reshape", "permute", "slice", "concat", "multiply", "maximum", "minimum",
            "identity", "upsample", "max_pool")  # fmt: skip
"""Kinds that give nothing larger than what they read, where that is at most 1."""


class ImportMismatch(QuantizationError):
    """A Keras model that does not compute what the ONNX model computes."""


def from_onnx(
    model: Any,
    *,
    layout: Literal["channels_last", "as_is"] = "channels_last",
    shapes: Mapping[str, Sequence[int]] | Sequence[int] | None = None,
    check: bool = True,
) -> Any:
    """Make a functional keras.Model that computes what an ONNX model computes.

    Layers are named after the ONNX nodes, those that make outputs after the outputs, so that these
    have their names in an export, too. An operator that Keras has no layers for becomes an
    OnnxOperatorLayer, which runs but through which nothing learns.

    Args:
        model: an onnx.ModelProto, its bytes, or a path; opset 10 or newer.
        layout: with "channels_last", pictures that the ONNX model takes as (n, c, h, w) are
            (n, h, w, c) for the Keras model, inputs and outputs alike; "as_is" keeps the axes of
            the ONNX model.
        shapes: sizes behind the batch, in ONNX' order, for inputs that leave them open: by name, or
            a tuple for the only input.
        check: compare both models on random input, if onnxruntime is installed.

    Returns:
        The float Keras model.

    Raises:
        sanitize.onnx_io.OnnxError: naming the node, for a model that cannot be read.
        FileNotFoundError: for a path that leads nowhere.
        ImportMismatch: where the two models disagree.
    """
    sizes = None if shapes is None else onnx_shapes(shapes)
    source = onnx_network(model, layout=layout, shapes=sizes)
    return keras_model(source, model if check else None)


def keras_model(source: FloatNetwork, original: Any = None) -> Any:
    """The Keras model of the network of an ONNX model.

    original: the ONNX model, to compare both as ``from_onnx`` does; None does not.
    """
    assert source.onnx is not None
    graph = with_spread_kernels(_with_output_names(source.graph, source.onnx.outputs))
    network = write_keras(graph)
    if original is not None and importlib.util.find_spec("onnxruntime") is not None:
        from sanitize.onnx_io.dynamic import float_form
        from sanitize.onnx_io.source import load_model

        compared = float_form(load_model(original)).model
        difference = difference_to_onnx(network, source.onnx, compared)
        if not difference <= TOLERANCE and not difference <= NOISE_FACTOR * _noise(source.onnx):
            raise ImportMismatch(
                f"the Keras model of '{source.graph.name}' differs from onnxruntime by"
                f" {difference:.2e} of the largest output. This is a fault of the import; please"
                " report it. from_onnx(..., check=False) gives the model as it is"
            )
    return network


def _with_output_names(graph: Graph, outputs: Sequence[Port]) -> Graph:
    """The graph whose last nodes are called as the outputs of the ONNX model.

    A node keeps its name where another has that of the output, where it has call sites elsewhere,
    and for outputs that it makes besides its first.
    """
    names: dict[str, str] = {}
    for port in outputs:
        node, name = graph[producer_of(port.value)], layer_name(port.name)
        used = name in graph or name in names.values() or node.name in names
        if not used and port.value == node.name and node.kind != "input" and node.share is None:
            names[node.name] = name

    def renamed(value: str) -> str:
        name = producer_of(value)
        return names.get(name, name) + value[len(name) :]

    nodes = []
    for node in graph:
        inputs = tuple(renamed(value) for value in node.inputs)
        if node.name in names and node.kind == "opaque":
            layer = clone_layer(node.attrs["layer"], names[node.name])
            node = node.with_attrs(layer=layer, call=replace(node.attrs["call"], layer=layer))
        nodes.append(node.with_(name=renamed(node.name), inputs=inputs))
    return graph.with_nodes(nodes, [renamed(value) for value in graph.outputs])


def difference_to_onnx(network: Any, imported: OnnxImport, proto: Any, seed: int = 0) -> float:
    """Largest difference of the outputs on random input, relative to the largest output.

    Of outputs that are all tiny the differences are those that float32 leaves, see :func:`_floor`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Its optimizer has faults (a Pad in front of a MaxPool becomes other pads): see export/.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    known = {port.name for port in imported.inputs}
    shapes = {value.name: value.shape for value in session.get_inputs()}
    counts = [shapes[port.name][port.order[0]] for port in imported.inputs]
    fixed = [count for count in counts if isinstance(count, int)]
    ours = _random_inputs(imported, fixed[0] if fixed else _sample_count(imported.graph), seed)
    theirs = {
        port.name: port.to_onnx(array).astype(port.dtype)
        for port, array in zip(imported.inputs, ours, strict=True)
    }
    for value in session.get_inputs():  # that nothing reads
        if value.name not in known:
            shape = [size if isinstance(size, int) else 1 for size in value.shape]
            theirs[value.name] = np.zeros(shape, np.float32)
    wanted = _outcome(session, imported, theirs)
    found = run_batch(network, ours, compiled=False)  # one batch: compiling takes longer
    worst = 0.0
    for port, array, target in zip(imported.outputs, found, wanted, strict=True):
        result = port.to_onnx(np.asarray(array))
        if result.shape != target.shape:
            return float("inf")
        scale = max(float(np.abs(target).max(initial=0.0)), _floor(imported.graph, port.value))
        gap = float(np.abs(result - target).max(initial=0.0)) / scale
        worst = gap if not gap <= worst else worst
    return worst


def _outcome(session: Any, imported: OnnxImport, arrays: Mapping[str, Any]) -> list[Any]:
    """What onnxruntime makes of some samples; of one after the other where data decide."""
    names = [port.name for port in imported.outputs]
    if not imported.alone:
        return list(session.run(names, arrays))
    axes = {port.name: port.order[0] for port in (*imported.inputs, *imported.outputs)}
    split = {
        name: np.split(array, array.shape[axes.get(name, 0)], axes.get(name, 0))
        for name, array in arrays.items()
    }
    count = max(map(len, split.values()))
    each = [
        session.run(names, {name: parts[place % len(parts)] for name, parts in split.items()})
        for place in range(count)
    ]
    return [
        np.concatenate(results, axes[name])
        for name, results in zip(names, zip(*each, strict=True), strict=True)
    ]


def _sample_count(graph: Graph) -> int:
    """How many samples to compare: two, which shows where they mix, or one of a large network."""
    numbers = sum(math.prod(size or 1 for size in node.shape) for node in graph)
    return 2 if numbers <= _LARGE_NETWORK else 1


def _noise(imported: OnnxImport, seed: int = 0) -> float:
    """What float32 leaves of the outputs on the numbers of the check: the largest difference to
    float64, relative to the largest output.

    A network that enlarges every rounding, such as the sine of large numbers, is computed otherwise
    by every runtime.
    """
    arrays = _random_inputs(imported, 2, seed)
    single, double = (evaluate(imported.graph, arrays, dtype=d) for d in (np.float32, np.float64))
    worst = 0.0
    for array, exact in zip(keras.tree.flatten(single), keras.tree.flatten(double), strict=True):
        gap = float(np.abs(array - exact).max(initial=0.0))
        worst = max(worst, gap / max(float(np.abs(exact).max(initial=0.0)), 1e-6))
    return worst


def _floor(graph: Graph, value: str) -> float:
    """The smallest scale by which differences of an output are judged.

    A function that ends at 1, such as a sigmoid, is computed by every runtime to about the last
    digit of 1, 2**-23, also where it is near 0. So what it gives is judged as if 2**-23 / TOLERANCE
    were its largest value, times eight for what the runtimes' approximations differ by.
    """
    waiting, seen = [value], set()
    while waiting:
        node = graph[producer_of(waiting.pop())]
        if node.kind == "softmax" or node.attrs.get("function") in _ENDING_AT_ONE:
            return 2.0**-20 / TOLERANCE
        if node.name not in seen and node.kind in _PASSING:
            waiting += node.inputs
        seen.add(node.name)
    return 1e-6


def _random_inputs(imported: OnnxImport, batch: int, seed: int) -> list[NDArray[Any]]:
    generator = np.random.default_rng(seed)
    arrays: list[NDArray[Any]] = []
    for port in imported.inputs:
        shape = (batch, *(int(n or 1) for n in imported.graph.shape_of(port.value)))
        if np.dtype(port.dtype).kind == "f":
            arrays.append(generator.normal(size=shape).astype(np.float32))
        else:
            arrays.append(generator.integers(0, 100, shape).astype(port.dtype))
    return arrays
