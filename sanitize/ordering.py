"""The nodes of a graph in order: producers first, without dead ones, with their shapes."""

from __future__ import annotations

from collections.abc import Sequence

from .node import GraphError, Node, node_shape, output_index, producer_of, value_shape


def sorted_live(nodes: list[Node], inputs: Sequence[str], outputs: Sequence[str]) -> list[Node]:
    """Nodes that the outputs need (and all inputs), producers first, otherwise in given order."""
    index = {node.name: node for node in nodes}
    order = {name: position for position, name in enumerate(index)}
    if len(index) != len(nodes):
        names = [node.name for node in nodes]
        twice = next(name for name in names if names.count(name) > 1)
        raise GraphError(f"two nodes are named '{twice}'; names must be unique")
    live: set[str] = set()
    waiting = [producer_of(value) for value in (*inputs, *outputs)]
    while waiting:
        name = waiting.pop()
        if name in live:
            continue
        if name not in index:
            raise GraphError(f"'{name}' is read but no node makes it")
        live.add(name)
        waiting += [producer_of(value) for value in index[name].inputs]
    done: dict[str, Node] = {}
    for root in sorted(live, key=order.__getitem__):
        stack = [root]
        path: set[str] = set()
        while stack:
            name = stack[-1]
            if name in done:
                stack.pop()
                continue
            path.add(name)
            needs = [producer_of(v) for v in index[name].inputs if producer_of(v) not in done]
            if any(need in path for need in needs):
                raise GraphError(f"node '{name}' depends on its own output")
            if needs:
                stack += reversed(needs)
            else:
                done[name] = index[name]
                path.discard(name)
                stack.pop()
    return list(done.values())


def with_shapes(nodes: list[Node]) -> list[Node]:
    """Nodes (producers first) with the shapes that follow from their inputs."""
    done: dict[str, Node] = {}
    for node in nodes:
        shapes = [value_shape(done[producer_of(value)], value) for value in node.inputs]
        shape = node_shape(node, shapes)
        done[node.name] = node if shape == node.shape else node.with_(shape=shape)
    return list(done.values())


def check_nodes(nodes: Sequence[Node], inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Raise GraphError, naming the node, unless the graph of these nodes is well formed."""
    seen: dict[str, Node] = {}
    for node in nodes:
        for value in node.inputs:
            if producer_of(value) not in seen:
                raise GraphError(f"node '{node.name}' reads '{value}', which no earlier node makes")
            if output_index(value) >= seen[producer_of(value)].output_count:
                raise GraphError(f"node '{node.name}' reads '{value}', an output that is not there")
        shapes = [value_shape(seen[producer_of(value)], value) for value in node.inputs]
        if node_shape(node, shapes) != node.shape:
            raise GraphError(
                f"node '{node.name}' ({node.kind}) claims the shape {node.shape} but makes"
                f" {node_shape(node, shapes)}"
            )
        seen[node.name] = node
    for name in inputs:
        if name not in seen or seen[name].kind != "input":
            raise GraphError(f"graph input '{name}' is not an input node")
    for node in nodes:
        if node.kind == "input" and node.name not in inputs:
            raise GraphError(f"input node '{node.name}' is not among the graph's inputs")
    for value in outputs:
        if producer_of(value) not in seen:
            raise GraphError(f"graph output '{value}' is made by no node")
