"""Maps of float inputs for a model that was quantized without samples, once there are some.

The model is changed in place: quantizers of inputs take offsets and scales, and the layers that
read them, with movements and joins at most between, undo these in their weights. What is wanted is
what :mod:`quantkeras.quantization.input_scaling` finds for the float network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from keras import ops

from sanitize.graph import Graph, Node
from sanitize.input_maps import OTHER, Reader, largest_weights
from sanitize.rules.linear import constant_response

from ..layers import QuantizedConcatenate, WeightedLayer
from ..numerics.layer_shapes import fixed_shape
from ..quantization.borders import layer_padding
from ..quantization.input_scaling import (
    BYTES,
    SAMPLES,
    Array,
    InputMap,
    observed_ranges,
    wanted_maps,
)
from .filled_ranges import MOVEMENTS, moved_along
from .samples import SampleStream

Numbers = np.ndarray
"""(c,) which channel of the inputs each channel of a value is, or OTHER."""


@dataclass
class _Place:
    """A call of a layer with weights: what it reads. padded: a movement before it pads."""

    node: Node
    sources: Numbers
    padded: bool


@dataclass
class _Layer:
    """A layer with weights, and all places where it is called."""

    layer: WeightedLayer
    places: list[_Place] = field(default_factory=list)


def take_maps(graph: Graph, names: Sequence[str], stream: SampleStream) -> None:
    """Give float inputs of a quantized model the maps that its float network would have got.

    graph: of the model, not calibrated with samples before. names: of inputs that one quantizer
    reads. stream: samples, not begun to read. Inputs stay as they are that a layer reads in several
    places whose maps would differ, as all of them have the same weights.
    """
    if not names:
        return
    quantizers = {name: graph.consumers(name)[0] for name in names}
    places, blocked = _all_places(graph, quantizers)
    layers = _by_layer(places.values())
    observed, present = observed_ranges(stream.peek(SAMPLES, BYTES), names), _present(quantizers)
    readers = [_reader(place, present) for place in places.values()]
    for offsets in (True, False):
        maps = wanted_maps(observed, readers, offsets)
        maps = {name: found for name, found in maps.items() if name not in blocked}
        able = {
            name: found
            for name, found in maps.items()
            if quantizers[name].attrs["layer"].has_offset or not found.offset.any()
        }
        scale, offset = _flat(quantizers, able)
        moved = offset - present
        if len(able) == len(maps) and all(_takes(graph, x, scale, moved) for x in layers):
            break
    else:
        return
    _take({n: q for n, q in quantizers.items() if n not in blocked}, able)
    for each in layers:
        _undo(graph, each, scale, moved)


def forget_offsets(graph: Graph, quantizers: Mapping[str, Node]) -> None:
    """Let float inputs of a quantized model be read as they are, without an offset: the layers that
    read them take it. quantizers: by name of their input.
    """
    offset = _present(quantizers)
    if offset.any():
        places, _ = _all_places(graph, quantizers)
        _take(quantizers, {})
        for each in _by_layer(places.values()):
            _undo(graph, each, np.ones(offset.shape), -offset)


def _all_places(graph: Graph, quantizers: Mapping[str, Node]) -> tuple[dict[str, _Place], set[str]]:
    """What reads the inputs, by name, and the inputs that something else reads as well."""
    starts, blocked = _starts(quantizers), set[str]()
    places: dict[str, _Place] = {}
    for name, quantizer in quantizers.items():
        numbers = np.arange(starts[name], starts[name] + _channels(quantizer))
        read = _places(graph, quantizer, numbers)
        if read is None:
            blocked.add(name)
            continue
        for key, place in read.items():
            if key in places:
                before = places[key].sources
                place.sources = np.where(place.sources == OTHER, before, place.sources)
                place.padded |= places[key].padded
            places[key] = place
    return places, blocked


def _take(quantizers: Mapping[str, Node], maps: Mapping[str, InputMap]) -> None:
    """Give quantizers their maps; no offset to those that have none."""
    for name, node in quantizers.items():
        layer = node.attrs["layer"]
        if layer.has_offset:
            layer.offset.assign(maps[name].offset if name in maps else 0 * layer.offset)
        if name in maps:
            layer.scale_output(1 / maps[name].scale)


def _starts(quantizers: Mapping[str, Node]) -> dict[str, int]:
    """The number of the first channel of each input."""
    counts = [_channels(quantizer) for quantizer in quantizers.values()]
    return dict(zip(quantizers, np.cumsum([0, *counts]).tolist(), strict=False))


def _present(quantizers: Mapping[str, Node]) -> Array:
    """The offsets that all channels have, one input after the other, and 0 for OTHER."""
    found = [np.zeros(_channels(node)) for node in quantizers.values()]
    for offset, node in zip(found, quantizers.values(), strict=True):
        layer = node.attrs["layer"]
        if layer.has_offset:
            offset[:] = ops.convert_to_numpy(layer.offset)
    return np.concatenate([*found, [0.0]])


def _channels(node: Node) -> int:
    return fixed_shape(node.shape, node.name)[-1]


def _places(graph: Graph, quantizer: Node, numbers: Numbers) -> dict[str, _Place] | None:
    """What reads an input, by name; None where something else than layers with weights does."""
    found: dict[str, _Place] = {}
    waiting: list[tuple[Node, Numbers, list[Node]]] = [(quantizer, numbers, [])]
    while waiting:
        source, numbers, path = waiting.pop()
        here = path[-1] if path else source
        users = graph.consumers(here.name)
        if not users or graph.is_output(here.name):
            return None
        for user in users:
            if user.kind in MOVEMENTS:
                waiting.append((source, numbers, [*path, user]))
                continue
            arriving = moved_along(numbers, source, path)
            if arriving is None or user.name in found:
                return None
            arriving = np.broadcast_to(arriving, (_channels(here),))
            padded = any(node.kind == "pad" for node in path)
            layer = user.attrs.get("layer")
            if isinstance(layer, WeightedLayer):
                found[user.name] = _Place(user, arriving, padded)
            elif _only_joins(user) and not padded:
                parts = [
                    arriving if value == here.name else np.full(_channels(graph[value]), OTHER)
                    for value in user.inputs
                ]
                waiting.append((user, np.concatenate(parts), []))
            else:
                return None
    return found


def _only_joins(node: Node) -> bool:
    """Whether it joins the channels of its inputs and nothing else."""
    layer = node.attrs.get("layer")
    return (
        isinstance(layer, QuantizedConcatenate)
        and node.share is None
        and layer.axis in (-1, len(node.shape))
        and not layer.relu
        and layer.pool is None
        and layer.function is None
    )


def _by_layer(places: Iterable[_Place]) -> list[_Layer]:
    found: dict[int, _Layer] = {}
    for place in places:
        layer = place.node.attrs["layer"]
        found.setdefault(id(layer), _Layer(layer)).places.append(place)
    return list(found.values())


def _linear_node(layer: WeightedLayer, share: str | None) -> Node:
    """The layer's product as a node of a float graph."""
    spec = layer.core_spec()
    kernel = ops.convert_to_numpy(layer.core_kernel(ops.convert_to_tensor(layer.kernel)))
    attrs = {"layer": layer, "groups": spec.groups}
    return Node(layer.name, spec.kind, attrs=attrs, weights={"kernel": kernel}, share=share)


