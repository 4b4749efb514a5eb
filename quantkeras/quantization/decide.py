"""Decides for every node of a sanitized float graph: integer or float, and in which block."""

from __future__ import annotations

from collections.abc import Callable

from sanitize.graph import Graph, Node, producer_of
from sanitize.kinds import MERGES
from sanitize.shapes import window_pads

from ..layers.element_function import minimum_of
from ..layers.onnx_operator import OnnxOperatorLayer, type_name
from .borders import Border, find_borders, folded_padding, join_borders
from .final_functions import is_final_function
from .layer_chains import chains_of, moved_outputs
from .moving import MOVEMENTS, only_moves
from .params import QuantizationParams
from .plan import STANDALONE, WEIGHTED, Block, FloatCause, FloatNode, FloatReason, Plan


def make_plan(graph: Graph, qparams: QuantizationParams) -> Plan:
    """Decide for every node of a sanitized graph; see :mod:`quantkeras.quantization.plan`."""
    reasons = _float_reasons(graph, qparams)
    integer = {node.name for node in graph if node.name not in reasons}
    if all(only_moves(graph[name]) or graph[name].kind == "input" for name in integer):
        graph = _with_pools_as_layers(graph)
        reasons = _float_reasons(graph, qparams)
        integer = {node.name for node in graph if node.name not in reasons}
    needed = _needed_as_integers(graph, integer)
    chains = chains_of(graph, integer, needed)
    for name in integer - needed - moved_outputs(graph, chains):
        node = graph[name]
        if only_moves(node) or node.kind == "input":
            reasons[name] = FloatCause.NOTHING_BEHIND.told()
    quantized = _quantized_outputs(graph, chains, needed)
    borders = find_borders(graph, lambda n: folded_padding(n) if n.name in chains else None)
    blocks: dict[str, Block] = {}
    members: dict[str, Block] = {}
    unsigned: set[str] = set()
    for node in graph:
        if node.name in chains:
            chain = chains[node.name]
            border = _border(graph, node, chains, borders)
            block = _block(graph, chain, quantized[node.name], unsigned, qparams, border)
            blocks[node.name] = block
            members.update({member.name: block for member in chain})
            if _is_unsigned(chain, unsigned):
                unsigned.add(block.output)
        elif only_moves(node) and node.inputs and producer_of(node.inputs[0]) in unsigned:
            unsigned.add(node.name)
    moves = frozenset(
        n.name for n in graph if only_moves(n) and n.name not in members | reasons.keys()
    )
    inputs = tuple(name for name in graph.inputs if name not in reasons)
    floats = tuple(
        FloatNode(graph[name], why.cause, why.sentence, is_final_function(graph, graph[name]))
        for name, why in reasons.items()
        if graph[name].kind not in ("input", "identity")
    )
    flowing = frozenset(members) | moves | frozenset(inputs)
    requantized = frozenset(
        value
        for name in (*(block.core.name for block in blocks.values()), *moves)
        for value in graph[name].inputs
        if producer_of(value) in reasons
    )
    bordered = frozenset(borders)
    return Plan(graph, blocks, members, moves, inputs, floats, requantized, bordered, flowing)


def _with_pools_as_layers(graph: Graph) -> Graph:
    """A network whose max pools are all that it computes: they are its hardware layers.

    Between such layers max pools move what these give; with their padding written out they need a
    layer of their own.
    """
    nodes = []
    for node in graph:
        if node.kind == "max_pool" and only_moves(node) and None not in node.shape:
            size, strides = node.attrs["size"], node.attrs["strides"]
            shape = graph.shape_of(node.inputs[0])[:2]
            pads = window_pads(node.attrs["padding"], shape, size, strides, (1, 1))
            node = node.with_attrs(padding=pads)
        nodes.append(node)
    return graph.with_nodes(nodes)


def stays_float(qparams: QuantizationParams) -> Callable[[Node], bool]:
    """Whether a node is of a layer that the user keeps in float."""
    return lambda node: qparams.for_layer(node.name, node.kind, source=node.source).float


def _float_reasons(graph: Graph, qparams: QuantizationParams) -> dict[str, FloatReason]:
    """Why each node that cannot be integer cannot, in topological order.

    Behind a layer that is float because the user asked for it integers begin again, and behind the
    layers at the beginning of the network that have no integer form they begin.
    """
    reasons: dict[str, FloatReason] = {}
    beginning = _float_beginning(graph)
    asked: set[str] = set()
    is_asked, kept = stays_float(qparams), FloatCause.ASKED.told()
    for node in graph:
        stopping = [v for v in node.inputs if producer_of(v) in reasons.keys() - asked]
        behind = stopping[0] if stopping else None
        own = kept if is_asked(node) else _refusal(graph, node, node.name in beginning)
        if (own is kept or node.name in beginning) and behind is None:
            asked.add(node.name)
        if behind is not None:
            reasons[node.name] = FloatCause.BEHIND.told(producer_of(behind))
            if own is not None and graph[behind].kind == "input":
                reasons[node.name] = own
        elif own is not None:
            reasons[node.name] = own
    return reasons


