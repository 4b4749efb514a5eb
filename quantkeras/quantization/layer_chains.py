"""Which nodes one hardware layer does together: a core and the stages behind it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from sanitize.graph import Graph, Node, producer_of

from .moving import only_moves
from .plan import AVERAGES


def chains_of(graph: Graph, integer: set[str], needed: set[str]) -> dict[str, tuple[Node, ...]]:
    """Name of each core -> the nodes of its block."""
    chains: dict[str, tuple[Node, ...]] = {}
    taken: set[str] = set()
    for node in graph:
        passive = only_moves(node) or node.kind == "input"
        if node.name in taken or node.name not in integer or passive:
            continue
        chain = _chain(graph, node, integer)
        chains[node.name] = chain
        taken.update(member.name for member in chain)
    for node in graph:  # all call sites of a shared layer are one layer: the same chain for all
        if node.share is not None and node.name in chains:
            sites = [chains[s.name] for s in graph.sites(node.share) if s.name in chains]
            if len(sites) > 1:
                _cut_to_common(graph, chains, sites)
    return chains


def _chain(graph: Graph, core: Node, integer: set[str]) -> tuple[Node, ...]:
    chain = [core]
    stages: list[Collection[str]] = [("max_pool",), ("relu",), AVERAGES, ("activation",)]
    if core.kind == "activation":
        stages = []
    elif core.kind == "max_pool":
        stages = stages[1:]
    elif core.kind == "relu":
        stages = stages[2:]
    elif core.kind in AVERAGES:
        stages = stages[3:]
    elif len(core.shape) != 3:
        stages = [("relu",), ("activation",)]
    for stage in stages:
        last = chain[-1]
        users = graph.consumers(last.name)
        if graph.uses(last.name) != 1 or len(users) != 1 or users[0].name not in integer:
            break
        follower = users[0]
        pooled = any(n.kind == "max_pool" for n in chain)
        averaging = follower.kind in AVERAGES
        rectified = any(n.kind == "relu" for n in chain) and follower.kind == "activation"
        if follower.kind in stage and not (pooled and averaging) and not rectified:
            chain.append(follower)
    return tuple(chain)


def _cut_to_common(
    graph: Graph, chains: dict[str, tuple[Node, ...]], sites: Sequence[tuple[Node, ...]]
) -> None:
    """Cut the chains of a shared layer to what all its call sites do alike."""
    length = min(len(chain) for chain in sites)
    while length > 1 and not all(_alike(sites[0][:length], chain[:length]) for chain in sites):
        length -= 1
    for chain in sites:
        for rest in chain[length:]:
            if not only_moves(rest):
                chains[rest.name] = (rest,)
        chains[chain[0].name] = chain[:length]


def _alike(chain: Iterable[Node], other: Iterable[Node]) -> bool:
    """Whether two chains of the same core compute the same."""
    return all(
        a.kind == b.kind
        and a.attrs == b.attrs
        and a.weights.keys() == b.weights.keys()
        and all(np.array_equal(a.weights[name], b.weights[name]) for name in a.weights)
        for a, b in zip(chain, other, strict=True)
    )


def moved_outputs(graph: Graph, chains: dict[str, tuple[Node, ...]]) -> set[str]:
    """Movements of what blocks give: they belong to the integer part, whoever reads them."""
    found = {chain[-1].name for chain in chains.values()}
    for node in graph:
        if only_moves(node) and producer_of(node.inputs[0]) in found:
            found.add(node.name)
    return found
