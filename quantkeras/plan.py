"""From a sanitized float graph to the decision which hardware layer each node joins.

A *block* is a core node (convolution, dense, add, ...) with what a hardware layer can do after it:
max pool, ReLU, average pool, in this order. Deciding is apart from doing: a :class:`Plan` is plain
data that prints as a table; :mod:`quantkeras.build` turns it into a Keras model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sanitize.graph import Graph, Node, producer_of

from .numerics.layer import Window, fixed_shape
from .params import LayerSettings, QuantizationParams

WEIGHTED = ("conv2d", "depthwise_conv2d", "dense")
WEIGHTLESS = ("add", "concat", "relu", "global_avg_pool", "avg_pool")
MOVEMENTS = ("flatten", "reshape", "permute", "max_pool", "pad", "identity")
FINAL_FUNCTIONS = ("softmax", "activation", "identity", "reshape", "flatten")


@dataclass(frozen=True)
class Block:
    """One hardware layer: ``nodes`` in order, the core first.

    quantized_output: whether an OutputQuantizer ends it (else it keeps its accumulator).
    bits, signed: of that quantizer; settings: what the user chose for this layer.
    """

    nodes: tuple[Node, ...]
    quantized_output: bool
    bits: int
    signed: bool
    settings: LayerSettings

    @property
    def core(self) -> Node:
        """The node that does the arithmetic."""
        return self.nodes[0]

    @property
    def name(self) -> str:
        """Name of the hardware layer."""
        return self.core.name

    @property
    def output(self) -> str:
        """Name of the value the block makes."""
        return self.nodes[-1].name

    def absorbed(self, *kinds: str) -> Node | None:
        """The node of one of these kinds behind the core (or the core itself), if there is one."""
        return next((n for n in self.nodes if n.kind in kinds), None)


@dataclass(frozen=True)
class FloatNode:
    """A node that stays float, and why. ``expected``: a function at the very end of the model."""

    node: Node
    reason: str
    expected: bool = False


@dataclass(frozen=True)
class Plan:
    """What becomes of each node of ``graph``.

    blocks: by name of their core; members: name of every node in a block -> its block; movements:
    nodes that only move integers; inputs: names of graph inputs that get an InputQuantizer;
    floats: what stays float.
    """

    graph: Graph
    blocks: dict[str, Block]
    members: dict[str, Block]
    movements: frozenset[str]
    inputs: tuple[str, ...]
    floats: tuple[FloatNode, ...]
    _integer: frozenset[str] = field(repr=False, default=frozenset())

    def is_integer(self, value: str) -> bool:
        """Whether integers flow in this value."""
        return producer_of(value) in self._integer

    def keeps_channels(self, value: str) -> bool:
        """Whether formats per channel are possible for a value.

        They are not where channels are moved off the last axis and then pooled or padded: one
        window would see several formats.
        """
        waiting = [(producer_of(value), False)]
        while waiting:
            name, moved = waiting.pop()
            for user in self.graph.consumers(name):
                if user.name not in self.movements:
                    continue
                if moved and user.kind in ("max_pool", "pad"):
                    return False
                waiting.append((user.name, moved or _moves_channels(self.graph, user)))
        return True

    @property
    def stops(self) -> tuple[FloatNode, ...]:
        """Float nodes that themselves are the reason, not merely behind one."""
        consequences = ("behind", "nothing behind")
        return tuple(
            f for f in self.floats if not f.expected and not f.reason.startswith(consequences)
        )

    def __str__(self) -> str:
        lines = [f"plan of {self.graph.name}: {len(self.blocks)} hardware layers"]
        for block in self.blocks.values():
            chain = " > ".join(node.kind for node in block.nodes)
            output = f"{'int' if block.signed else 'uint'}{block.bits}"
            weights = f" w{block.settings.weight_bits}" if block.core.kind in WEIGHTED else ""
            kept = output if block.quantized_output else "accumulator"
            lines.append(f"  {block.name}: {chain}{weights} -> {kept}")
        lines += [f"  float {f.node.name} ({f.node.kind}): {f.reason}" for f in self.floats]
        return "\n".join(lines)


def make_plan(graph: Graph, qparams: QuantizationParams) -> Plan:
    """Decide for every node of a sanitized graph; see the module docstring."""
    reasons = _float_reasons(graph, qparams)
    integer = {node.name for node in graph if node.name not in reasons}
    needed = _needed_as_integers(graph, integer)
    chains = _chains(graph, integer, needed)
    for name in integer - needed:
        node = graph[name]
        if node.kind in MOVEMENTS or node.kind == "input":
            reasons[name] = "nothing behind it is integer"
    quantized = _quantized_outputs(graph, chains, needed)
    blocks: dict[str, Block] = {}
    members: dict[str, Block] = {}
    unsigned: set[str] = set()
    for node in graph:
        if node.name in chains:
            chain = chains[node.name]
            block = _block(graph, chain, quantized[node.name], unsigned, qparams)
            blocks[node.name] = block
            members.update({member.name: block for member in chain})
            if not block.signed:
                unsigned.add(block.output)
        elif node.kind in MOVEMENTS and node.inputs and producer_of(node.inputs[0]) in unsigned:
            unsigned.add(node.name)
    moves = frozenset(
        n.name for n in graph if n.kind in MOVEMENTS and n.name not in members | reasons.keys()
    )
    inputs = tuple(name for name in graph.inputs if name not in reasons)
    floats = tuple(
        FloatNode(graph[name], reason, _is_final_function(graph, graph[name]))
        for name, reason in reasons.items()
        if graph[name].kind not in ("input", "identity")
    )
    flowing = frozenset(members) | moves | frozenset(inputs)
    return Plan(graph, blocks, members, moves, inputs, floats, flowing)


def _float_reasons(graph: Graph, qparams: QuantizationParams) -> dict[str, str]:
    """Why each node that cannot be integer cannot, in topological order."""
    reasons: dict[str, str] = {}
    for node in graph:
        settings = qparams.for_layer(node.name, node.kind, source=node.source)
        behind = next((v for v in node.inputs if producer_of(v) in reasons), None)
        own = "kept in float as asked" if settings.float else _refusal(graph, node)
        if behind is not None:
            reasons[node.name] = f"behind {producer_of(behind)!r}, which is float"
            if own is not None and graph[behind].kind == "input":
                reasons[node.name] = own
        elif own is not None:
            reasons[node.name] = own
    return reasons


def _refusal(graph: Graph, node: Node) -> str | None:
    """One sentence why no hardware layer does this node; None if one does."""
    if node.kind in ("input", "add") or node.kind in MOVEMENTS:
        return _odd_shape(graph, node)
    if node.kind == "opaque":
        layer = type(node.attrs["layer"]).__name__
        return f"{layer} has no integer form here; replace it by supported layers"
    if node.kind in WEIGHTED or node.kind in ("relu", "concat", "global_avg_pool"):
        return _odd_shape(graph, node)
    if node.kind == "avg_pool":
        window = Window(node.attrs["size"], node.attrs["strides"], node.attrs["padding"])
        size = graph.shape_of(node.inputs[0])[:2]
        if None in size or window.pads(fixed_shape(size)) != ((0, 0), (0, 0)):
            return "average pooling over a padded border divides by a number that varies"
        return None
    if node.kind == "batchnorm":
        return "a BatchNormalization that could not be folded has no integer form"
    return f"{node.attrs.get('function', node.kind)} has no integer form"


def _odd_shape(graph: Graph, node: Node) -> str | None:
    if None in node.shape:
        return f"its shape {node.shape} is not fixed; give the model a fixed input size"
    if node.kind == "dense" and len(node.shape) != 1:
        return None
    if node.kind == "add":
        shapes = {graph.shape_of(value) for value in node.inputs}
        if len(shapes) > 1:
            return f"it adds tensors of different shapes {sorted(shapes)}"
    return None


def _needed_as_integers(graph: Graph, integer: set[str]) -> set[str]:
    """Nodes from which integers reach the arithmetic of some block."""
    needed: set[str] = set()
    for node in reversed(graph.nodes):
        if node.name in integer and (node.kind not in (*MOVEMENTS, "input") or node.name in needed):
            needed.add(node.name)
            needed.update(producer_of(value) for value in node.inputs)
    return needed & integer


def _chains(graph: Graph, integer: set[str], needed: set[str]) -> dict[str, tuple[Node, ...]]:
    """Name of each core -> the nodes of its block."""
    chains: dict[str, tuple[Node, ...]] = {}
    taken: set[str] = set()
    for node in graph:
        if node.name in taken or node.name not in integer or node.kind in (*MOVEMENTS, "input"):
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
    stages = ["max_pool", "relu", "global_avg_pool avg_pool"]
    if core.kind == "relu":
        stages = stages[2:]
    elif core.kind in ("global_avg_pool", "avg_pool") or len(core.shape) != 3:
        stages = ["relu"] if core.kind in (*WEIGHTED, "add", "concat") else []
    for stage in stages:
        last = chain[-1]
        users = graph.consumers(last.name)
        if graph.uses(last.name) != 1 or len(users) != 1 or users[0].name not in integer:
            break
        follower = users[0]
        pooled = any(n.kind == "max_pool" for n in chain)
        averaging = follower.kind in ("global_avg_pool", "avg_pool")
        if follower.kind in stage.split() and not (pooled and averaging):
            chain.append(follower)
    return tuple(chain)


def _cut_to_common(
    graph: Graph, chains: dict[str, tuple[Node, ...]], sites: Sequence[tuple[Node, ...]]
) -> None:
    """Cut the chains of a shared layer to what all its call sites do alike."""
    length = min(len(chain) for chain in sites)
    while length > 1 and len({_signature(chain[:length]) for chain in sites}) > 1:
        length -= 1
    for chain in sites:
        for rest in chain[length:]:
            if rest.kind not in MOVEMENTS:
                chains[rest.name] = (rest,)
        chains[chain[0].name] = chain[:length]


def _signature(chain: Iterable[Node]) -> str:
    return "; ".join(f"{node.kind} {sorted(node.attrs.items())!r}" for node in chain)


def _quantized_outputs(
    graph: Graph, chains: dict[str, tuple[Node, ...]], needed: set[str]
) -> dict[str, bool]:
    """Whether each block, by core, must put its output on a grid: integers read it."""
    members = {node.name: name for name, chain in chains.items() for node in chain}
    result = {}
    for name, chain in chains.items():
        output = chain[-1].name
        readers = [u for u in graph.consumers(output) if members.get(u.name) != name]
        result[name] = any(u.name in members or u.name in needed for u in readers)
    for node in graph:
        if node.share is not None and node.name in result:
            sites = [s.name for s in graph.sites(node.share) if s.name in result]
            shared = any(result[s] for s in sites)
            result.update(dict.fromkeys(sites, shared))
    return result


def _block(
    graph: Graph,
    chain: tuple[Node, ...],
    quantized: bool,
    unsigned: set[str],
    qparams: QuantizationParams,
) -> Block:
    core = chain[0]
    settings = qparams.for_layer(
        core.name,
        core.kind,
        first=core.kind in WEIGHTED and _follows_input(graph, core),
        last=not quantized,
        source=[name for node in chain for name in node.source],
    )
    rectified = any(node.kind == "relu" for node in chain)
    positive = core.kind not in WEIGHTED and all(producer_of(v) in unsigned for v in core.inputs)
    signed = not (rectified or positive)
    bits = settings.output_bits if signed or not quantized else settings.activation_bits
    quantized = quantized or bits is not None
    return Block(chain, quantized, bits or 0, signed, settings)


def _follows_input(graph: Graph, node: Node) -> bool:
    """Whether only movements lie between a graph input and this node."""
    source = graph[node.inputs[0]]
    while source.kind in MOVEMENTS:
        source = graph[source.inputs[0]]
    return source.kind == "input"


def _moves_channels(graph: Graph, node: Node) -> bool:
    """Whether a movement takes channels off the last axis."""
    if node.kind == "permute":
        return bool(node.attrs["dims"][-1] != len(node.shape) - 1)
    if node.kind in ("flatten", "reshape"):
        return graph.shape_of(node.inputs[0])[-1] != node.shape[-1]
    return False


def _is_final_function(graph: Graph, node: Node) -> bool:
    """Whether this is (part of) a softmax, sigmoid or the like at the very end of the model."""
    if node.kind not in FINAL_FUNCTIONS:
        return False
    return all(_is_final_function(graph, user) for user in graph.consumers(node.name))