def _float_beginning(graph: Graph) -> set[str]:
    """Layers without an integer form that read inputs and each other alone.

    Only behind inputs that no other layer computes with: where integers begin at an input, they
    end at the first layer that has no integer form.
    """
    sources: dict[str, set[str]] = {}  # inputs behind each node that no integers are behind
    untouched: set[str] = set()  # nodes that hold the numbers of an input
    found: set[str] = set()
    begins: set[str] = set()
    for node in graph:
        read = [producer_of(value) for value in node.inputs]
        if not sources.keys() >= set(read):
            continue
        if _refusal(graph, node) is not None:
            found.add(node.name)
        elif not only_moves(node) and node.kind != "input":
            begins.update(*(sources[name] for name in read if name in untouched))
            continue
        elif untouched.issuperset(read):
            untouched.add(node.name)
        sources[node.name] = {node.name} if node.kind == "input" else set()
        sources[node.name].update(*(sources[name] for name in read))
    return {name for name in found if not sources[name] & begins}


def _refusal(graph: Graph, node: Node, begins: bool = False) -> FloatReason | None:
    """Why no hardware layer does this node; None if one does.

    begins: whether integers begin behind it.
    """
    if node.kind == "opaque":
        kept = node.attrs["layer"]
        why = kept.reason if isinstance(kept, OnnxOperatorLayer) else node.attrs.get("reason", "")
        remedy = (
            "integers begin behind it"
            if begins
            else "replace it by supported layers, or name it in float_layers to go on in integers "
            "behind it"
        )
        return FloatCause.LAYER.told(type_name(kept), f" ({why})" if why else "", remedy)
    if node.kind == "batchnorm":
        return FloatCause.NOT_FOLDED.told()
    if node.kind not in {"input"} | WEIGHTED | MERGES | STANDALONE | MOVEMENTS:
        return FloatCause.KIND.told(node.kind)
    if None in node.shape:
        return FloatCause.OPEN_SHAPE.told(node.shape)
    if node.kind == "activation":
        return _refused_function(graph, node)
    if node.kind == "pad" and node.attrs.get("value", 0.0) != 0.0:
        return FloatCause.PADDING.told(node.attrs["value"])
    if node.kind in ("multiply", "subtract") and len(node.inputs) != 2:
        return FloatCause.OPERANDS.told(len(node.inputs))
    return None


def _refused_function(graph: Graph, node: Node) -> FloatReason | None:
    """Why an element-wise function gets no table; None if it does."""
    if is_final_function(graph, node):
        return FloatCause.AT_THE_END.told()
    alpha = node.weights.get("alpha")
    if alpha is not None and alpha.size not in (1, alpha.shape[-1]):
        return FloatCause.SLOPES.told()
    return None


def _needed_as_integers(graph: Graph, integer: set[str]) -> set[str]:
    """Nodes from which integers reach the arithmetic of some block."""
    needed: set[str] = set()
    for node in reversed(graph.nodes):
        passive = only_moves(node) or node.kind == "input"
        if node.name in integer and (not passive or node.name in needed):
            needed.add(node.name)
            needed.update(producer_of(value) for value in node.inputs)
    return needed & integer


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
    border: Border | None,
) -> Block:
    core = chain[0]
    settings = qparams.for_layer(
        core.name,
        core.kind,
        first=core.kind in WEIGHTED and _follows_input(graph, core),
        last=not quantized,
        source=[name for node in chain for name in node.source],
    )
    function = next((node for node in chain if node.kind == "activation"), None)
    signed = not _is_unsigned(chain, unsigned)
    ends_plain = function is None and (signed or not quantized)
    bits = settings.output_bits if ends_plain else settings.activation_bits
    quantized = quantized or bits is not None
    table_signed = not _core_is_unsigned(chain, unsigned)
    signed = signed or (border is not None and border.negative)
    return Block(chain, quantized, bits or 0, signed, settings, table_signed, border is not None)


def _core_is_unsigned(chain: tuple[Node, ...], unsigned: set[str]) -> bool:
    """Whether a block makes nothing negative before its element-wise function."""
    core = chain[0]
    positive = all(producer_of(v) in unsigned for v in core.inputs)
    rectified = any(node.kind == "relu" for node in chain)
    return rectified or (positive and core.kind not in WEIGHTED | {"subtract"})


def _is_unsigned(chain: tuple[Node, ...], unsigned: set[str]) -> bool:
    """Whether a block makes nothing negative."""
    positive = _core_is_unsigned(chain, unsigned)
    function = next((node for node in chain if node.kind == "activation"), None)
    return positive if function is None else minimum_of(function.attrs, positive) >= 0


def _border(
    graph: Graph, core: Node, chains: dict[str, tuple[Node, ...]], borders: dict[str, Border]
) -> Border | None:
    """What stands around the output of a block, at any call site of a shared layer."""
    sites = [core] if core.share is None else graph.sites(core.share)
    ends = [chains[site.name][-1].name for site in sites if site.name in chains]
    found = [borders[end] for end in ends if end in borders]
    return join_borders(found) if found else None


def _follows_input(graph: Graph, node: Node) -> bool:
    """Whether only movements lie between a graph input and this node."""
    source = graph[node.inputs[0]]
    while only_moves(source):
        source = graph[source.inputs[0]]
    return source.kind == "input"
