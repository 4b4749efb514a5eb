"""Maps at the inputs: an application feeds (x - offset) / scale, and the network knows it.

Which layers with weights read an input, and how strongly they weigh each of its channels, is for
the choice of a map; :func:`map_inputs` then lets these layers undo it in their weights and biases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .graph import Graph, Node
from .kinds import Trait
from .match import Keep, apply_rule
from .pipeline import sanitize_graph
from .rules.batchnorm import FoldIntoConsumer
from .rules.linear import LINEAR, explicit_pads, output_channels, pad_values
from .rules.maps import Map, to_output

Array = NDArray[np.float64]

OTHER = -1
"""Stands in :attr:`Reader.sources` for a channel that comes from somewhere else."""


@dataclass(frozen=True)
class Reader:
    """A node with weights that reads channels of inputs, with movements and joins at most between.

    sources: (cin,) which channel of the inputs each of its own is, counted over the inputs one
    after the other, or OTHER. weights: (cin, cout) the largest |weight| of each pair of channels.
    outside: (cin,) what its padding stands for, None without padding.
    """

    node: Node
    sources: NDArray[np.int64]
    weights: Array
    outside: Array | None


def readers_of_inputs(graph: Graph, names: Sequence[str]) -> tuple[list[Reader], set[str]]:
    """The readers of the named inputs, and those of the inputs that have other readers as well.

    names: inputs of rank 1 or more and a known number of channels.
    """
    sources: dict[str, NDArray[np.int64]] = {}
    blocked: set[str] = set()
    first = 0
    for name in names:
        channels = graph[name].channels
        assert channels is not None
        found = _channels_read(graph, name, first)
        first += channels
        if found is None:
            blocked.add(name)
            continue
        for reader, channel in found.items():
            before = sources.get(reader, np.full(channel.shape, OTHER))
            sources[reader] = np.where(channel == OTHER, before, channel)
    return [_reader(graph, graph[name], read) for name, read in sources.items()], blocked


def open_readers(graph: Graph, readers: Iterable[Reader]) -> Graph:
    """The same network, whose readers have all that maps of their inputs may change: a bias, and a
    padding value where they are padded.
    """
    opened: dict[str, Node] = {}
    for reader in readers:
        node = reader.node
        zeros = {"bias": np.zeros(output_channels(node), np.float32)}
        if reader.outside is not None:
            zeros["pad_value"] = np.zeros(len(reader.sources), np.float32)
        weights = {name: array for name, array in zeros.items() if name not in node.weights}
        sites = graph.sites(node.share) if node.share is not None else [node]
        opened.update({site.name: site.with_weights(**weights) for site in sites})
    return graph.replace(add=opened.values())


def map_inputs(graph: Graph, maps: Mapping[str, tuple[Array, Array]]) -> tuple[Graph, set[str]]:
    """The network of what each input becomes by x -> (x - offset) / scale.

    maps: input -> (scale, offset), (c,) each. graph: sanitized. Returns it and the inputs where the
    readers can undo the map; others stay as they are. A layer that reads several inputs one by one
    keeps one set of weights if their maps are the same, else each of its places has its own.
    """
    wanted = dict(maps)
    while wanted:
        changed, left = _folded(graph, wanted)
        if left:
            apart = _unshared(graph, left)
            again, still = _folded(apart, wanted)
            if len(still) < len(left):
                graph, changed, left = apart, again, still
        if not left:
            return changed, set(wanted)
        wanted = {name: found for name, found in wanted.items() if name not in left}
    return graph, set()


def _folded(graph: Graph, maps: Mapping[str, tuple[Array, Array]]) -> tuple[Graph, set[str]]:
    """The network that expects all of these maps, and the inputs whose readers do not undo it."""
    undone = {}
    for name, found in maps.items():
        graph, undone[name] = _expecting(graph, name, *found)
    nodes = set(undone.values())
    # What was not folded when the graph was sanitized, is not now.
    changed, _ = apply_rule(graph, FoldIntoConsumer(), lambda node: node.name not in nodes)
    present = {node.name for node in changed}
    return changed, {name for name, undo in undone.items() if undo in present}


def _unshared(graph: Graph, names: Iterable[str]) -> Graph:
    """The network with weights of its own in each place of the layers that read these inputs."""
    readers = {reader for name in names for reader in _channels_read(graph, name, 0) or ()}
    shares = {graph[reader].share for reader in readers} - {None}
    return graph.replace(add=[n.with_(share=None) for n in graph if n.share in shares])


def map_before(
    raw: Graph,
    mapped: Graph,
    maps: Mapping[str, tuple[Array, Array]],
    keep: Keep | None = None,
) -> Graph:
    """What :func:`map_inputs` gives, with biases that no large numbers went into on the way.

    raw: the network before it was sanitized, by the rules that always apply and with ``keep``. A
    normalization of inputs far from zero meets the map while both are affine; in a bias, float32
    has lost what is left of the difference.
    """
    for name, found in maps.items():
        raw, _ = _expecting(raw, name, *found)
    again, _ = sanitize_graph(raw, verify=False, keep=keep)
    same = [(n.name, n.kind, n.inputs) for n in again] == [
        (n.name, n.kind, n.inputs) for n in mapped
    ]
    return again if same else mapped


def _expecting(graph: Graph, name: str, scale: Array, offset: Array) -> tuple[Graph, str]:
    """The network with x * scale + offset behind an input, and the name of that node."""
    undo = graph.unique_name(f"{name}/map")
    weights = {"scale": np.asarray(scale, np.float32), "offset": np.asarray(offset, np.float32)}
    affine = Node(undo, "affine", (name,), {}, weights, graph[name].shape)
    fed = [
        user.with_(inputs=tuple(undo if v == name else v for v in user.inputs))
        for user in graph.consumers(name)
    ]
    return graph.replace(add=[affine, *fed]), undo


def _channels_read(graph: Graph, name: str, first: int) -> dict[str, NDArray[np.int64]] | None:
    """Reader -> its :attr:`Reader.sources`; None where something else reads the input.

    The numbers of the channels, from ``first`` on, travel as the scales of a map that is not 1.
    """
    node = graph[name]
    numbers = np.arange(first, first + (node.channels or 0), dtype=np.float64) + 2.0
    rank = len(node.shape)
    start = Map(numbers.reshape((1,) * (rank - 1) + (-1,)), np.zeros((1,) * rank))
    found: dict[str, NDArray[np.int64]] = {}
    waiting = [(node, start)]
    while waiting:
        here, before = waiting.pop()
        if graph.is_output(here.name):
            return None
        for user in graph.consumers(here.name):
            if user.name in found:
                return None
            if user.kind in LINEAR:
                arriving = before.per_channel(here.channels)
                if arriving is None:
                    return None
                found[user.name] = np.rint(arriving[0]).astype(np.int64) - 2
                found[user.name][found[user.name] < 0] = OTHER
                continue
            behind = to_output(graph, user, here.name, before)
            if isinstance(behind, str):
                return None
            waiting.append((user, behind))
    return found


def _reader(graph: Graph, node: Node, sources: NDArray[np.int64]) -> Reader:
    outside = None
    if Trait.CONVOLVES in node.traits and explicit_pads(graph, node) != (
        (0, 0),
        (0, 0),
    ):
        outside = pad_values(node, len(sources))
    return Reader(node, sources, largest_weights(node, len(sources)), outside)


def largest_weights(node: Node, channels: int) -> Array:
    """(cin, cout) the largest |weight| between each pair of channels; 0 where there is none."""
    kernel = np.abs(node.weights["kernel"].astype(np.float64))
    if node.kind == "dense":
        return np.asarray(kernel)
    largest = kernel.max(axis=(0, 1))
    if node.kind == "conv2d_transpose":
        return np.asarray(largest.T)
    result = np.zeros((channels, output_channels(node)))
    if node.kind == "conv2d":
        per_group, outputs = largest.shape
        for column in range(outputs):
            start = column // (outputs * per_group // channels) * per_group
            result[start : start + per_group, column] = largest[:, column]
    else:
        for channel, taps in enumerate(largest):
            result[channel, channel * len(taps) : (channel + 1) * len(taps)] = taps
    return result
