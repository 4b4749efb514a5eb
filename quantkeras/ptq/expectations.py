"""What batch normalizations tell of the means in a quantized model, without any data.

Behind a batch normalization a channel is taken as normally distributed with mean beta and standard
deviation |gamma|. With phi and Phi the standard normal density and distribution, and the clip of a
ReLU at m (infinite without one),

    E[min(relu(x), m)] = mean * (Phi(b) - Phi(a)) + deviation * (phi(a) - phi(b)) + m * (1 - Phi(b))
    a = -mean / deviation,   b = (m - mean) / deviation

(Nagel et al. 2019, arXiv:1906.04721, appendix C). Means pass averages and movements as they are,
and add up in additions; there, independent inputs assumed, variances add up too.
"""

from __future__ import annotations

import math
from operator import attrgetter
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from sanitize.graph import Graph, Node, producer_of
from sanitize.keras_io import read_keras
from sanitize.kinds import Trait
from sanitize.rewriting_check import random_inputs
from sanitize.semantics import evaluate

from ..layers import HardwareLayer, InputQuantizer, QuantizedAdd, WeightedLayer
from ..numerics.layer_shapes import fixed_shape
from ..qmodel import QuantizedGraph, layer_of, rounding_layer
from ..qmodel.views import compute_node
from ..quantization.movement_steps import carry_through
from ..quantization.provenance import provenance_of
from .absorb import Moments, norm_moments, proportion
from .layer_by_layer import core_values, quantized_params

Array = NDArray[np.float64]


def input_means(reading: QuantizedGraph, float_model: keras.Model) -> dict[str, Array | str]:
    """For each layer with weights of a quantized model: the mean of its input, or why unknown.

    A mean is (c_in,), in the units of the quantized model. float_model: with its normalizations.
    """
    known = matched_moments(reading, float_model)
    outputs: dict[str, Moments | str] = {}
    means: dict[str, Array | str] = {}
    for node in reading.graph:
        layer = rounding_layer(node)
        sources = [outputs.get(producer_of(v), "") for v in node.inputs]
        if isinstance(layer, WeightedLayer):
            source = sources[0]
            means[node.name] = source if isinstance(source, str) else source.mean
            found = known.get(node.name, f"no batch normalization tells of '{node.name}'")
            outputs[node.name] = found if isinstance(found, str) else _behind(node, layer, found)
        elif isinstance(layer, InputQuantizer) or node.kind == "input":
            outputs[node.name] = "nothing is known of the input of the model"
        elif Trait.REARRANGES in node.traits:
            outputs[node.name] = _moved(reading.graph, node, sources[0])
        elif isinstance(layer, QuantizedAdd) or (
            isinstance(layer, HardwareLayer) and len(sources) == 1
        ):
            outputs[node.name] = _through(node, layer, sources)
        else:
            outputs[node.name] = f"nothing is known behind '{node.name}'"
    return means


def matched_moments(reading: QuantizedGraph, float_model: keras.Model) -> dict[str, Moments]:
    """Moments of the outputs, before pooling and activation, of layers with weights by name.

    A layer's output is that of a normalization if it is so, up to a factor per channel, on a few
    random samples.
    """
    raw, graph = read_keras(float_model), reading.graph
    norms = {source: node for node in raw if node.kind == "batchnorm" for source in node.source}
    inputs = random_inputs(raw)
    if [inputs[name].shape[1:] for name in raw.inputs] != [graph[n].shape for n in graph.inputs]:
        return {}
    before = evaluate(raw, inputs, {node.name for node in norms.values()}, np.float64)
    sources = provenance_of(reading.model).sources
    fed = dict(zip(graph.inputs, inputs.values(), strict=True))
    after = _float_cores(graph, fed)
    found: dict[str, Moments] = {}
    for name, values in after.items():
        for source in sources.get(graph[name].attrs["layer"].name, ()):
            if source in norms:
                ratio = proportion(before[norms[source].name], values)
                if ratio is not None:
                    found[name] = norm_moments(norms[source], ratio)
    return found


def _float_cores(graph: Graph, inputs: dict[str, Array]) -> dict[str, Array]:
    """Float outputs before pooling and activation of all layers with weights, by node."""
    values: dict[str, Any] = {name: array.astype(np.float32) for name, array in inputs.items()}
    cores: dict[str, Array] = {}
    for node in graph:
        if node.kind == "input" or any(value not in values for value in node.inputs):
            continue
        if node.kind == "opaque" and rounding_layer(node) is None:
            continue
        xs, layer = [values[value] for value in node.inputs], layer_of(node, WeightedLayer)
        if layer is not None:
            core = core_values(layer, xs[0], layer.float_params())
            cores[node.name] = np.asarray(ops.convert_to_numpy(core), np.float64)
        values |= compute_node(node, xs, attrgetter("float_call"))
    return cores


