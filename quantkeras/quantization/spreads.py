"""How many bits finer than the coarsest channel of a tensor another channel may be.

A layer that sums over channels shifts the coarse ones left into the steps of the finest, and its
accumulator grows by as many bits. Channels of one layer that go into such a layer get USUAL bits:
more of them gain nothing there, as one scale of the weights serves all input channels, and
accumulators stay in float32. Where tensors are only joined, their channels have nothing to do with
one another, and each keeps its own resolution: without a limit that matters as long as nothing sums
over them (further joins, the network's outputs), and as far as the accumulator bears it elsewhere.
"""

from __future__ import annotations

import numpy as np

from sanitize.graph import Graph, Node, producer_of
from sanitize.kinds import MERGES, Trait, kinds_with

from .moving import only_moves
from .plan import AVERAGES, WEIGHTED, Block, Plan

USUAL = 2
APART = 24
"""Of channels over which nothing sums: with the rescale of the finest ones far inside 64 bits."""
MOST_SUMMED = 16
"""Of joined channels that layers sum, or align with other tensors, whatever the accumulator."""

_JOINS = kinds_with(Trait.JOINS)
_DEPTHWISE = kinds_with(Trait.DEPTHWISE)
_STAGES = AVERAGES | _DEPTHWISE | {"relu", "activation", "max_pool"}
"""Cores that treat every channel by itself, in its own steps."""


def output_spread(plan: Plan, block: Block) -> int:
    """The limit for what a block makes, at all call sites of a shared layer."""
    core, graph = block.core, plan.graph
    sites = [core] if core.share is None else graph.sites(core.share)
    blocks = [plan.blocks[site.name] for site in sites if site.name in plan.blocks]
    return min(_of_readers(plan, each.output, is_joined(graph, each.output)) for each in blocks)


def input_spread(plan: Plan, value: str) -> int:
    """The limit for a value of floats that is quantized for the layers which read it."""
    return _of_readers(plan, value, is_joined(plan.graph, value))


def is_joined(graph: Graph, value: str) -> bool:
    """Whether a value has channels of several tensors, which were only put side by side."""
    waiting, seen = [producer_of(value)], {producer_of(value)}
    while waiting:
        node = graph[waiting.pop()]
        if node.kind == "concat" and _joins_channels(graph, node):
            return True
        if only_moves(node) or node.kind in _STAGES | MERGES:
            sources = {producer_of(each) for each in node.inputs}
            waiting += sources - seen
            seen |= sources
    return False


def joined_parts(graph: Graph, value: str) -> tuple[int, ...]:
    """Channels of each tensor that was joined into a value, in order; all of them if none was."""
    node = graph[producer_of(value)]
    channels = graph.shape_of(value)[-1]
    assert channels is not None
    parts: tuple[int, ...] = ()
    if node.kind == "concat" and _joins_channels(graph, node):
        parts = tuple(part for each in node.inputs for part in joined_parts(graph, each))
    elif only_moves(node) or node.kind in _STAGES | _JOINS:
        found = [joined_parts(graph, each) for each in node.inputs if is_joined(graph, each)]
        parts = found[0] if found else ()
    return parts if sum(parts) == channels else (channels,)


def _joins_channels(graph: Graph, node: Node) -> bool:
    return node.attrs["axis"] in (-1, len(graph.shape_of(node.name)) - 1)


def _of_readers(plan: Plan, value: str, joined: bool) -> int:
    """What the layers that read a value, or a movement of it, allow."""
    limits = [APART]
    for user in plan.graph.consumers(value):
        if user.name in plan.movements:
            limits.append(_of_readers(plan, user.name, joined))
        elif user.name in plan.members:
            limits.append(_of_reader(plan, plan.members[user.name], joined))
    return min(limits)


def _of_reader(plan: Plan, reader: Block, joined: bool) -> int:
    core = reader.core
    if core.kind in _JOINS:
        return MOST_SUMMED if joined else USUAL
    if core.kind in WEIGHTED and core.kind not in _DEPTHWISE:
        return _of_sums(reader) if joined else USUAL
    if core.kind == "concat" or not reader.quantized_output:
        return APART
    return _of_readers(plan, reader.output, joined)


def _of_sums(reader: Block) -> int:
    """What the accumulator of a layer with weights has room for, whatever the weights are.

    One bit is for the sign and one for the bias.
    """
    kernel = reader.core.weights["kernel"]
    largest = 2.0 ** (reader.settings.activation_bits + reader.settings.weight_bits - 1)
    outputs = kernel.shape[2] if reader.core.kind == "conv2d_transpose" else kernel.shape[-1]
    sums = largest * kernel.size / outputs
    room = reader.settings.buffer_bits - 2 - int(np.ceil(np.log2(sums)))
    return min(max(room, USUAL), MOST_SUMMED)
