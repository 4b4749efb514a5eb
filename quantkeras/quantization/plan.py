"""The decision which hardware layer each node of a sanitized float graph joins, as plain data.

A *block* is a core node (convolution, dense, add, ...) with what a hardware layer can do after it:
max pool, ReLU, average pool, any other element-wise function, in this order. Deciding
(:mod:`quantkeras.quantization.decide`) is apart from doing (:mod:`quantkeras.quantization.build`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from sanitize.graph import Graph, Node, producer_of
from sanitize.kinds import Trait, kinds_with

from .moving import moves_channels
from .params import LayerSettings

WEIGHTED = kinds_with(Trait.LINEAR)
AVERAGES = kinds_with(Trait.AVERAGES)
STANDALONE = AVERAGES | {"relu", "activation"}


class FloatCause(Enum):
    """Why a node stays float: the sentence that tells it, with places for its particulars."""

    ASKED = "kept in float as asked"
    BEHIND = "behind {!r}, which is float"
    NOTHING_BEHIND = "nothing behind it is integer"
    LAYER = "{} has no integer form here{}; {}"
    NOT_FOLDED = "a BatchNormalization that could not be folded has no integer form"
    KIND = "{} has no integer form"
    OPEN_SHAPE = "its shape {} is not fixed; give the model a fixed input size"
    AT_THE_END = "the function at the end of the model is left to the application"
    SLOPES = "its slope differs between positions, and tables between channels only"
    PADDING = "it pads with {:g}, and integers with zeros only"
    OPERANDS = "it takes {} inputs, and a hardware layer two"

    def told(self, *particulars: object) -> FloatReason:
        """The reason with what it depends on."""
        return FloatReason(self, self.value.format(*particulars))


@dataclass(frozen=True)
class FloatReason:
    """Why one node stays float. sentence: what the user is told of the cause."""

    cause: FloatCause
    sentence: str


@dataclass(frozen=True)
class Block:
    """One hardware layer: ``nodes`` in order, the core first.

    quantized_output: whether an OutputQuantizer ends it (else it keeps its accumulator).
    bits, signed: of that quantizer; settings: what the user chose for this layer; table_signed:
    whether what enters the table of an element-wise function has a sign; bordered: whether layers
    put something but zeros around the output.
    """

    nodes: tuple[Node, ...]
    quantized_output: bool
    bits: int
    signed: bool
    settings: LayerSettings
    table_signed: bool = True
    bordered: bool = False

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
    cause: FloatCause
    reason: str
    expected: bool = False

    @property
    def is_consequence(self) -> bool:
        """Whether it is float because of another node only."""
        others = (FloatCause.BEHIND, FloatCause.NOTHING_BEHIND)
        return not self.expected and self.cause in others


@dataclass(frozen=True)
class Plan:
    """What becomes of each node of ``graph``.

    blocks: by name of their core; members: name of every node in a block -> its block; movements:
    nodes that only move integers; inputs: names of graph inputs that get an InputQuantizer;
    floats: what stays float. requantized: values of layers that stay float as asked, which integer
    layers read. bordered: values around which integer layers put something but zeros.
    """

    graph: Graph
    blocks: dict[str, Block]
    members: dict[str, Block]
    movements: frozenset[str]
    inputs: tuple[str, ...]
    floats: tuple[FloatNode, ...]
    requantized: frozenset[str] = frozenset()
    bordered: frozenset[str] = frozenset()
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
                if moved and user.kind in ("max_pool", "pad", "upsample"):
                    return False
                waiting.append((user.name, moved or moves_channels(self.graph, user)))
        return True

    @property
    def stops(self) -> tuple[FloatNode, ...]:
        """Float nodes that nobody asked for and that themselves are the reason."""
        return tuple(
            f
            for f in self.floats
            if not (f.expected or f.cause is FloatCause.ASKED or f.is_consequence)
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