def _reader(place: _Place, present: Array) -> Reader:
    """present: see :func:`_present`."""
    node = _linear_node(place.node.attrs["layer"], place.node.share)
    weights = largest_weights(node, len(place.sources))
    outside = layer_padding(node)
    if outside is not None:  # as the inputs are
        outside = outside + present[place.sources]
    return Reader(node, place.sources, weights, outside)


def _flat(quantizers: Mapping[str, Node], maps: Mapping[str, InputMap]) -> tuple[Array, Array]:
    """Scale and offset of all channels, one input after the other, and of OTHER at the end."""
    ones = {name: np.ones(_channels(node)) for name, node in quantizers.items()}
    scale = [maps[name].scale if name in maps else one for name, one in ones.items()]
    offset = [maps[name].offset if name in maps else 0 * one for name, one in ones.items()]
    return np.concatenate([*scale, [1.0]]), np.concatenate([*offset, [0.0]])


def _takes(graph: Graph, each: _Layer, scale: Array, offset: Array) -> bool:
    """Whether a layer can undo what the maps do to its inputs."""
    scales = [scale[place.sources] for place in each.places]
    offsets = [offset[place.sources] for place in each.places]
    if all((s == 1).all() and not o.any() for s, o in zip(scales, offsets, strict=True)):
        return True
    share = each.places[0].node.share
    if share is not None:
        same = all(np.array_equal(x, scales[0]) for x in scales)
        same &= all(np.array_equal(x, offsets[0]) for x in offsets)
        if not same or len(each.places) < len(graph.sites(share)):
            return False
    return not any(o.any() for o in offsets) or _takes_offset(each)


def _takes_offset(each: _Layer) -> bool:
    """Whether its bias and its padding can take what an offset in front of it adds everywhere."""
    window = each.layer.core_spec().window
    plain = window is None or window.padding == "valid" or window.size == (1, 1)
    whole = window is None or window.input_dilation == (1, 1)
    moved = any(place.padded for place in each.places)
    return (
        whole and (plain or each.layer.has_pad_value) and each.layer.bias is not None and not moved
    )


def _undo(graph: Graph, each: _Layer, scale: Array, offset: Array) -> None:
    layer, sources = each.layer, each.places[0].sources
    here = offset[sources]
    if here.any():
        response = constant_response(graph, _linear_node(layer, None), here)
        assert response is not None  # no transposed convolution
        layer.bias.assign((ops.convert_to_numpy(layer.bias) + response).astype(np.float32))
        if layer.has_pad_value:
            outside = ops.convert_to_numpy(layer.pad_value) - here
            layer.pad_value.assign(outside.astype(np.float32))
    if (scale[sources] != 1).any():
        layer.divide_input(1 / scale[sources])
