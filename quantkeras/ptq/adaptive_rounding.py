"""Adaptive rounding: the integers of the weights are chosen for the least error of the outputs.

Nagel et al. 2020, "Up or down? Adaptive rounding for post-training quantization",
arXiv:2004.10568, in two stages:

* Layer by layer, on the inputs that the layers before, already rounded, really give. There the
  error is quadratic in the weights, so the samples are needed once, for their second moments
  (:mod:`.least_squares`), and the integers come from a search without samples (:mod:`.lattice`).
  The bias follows in closed form.
* Block by block, on request: the error behind the whole of a residual block counts, with its
  activations (:mod:`.blocks`).

The result is ordinary: float weights that are integers times the step of their channel. The model
is saved, converted, trained as any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from ..errors import QuantizationError
from ..layers import WeightedLayer, forget_compiled
from ..qmodel import QuantizedGraph
from ..terminal.progress import progress_bar
from ..terminal.text_tables import plain_table
from .blocks import BlockResult, reconstruct_blocks
from .lattice import nearest, search
from .layer_by_layer import Step, Walk, float_parameters
from .least_squares import RowSums, pose
from .linear_rows import along_outputs, as_kernel, as_matrices, sampled_rows

Array = NDArray[np.float64]

HELD_OUT = 4
"""Each so many-th sample decides how far weights may leave the float ones."""
FEWEST_ROWS, MOST_ROWS, ROWS_PER_INPUT = 2**13, 2**15, 32
ATTEMPTS = 3
"""A step may have to grow for the integers found; then they are sought again."""


@dataclass(frozen=True)
class RoundingResult:
    """What happened to the weights of one layer.

    Attributes:
        layer: its name.
        before: mean squared error of the output that the rounding of the weights adds, to the
            nearest integer.
        after: the same, adaptively.
        moved: part of the weights that are not the nearest integer of the float weight.
        penalty: how strongly the float weights held the new ones, infinite where they were only
            rounded.
        reason: why the layer was left as it is.
    """

    layer: str
    before: float = 0.0
    after: float = 0.0
    moved: float = 0.0
    penalty: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class RoundingReport:
    """What became of the weights.

    Attributes:
        layers: one entry per layer with weights.
        blocks: one per block that was reconstructed.
    """

    layers: tuple[RoundingResult, ...]
    blocks: tuple[BlockResult, ...] = ()

    HEADER = ("layer", "error, nearest", "adaptive", "moved", "remark")

    def rows(self) -> list[tuple[str, ...]]:
        """The cells of the table under HEADER: layers, then blocks."""
        rows: list[tuple[str, ...]] = []
        for entry in self.layers:
            if entry.reason:
                rows.append((entry.layer, "-", "-", "-", entry.reason))
                continue
            moved = f"{100 * entry.moved:.1f} %"
            rows.append((entry.layer, f"{entry.before:.3g}", f"{entry.after:.3g}", moved, ""))
        for block in self.blocks:
            remark = "block" if block.kept else "block, left as it was"
            name, moved = ", ".join(block.layers), f"{100 * block.moved:.1f} %"
            rows.append((name, f"{block.before:.3g}", f"{block.after:.3g}", moved, remark))
        return rows

    def __str__(self) -> str:
        return "\n".join(plain_table(self.HEADER, self.rows(), left=1))


def adaround(
    model: Any,
    samples: Any,
    iterations: int = 0,
    num_samples: int | None = 512,
    sweeps: int = 30,
    seed: int = 0,
    verbose: bool = False,
) -> keras.Model:
    """Round the weights of a quantized model adaptively.

    The float model is what the weights of ``model`` say when it is called: once after ``quantize``,
    in place of ``correct_bias``. ``calibrate`` afterwards would choose the steps of the weights
    anew, and round them to the nearest again.

    Args:
        model: the model, which is changed, or its reading, see
            :class:`~quantkeras.qmodel.QuantizedGraph`.
        samples: unlabelled data, as for ``calibrate``.
        iterations: 0 rounds layer by layer; more are steps of gradient descent for each block of
            layers after that.
        num_samples: at most that many, None for all.
        sweeps: most rounds of the search in a layer; it ends when hardly a weight moves.
        seed: of what is drawn: rows of the samples, and batches.
        verbose: print what was done for each layer.

    Returns:
        The model that was given.

    Raises:
        QuantizationError: for a model without quantized layers or with live batch normalizations,
            for fewer than 0 iterations, and for bad samples.
    """
    reading = QuantizedGraph.of(model)
    report = round_adaptively(reading, samples, iterations, num_samples, sweeps, seed)
    if verbose:
        print(report)
    return reading.model


def round_adaptively(
    model: Any,
    samples: Any,
    iterations: int = 0,
    num_samples: int | None = 512,
    sweeps: int = 30,
    seed: int = 0,
) -> RoundingReport:
    """Do what :func:`adaround` does, and report.

    Args:
        model: as there, and so are all that follow.
        samples: see there.
        iterations: see there.
        num_samples: see there.
        sweeps: see there.
        seed: see there.

    Returns:
        What became of the weights.

    Raises:
        QuantizationError: as there.
    """
    if iterations < 0:
        raise QuantizationError(f"{iterations} iterations of adaround; give 0 or more")
    reading = QuantizedGraph.of(model)
    model = reading.model
    if any(layer.batchnorm is not None for _, layer in reading.weighted()):
        raise QuantizationError(
            f"model {model.name!r} has live batch normalizations; call fold_batchnorm first"
        )
    floats = float_parameters(reading)
    entries: list[RoundingResult] = []
    wishes: dict[int, Array] = {}
    with (
        Walk(reading, samples, num_samples) as walk,
        progress_bar(walk.layers, "rounding layers") as advance,
    ):
        for step in walk:
            if step.node.share is not None:
                reason = "it is a shared layer, whose call sites would want different weights"
                entries.append(RoundingResult(step.node.name, reason=reason))
            else:
                result, best = round_layer(step, sweeps, np.random.default_rng(seed))
                entries.append(result)
                wishes[id(step.layer)] = best
            advance(1)
        data = walk.samples
    blocks: tuple[BlockResult, ...] = ()
    if iterations:
        blocks = reconstruct_blocks(reading, data, floats, wishes, iterations, seed)
    forget_compiled(model)
    return RoundingReport(tuple(entries), blocks)


def round_layer(
    step: Step, sweeps: int, generator: np.random.Generator
) -> tuple[RoundingResult, Array]:
    """Round one layer; also the real weights that would serve it best, (groups, k, o)."""
    layer = step.layer
    weights = as_matrices(layer, layer.kernel).astype(np.float64)
    groups, k, outputs = weights.shape
    parts = RowSums(groups, k, outputs), RowSums(groups, k, outputs)
    count = min(max(FEWEST_ROWS, ROWS_PER_INPUT * k), MOST_ROWS)
    for x, y, piece in sampled_rows(step, count, generator):
        samples = np.arange(piece.start, piece.stop).repeat(
            x.shape[1] // (piece.stop - piece.start)
        )
        held_out = samples % HELD_OUT == HELD_OUT - 1
        for part, chosen in zip(parts, (~held_out, held_out), strict=True):
            if chosen.any():
                part.add(x[:, chosen], y[:, chosen])
    means = _joined_means(parts)
    problem = pose(parts, weights, centred=layer.bias is not None)
    qmax = layer.weight_quantizer.qmax
    before = nearest(weights, along_outputs(layer, layer.numbers().step), qmax)
    before_loss = problem.loss(before * along_outputs(layer, layer.numbers().step))

    def best_bias(matrices: Array) -> Array:
        """The bias with which these weights keep the mean of each output."""
        return (means[1] - (means[0][:, None] @ matrices)[:, 0]).reshape(-1)

    integers = settle(
        layer, lambda s: search(problem, s, qmax, sweeps), best_bias, best_bias(problem.best)
    )
    after = problem.loss(integers * along_outputs(layer, layer.numbers().step))
    moved = float(np.mean(integers != before))
    result = RoundingResult(step.node.name, before_loss, after, moved, problem.penalty)
    return result, problem.best


def settle(
    layer: WeightedLayer,
    choose: Callable[[Array], Array],
    best_bias: Callable[[Array], Array],
    bias: Array,
) -> Array:
    """Give a layer the integers that ``choose`` finds for a step, and the bias that they want.

    A step depends a little on the bias and, where accumulators are narrow, on the weights: so it
    is looked at again until it stays. Returns the integers, (groups, k, o).
    """
    _set_bias(layer, bias)
    for _ in range(ATTEMPTS):
        step = along_outputs(layer, layer.numbers().step)
        integers = choose(step)
        layer.kernel.assign(as_kernel(layer, integers * step))
        _set_bias(layer, best_bias(integers * step))
        layer.choose_carriers()
        now = along_outputs(layer, layer.numbers().step)
        if np.array_equal(now, step):
            return integers
    return nearest(integers * step, now, layer.weight_quantizer.qmax)


def _set_bias(layer: WeightedLayer, bias: Array) -> None:
    if layer.bias is not None:
        layer.bias.assign(ops.convert_to_tensor(bias.astype(np.float32)))


def _joined_means(parts: tuple[RowSums, RowSums]) -> tuple[Array, Array]:
    total = sum(part.count for part in parts)
    found = [part.means() for part in parts]
    shares = [part.count / max(total, 1) for part in parts]
    x, y = (sum(s * m[i] for s, m in zip(shares, found, strict=True)) for i in (0, 1))
    return np.asarray(x), np.asarray(y)
