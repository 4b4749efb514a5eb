"""Adaptive rounding block by block: what counts is the error behind a whole residual block.

Li et al. 2021, "BRECQ: pushing the limit of post-training quantization by block reconstruction",
arXiv:2102.05426: weights of several layers are rounded together, for the least squared error of
the block's output, activations quantized. Each weight may become one of two neighbouring integers
(:mod:`.soft_rounding`); it begins at what the search layer by layer has found, and is kept only
where it is better on samples held out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from sanitize.graph import Graph, Node, producer_of

from ..layers import InputQuantizer, WeightedLayer
from ..numerics.layer import LayerParams
from ..qmodel import QuantizedGraph, layer_of, rounding_layer
from ..qmodel.views import view
from ..quantization.moving import MOVEMENTS
from ..terminal.progress import progress_bar
from .layer_by_layer import exact_call, float_call, in_batches, needed_nodes
from .linear_rows import as_kernel
from .soft_rounding import SoftRounding

Floats = NDArray[np.float32]

SHARPEST, SOFTEST = 2.0, 20.0
"""beta falls from the softest, which leaves h alone but near 0 and 1, to the sharpest."""
WARM_UP = 0.2
"""Part of the steps without the term that decides."""
DECISION = 1.0
LEARNING_RATE = 0.1
BATCH = 32
HELD_OUT = 4
DECIDED = 1e-3
LOOK_EVERY = 50


@dataclass(frozen=True)
class BlockResult:
    """What block reconstruction did.

    Attributes:
        layers: names of those in the block.
        before: mean squared error of the block's output on samples held out.
        after: the same afterwards.
        moved: part of the integers that changed.
        steps: of gradient descent.
        kept: False if it was no better, and undone.
    """

    layers: tuple[str, ...]
    before: float
    after: float
    moved: float
    steps: int
    kept: bool


def blocks_of(reading: QuantizedGraph) -> list[list[Node]]:
    """The nodes that layers with weights depend on, cut wherever a single value is alive.

    Each block has one input, or those of the model, and ends in one value.
    """
    nodes = needed_nodes(reading)
    last = {producer_of(v): i for i, node in enumerate(nodes) for v in node.inputs}
    found: list[list[Node]] = []
    block: list[Node] = []
    alive: set[str] = set()
    for index, node in enumerate(nodes):
        block.append(node)
        alive = {name for name in alive if last[name] > index}
        if last.get(node.name, -1) > index:
            alive.add(node.name)
        weighted = any(layer_of(n, WeightedLayer) for n in block)
        if index == len(nodes) - 1 or (weighted and alive == {node.name}):
            found.append(block)
            block = []
    return found


def reconstruct_blocks(
    reading: QuantizedGraph,
    samples: Mapping[str, Floats],
    floats: Mapping[int, LayerParams],
    wishes: Mapping[int, NDArray[np.float64]],
    iterations: int,
    seed: int = 0,
) -> tuple[BlockResult, ...]:
    """Reconstruct all blocks of a quantized graph in turn.

    samples: by input name. floats: see :func:`.walk.float_parameters`. wishes: the real weights
    that suit a layer best, by its id, (groups, k, o); other layers stay as they are. iterations:
    most steps of gradient descent for a block.
    """
    generator = np.random.default_rng(seed)
    results = []
    exact: dict[str, Floats] = dict(samples)
    true: dict[str, Floats] = dict(samples)
    blocks = blocks_of(reading)
    with progress_bar(len(blocks), "rounding blocks") as advance:
        for nodes in blocks:
            target = _run(nodes, true, lambda node: float_call(node, floats))
            output = _run(nodes, exact, exact_call)
            weighted = [layer_of(node, WeightedLayer) for node in nodes]
            chosen = [x for x in weighted if x is not None and id(x) in wishes]
            if chosen and all(map(_is_integer, nodes)):
                block = _Block(nodes, reading.graph, chosen, wishes, exact, target)
                result, output = block.reconstruct(output, iterations, generator)
                results.append(result)
            exact, true = {nodes[-1].name: output}, {nodes[-1].name: target}
            advance(1)
    return tuple(results)


def _run(
    nodes: Sequence[Node], given: Mapping[str, Floats], call: Callable[[Node], Callable[..., Any]]
) -> Floats:
    """The last value of a block, for all samples."""
    names = list(given)

    def block(*arrays: Any) -> Any:
        values: dict[str, Any] = dict(zip(names, arrays, strict=True))
        for node in nodes:
            if node.name not in values:
                values[node.name] = call(node)(*(values[producer_of(v)] for v in node.inputs))
        return values[nodes[-1].name]

    return in_batches(block, list(given.values()))


class _Block:
    """One block, its inputs in the quantized model, and the float output that it should give."""

    def __init__(
        self,
        nodes: Sequence[Node],
        graph: Graph,
        layers: Sequence[WeightedLayer],
        wishes: Mapping[int, NDArray[np.float64]],
        inputs: Mapping[str, Floats],
        target: Floats,
    ) -> None:
        self.nodes = nodes
        self.inputs = inputs
        self.target = target
        self.soft = {id(a): SoftRounding(a, as_kernel(a, wishes[id(a)])) for a in layers}
        self.model = _trainable(nodes, graph, list(inputs), self.soft)

    def reconstruct(
        self, output: Floats, iterations: int, generator: np.random.Generator
    ) -> tuple[BlockResult, Floats]:
        """Learn, round, and keep what is better; the result, and the block's present output."""
        held_out = np.arange(len(output)) % HELD_OUT == HELD_OUT - 1
        steps = self._learn(np.flatnonzero(~held_out), iterations, generator)
        judged = held_out if held_out.any() else ~held_out
        kernels = (soft.layer.kernel for soft in self.soft.values())
        before = [np.array(ops.convert_to_numpy(kernel)) for kernel in kernels]
        moved = [soft.harden() for soft in self.soft.values()]
        found = _run(self.nodes, self.inputs, exact_call)
        error, less = (
            float(np.mean((y[judged] - self.target[judged]) ** 2, dtype=np.float64))
            for y in (output, found)
        )
        kept = less < error
        if not kept:
            for soft, kernel in zip(self.soft.values(), before, strict=True):
                soft.layer.kernel.assign(kernel)
        names = tuple(soft.layer.name for soft in self.soft.values())
        result = BlockResult(names, error, less, float(np.mean(moved)), steps, kept)
        return result, found if kept else output

    def _learn(self, rows: NDArray[np.int64], iterations: int, generator: Any) -> int:
        """Steps of gradient descent; fewer than asked for if all weights are decided."""
        spread = max(float(self.target.var(dtype=np.float64)), 1e-12)

        def error(wanted: Any, found: Any) -> Any:
            return ops.mean(ops.square(found - wanted)) / spread

        self.model.compile(keras.optimizers.Adam(LEARNING_RATE), loss=error, jit_compile=False)
        arrays = list(self.inputs.values())
        for index in range(iterations):
            share = max(0.0, (index / iterations - WARM_UP) / (1 - WARM_UP))
            beta = SHARPEST + (SOFTEST - SHARPEST) * 0.5 * (1 + math.cos(math.pi * share))
            for soft in self.soft.values():
                soft.sharpness.assign(beta)
                soft.decision.assign(DECISION if share > 0 else 0.0)
            chosen = np.sort(generator.choice(rows, min(BATCH, len(rows)), replace=False))
            batch = [array[chosen] for array in arrays]
            self.model.train_on_batch(batch if len(batch) > 1 else batch[0], self.target[chosen])
            if share > 0 and index % LOOK_EVERY == 0:
                open_share = [soft.undecided() for soft in self.soft.values()]
                if max(open_share) < DECIDED:
                    return index + 1
        return iterations


def _trainable(
    nodes: Sequence[Node], graph: Graph, inputs: Sequence[str], soft: Mapping[int, SoftRounding]
) -> keras.Model:
    """A block as a model of its own, with soft weights; nothing else in it is trained."""
    entering = [
        Node(name, "input", (), {"dtype": "float32"}, {}, graph.shape_of(name)) for name in inputs
    ]
    inner = [node for node in nodes if node.name not in inputs]
    block = Graph.build([*entering, *inner], tuple(inputs), (nodes[-1].name,), "block")
    return view(block, lambda layer: soft.get(id(layer)) or _training_call(layer), None)


def _is_integer(node: Node) -> bool:
    """Whether it is quantized, or moves values: not a layer that stays float."""
    moves = node.kind == "input" or node.kind in MOVEMENTS
    return moves or rounding_layer(node) is not None


def _training_call(layer: Any) -> Callable[[Any], Any]:
    if isinstance(layer, InputQuantizer):
        return layer.call  # in training it might follow its range
    return lambda inputs: layer.soft_call(inputs)
