"""Networks with channels first: their permutes move on until they meet and vanish."""

from __future__ import annotations

from ..graph import Graph, Node
from ..kinds import MERGES, Trait, kinds_with
from ..match import Match, Rewrite
from .linear import used_elsewhere

#: Without batch normalization, whose weights stay one number per channel.
_ELEMENTWISE = kinds_with(Trait.ELEMENTWISE) - {"batchnorm"}
_MOVING = _ELEMENTWISE | MERGES | {"permute"}


class PermuteBehindElementwise:
    """f(permute(x), permute(y))  ->  permute(f(x, y)), for an element-wise f or a concatenation.

    Layers with channels first are read between two permutes. Behind f the one meets that of the
    next layer. The permute of an input stays where it is: what follows has its channels last.
    """

    name = "permute behind element-wise"
    hardware_only = False

    def pattern(self, graph: Graph, node: Node) -> Match | None:
        if node.kind not in _ELEMENTWISE and node.kind not in MERGES:
            return None
        permutes = [graph[value] for value in node.inputs]
        if any(before.kind != "permute" for before in permutes):
            return None
        if len({tuple(before.attrs["dims"]) for before in permutes}) > 1:
            return None
        if any(graph[before.inputs[0]].kind in ("input", "permute") for before in permutes):
            return None
        return Match(node, {f"permute {place}": one for place, one in enumerate(permutes)})

    def check(self, graph: Graph, match: Match) -> str | None:
        for before in match.roles.values():
            # Where another reader needs the permute it stays, and there would be two.
            kinds = {reader.kind for reader in graph.consumers(before.name)}
            if not kinds <= _MOVING or graph.is_output(before.name):
                return used_elsewhere(graph, before)
        return None

    def rewrite(self, graph: Graph, match: Match) -> Rewrite:
        node = match.anchor
        permutes = [graph[value] for value in node.inputs]
        dims = tuple(permutes[0].attrs["dims"])
        back = [dims.index(axis) for axis in range(len(dims))]
        weights = {}
        for key, array in node.weights.items():
            tall = array.reshape((1,) * (len(dims) - array.ndim) + array.shape).transpose(back)
            while tall.ndim and tall.shape[0] == 1 and node.attrs.get("function") != "prelu":
                tall = tall[0]
            weights[key] = tall
        inputs = tuple(before.inputs[0] for before in permutes)
        moved = node.with_(inputs=inputs, weights=weights)
        if node.kind == "concat":
            moved = moved.with_attrs(axis=dims[node.attrs["axis"]])
        name = graph.unique_name(f"{node.name}/permuted")
        behind = permutes[0].with_(name=name, inputs=(node.name,))
        return Rewrite(add=[moved, behind], redirect={node.name: name})