def shift_of_means(layer: WeightedLayer, mean: Array) -> Array:
    """(c,) by what rounding the weights of a layer moves its mean outputs, for mean inputs."""
    exact, rounded = layer.float_params(), quantized_params(layer)
    error = np.asarray(ops.convert_to_numpy(rounded.weights - exact.weights), np.float64)
    kind = layer.core_spec().kind
    if kind == "dense":
        return np.asarray(mean @ error)
    window = layer.core_spec().window
    assert window is not None
    # Of a widened input only every so many values are not 0.
    taps = error.sum(axis=(0, 1)) / math.prod(window.input_dilation)
    if kind == "depthwise_conv2d":
        return np.asarray((taps * mean[:, None]).reshape(-1))
    groups = layer.core_spec().groups
    by_group = np.repeat(mean.reshape(groups, -1).T, taps.shape[1] // groups, axis=1)
    return np.asarray((taps * by_group).sum(axis=0))


def rectified(moments: Moments, ceiling: Array | float = math.inf) -> Moments:
    """Moments of min(relu(x), ceiling) for normally distributed x, (c,) each."""
    mean, deviation = moments.mean, np.maximum(moments.deviation, 1e-12)
    top = np.broadcast_to(np.asarray(ceiling, np.float64), mean.shape)
    a, b = -mean / deviation, (top - mean) / deviation
    inside, beyond = _phi_integral(b) - _phi_integral(a), 1 - _phi_integral(b)
    high = np.where(np.isfinite(top), top, 0.0)
    first = mean * inside + deviation * (_phi(a) - _phi(b)) + high * beyond
    edge = np.where(np.isfinite(top), (top + mean) * deviation * _phi(b), 0.0)
    second = (mean**2 + deviation**2) * inside + mean * deviation * _phi(a) - edge
    second = second + high**2 * beyond
    return Moments(first, np.sqrt(np.maximum(second - first**2, 0.0)))


def _phi(x: Array) -> Array:
    return np.exp(-0.5 * np.minimum(x * x, 1400.0)) / math.sqrt(2 * math.pi)


def _phi_integral(x: Array) -> Array:
    values = [0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.reshape(-1)]
    return np.asarray(values).reshape(x.shape)


def _behind(node: Node, layer: HardwareLayer, moments: Moments) -> Moments | str:
    """Moments behind the pool and the activation of a hardware layer."""
    if layer.function is not None:
        return f"the mean behind the function of '{node.name}' is not known"
    if layer.pool is not None and layer.pool.kind == "max":
        return f"the mean behind the max pool of '{node.name}' is not known"
    if not layer.relu:
        return moments
    ceiling = np.asarray(layer.clip_value, np.float64) if layer.clips else math.inf
    return rectified(moments, ceiling)


def _through(node: Node, layer: HardwareLayer, sources: list[Moments | str]) -> Moments | str:
    """Moments behind a layer without weights of one input, or an addition."""
    unknown = next((s for s in sources if isinstance(s, str)), None)
    if unknown is not None:
        return unknown
    moments = [s for s in sources if isinstance(s, Moments)]
    mean = sum((m.mean for m in moments), np.zeros(1))
    deviation = np.sqrt(sum((m.deviation**2 for m in moments), np.zeros(1)))
    found = _behind(node, layer, Moments(mean, deviation))
    if isinstance(found, str):
        return found
    gain = np.asarray(ops.convert_to_numpy(layer.gain), np.float64) * layer.pool_area
    return Moments(found.mean * gain, found.deviation * gain)


def _moved(graph: Graph, node: Node, source: Moments | str) -> Moments | str:
    if isinstance(source, str):
        return source
    before, after = graph.shape_of(node.inputs[0]), fixed_shape(node.shape, node.name)
    moments = (source.mean, source.deviation)
    arrays = [carry_through(array, node, before, after) for array in moments]
    if any(array.ndim > 1 for array in arrays):
        return f"behind '{node.name}' the mean differs between pixels"
    return Moments(*(np.broadcast_to(array, after[-1:]) for array in arrays))
