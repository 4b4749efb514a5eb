"""The integer parts of a quantized model: those that float layers separate."""

from __future__ import annotations

from sanitize.graph import Graph, producer_of

from ..layers import Dequantizer, HardwareLayer, InputQuantizer


def integer_parts(graph: Graph) -> dict[str, int]:
    """Name of each node that handles integers, its Dequantizers included -> number of its part.

    Part 0 begins at the inputs of the model, or behind the float layers that it begins with; each
    InputQuantizer behind further float layers begins a new part, numbered above all parts that it
    depends on. Other nodes belong to the last of the parts that they read.
    """
    depth: dict[str, int] = {}
    integer: dict[str, int] = {}
    for node in graph:
        read = [producer_of(value) for value in node.inputs]
        layer = node.attrs.get("layer")
        # -1: there are no integers in front of it.
        depth[node.name] = max((depth[name] for name in read), default=-1)
        if isinstance(layer, InputQuantizer):
            depth[node.name] += 1
            integer[node.name] = depth[node.name]
        elif isinstance(layer, HardwareLayer | Dequantizer):
            depth[node.name] = max(depth[node.name], 0)
            integer[node.name] = depth[node.name]
        elif read and node.kind != "opaque" and all(name in integer for name in read):
            ended = any(isinstance(graph[name].attrs.get("layer"), Dequantizer) for name in read)
            if not ended:
                integer[node.name] = depth[node.name]
    return integer
