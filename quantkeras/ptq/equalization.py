"""Cross-layer equalization: the same function from weights that quantize better.

Nagel, van Baalen, Blankevoort, Welling 2019, "Data-free quantization through weight equalization
and bias correction", arXiv:1906.04721. For a link (see :mod:`.links`) with the weight ranges r1[c]
of the producer's channel c and r2[c] of the weights that read it,

    s[c] = sqrt(r1[c] / r2[c]),   W1[c] /= s[c],   b1[c] /= s[c],   W2[:, c] *= s[c]

makes both sqrt(r1 * r2). A depthwise convolution between two others is part of two links, and all
links are visited in turn until no factor differs from 1: then the three have the cube root of
their product, the closed form of the paper. ReLU6 stays what it is, a clip, now at 6 / s[c]. Layers
that are concatenated have a link each, to their slice of the channels of the layer behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from sanitize import sanitize_graph
from sanitize.former_names import remember_names
from sanitize.graph import Graph
from sanitize.keras_io import write_keras
from sanitize.rules.linear import scale_inputs, scale_outputs

from ..quantization.decide import stays_float
from ..quantization.float_network import float_network
from ..quantization.params import QuantizationParams, chosen_params
from ..terminal.text_tables import plain_table
from .absorb import Moments, absorb, batchnorm_moments
from .channel_links import (
    Link,
    along,
    find_links,
    gathered,
    input_range,
    magnitudes,
    output_range,
    scaled_clip,
)

Array = NDArray[np.float64]

TOLERANCE = 1e-3
"""Equalized: no factor of a whole round is farther than this from 1."""
MOST_ROUNDS = 200
DEAD = 2.0**-16
"""A channel whose weights are below this part of the layer's largest is left alone: scaled up,
its bias would dwarf all other channels.
"""


@dataclass(frozen=True)
class LinkResult:
    """What equalization did between two layers.

    Attributes:
        producer: the first.
        reader: the second, whose weights read it; "" where nothing was done.
        through: kinds of the nodes between them.
        before: largest ratio of the two weight ranges over the channels, 1 if all are equal.
        after: the same afterwards.
        smallest: of the factors s.
        largest: of the factors s.
        absorbed: channels whose high bias moved on.
        reason: why nothing was done.
    """

    producer: str
    reader: str = ""
    through: tuple[str, ...] = ()
    before: float = 1.0
    after: float = 1.0
    smallest: float = 1.0
    largest: float = 1.0
    absorbed: int = 0
    reason: str = ""


@dataclass(frozen=True)
class EqualizationReport:
    """What equalization did.

    Attributes:
        links: one entry per layer with weights, in order.
        rounds: how often all links were visited.
    """

    links: tuple[LinkResult, ...]
    rounds: int

    HEADER = ("layer", "equalized with", "through", "range ratio", "factors", "remark")

    def rows(self) -> list[tuple[str, ...]]:
        """The cells of the table under HEADER."""
        rows: list[tuple[str, ...]] = []
        for link in self.links:
            if link.reason:
                rows.append((link.producer, "-", "-", "-", "-", link.reason))
                continue
            remark = f"{link.absorbed} biases absorbed" if link.absorbed else ""
            ratio = f"{link.before:.3g} -> {link.after:.3g}"
            factors = f"{link.smallest:.3g} .. {link.largest:.3g}"
            through = ", ".join(link.through) or "-"
            rows.append((link.producer, link.reader, through, ratio, factors, remark))
        return rows

    def __str__(self) -> str:
        return "\n".join(plain_table(self.HEADER, self.rows(), left=len(self.HEADER)))


def equalize(
    model: Any,
    absorb_bias: bool = False,
    verbose: bool = False,
    qparams: QuantizationParams | None = None,
) -> keras.Model:
    """Make a float model that computes the same from equalized weights; to be quantized.

    Args:
        model: a Keras model, or an ONNX model as ``quantize`` takes it; it is sanitized on the way
            and not changed.
        absorb_bias: also move biases so high that a ReLU behind them does nothing into the next
            layer (section 4.1.3 of the paper); known from the statistics of the batch
            normalizations, so that the function changes for the few values beyond three standard
            deviations.
        verbose: print what was done for each layer.
        qparams: what it is to be quantized with; layers that stay float by them, as those of
            float_layers, are not folded into others, so that they keep their names.

    Returns:
        The equalized float model.

    Raises:
        QuantizationError: for what is no model, a quantized one, and qparams that are none.
        sanitize.GraphError: for a Keras model that cannot be read.
        sanitize.onnx_io.OnnxError: for an ONNX model that cannot be read.

    Example:
        ``quantized = quantize(equalize(model), qparams, samples=x)``
    """
    network = float_network(model)
    raw = network.graph
    graph, _ = sanitize_graph(raw, keep=stays_float(chosen_params(qparams)))
    moments = batchnorm_moments(raw, graph) if absorb_bias else {}
    equalized, report = equalize_graph(graph, moments)
    if verbose:
        print(report)
    made = write_keras(equalized)
    remember_names(made, raw, equalized, model if isinstance(model, keras.Model) else None)
    return made


def equalize_graph(
    graph: Graph, moments: Mapping[str, Moments] | None = None
) -> tuple[Graph, EqualizationReport]:
    """Equalize a sanitized graph, see :func:`equalize`.

    Args:
        graph: the network, which is not changed.
        moments: name of a layer with weights -> mean and deviation of its output before any
            activation (see :func:`.absorb.batchnorm_moments`), of those whose high biases are to be
            absorbed; None: of none.

    Returns:
        The equalized graph, and the report.
    """
    links, reasons = find_links(graph)
    sizes = {node.name: magnitudes(node) for node in graph if "kernel" in node.weights}
    before = [_ratio(sizes, link) for link in links]
    factors, rounds = _converge(links, sizes)
    result = graph
    for link in links:
        result = scaled_along(result, link, factors[link.producer])
    scaled = {
        name: Moments(m.mean / factors[name], m.deviation / factors[name])
        for name, m in (moments or {}).items()
        if name in factors
    }
    absorbed: dict[str, int] = {}
    for link in links:
        if link.producer in scaled:
            result, absorbed[link.producer] = absorb(result, link, scaled[link.producer])
    entries = {name: LinkResult(name, reason=reason) for name, reason in reasons.items()}
    for link, ratio in zip(links, before, strict=True):
        s = factors[link.producer]
        entries[link.producer] = LinkResult(
            link.producer,
            link.reader,
            tuple(graph[name].kind for name in link.path),
            ratio,
            _ratio(sizes, link),
            float(s.min()),
            float(s.max()),
            absorbed.get(link.producer, 0),
        )
    ordered = tuple(entries[node.name] for node in graph if node.name in entries)
    return result, EqualizationReport(ordered, rounds)


def _converge(links: list[Link], sizes: dict[str, Array]) -> tuple[dict[str, Array], int]:
    """Factors per producer, (cout,); ``sizes`` become those of the equalized weights."""
    totals = {link.producer: np.ones(len(output_range(sizes[link.producer]))) for link in links}
    for count in range(MOST_ROUNDS):
        moved = 0.0
        for link in links:
            s = _factors(sizes, link)
            totals[link.producer] *= s
            _scale_magnitudes(sizes, link, s)
            moved = max(moved, float(np.abs(np.log(s)).max(initial=0.0)))
        if moved < TOLERANCE:
            return totals, count + 1
    return totals, MOST_ROUNDS


def _ranges(sizes: Mapping[str, Array], link: Link) -> tuple[Array, Array]:
    """(r1, r2) per channel of the producer."""
    first = output_range(sizes[link.producer])
    readers = input_range(sizes[link.reader])
    return first, gathered(np.maximum, np.zeros(len(first)), link.origin, readers)


def _alive(first: Array, second: Array) -> NDArray[np.bool_]:
    """Channels with weights on both sides."""
    alive = (first > DEAD * first.max(initial=0.0)) & (second > DEAD * second.max(initial=0.0))
    return np.asarray(alive)


def _factors(sizes: Mapping[str, Array], link: Link) -> Array:
    first, second = _ranges(sizes, link)
    alive = _alive(first, second)
    return np.sqrt(np.where(alive, first, 1.0) / np.where(alive, second, 1.0))


def _ratio(sizes: Mapping[str, Array], link: Link) -> float:
    """Largest ratio of the two ranges of a channel, whichever is larger."""
    return float(np.exp(2 * np.abs(np.log(_factors(sizes, link))).max(initial=0.0)))


def _scale_magnitudes(sizes: dict[str, Array], link: Link, s: Array) -> None:
    first, second = sizes[link.producer], sizes[link.reader]
    sizes[link.producer] = first / s.reshape(first.shape[0], 1, -1)
    second = sizes[link.reader]
    sizes[link.reader] = second * along(s, link.origin, 1.0).reshape(second.shape[0], -1, 1)


def scaled_along(graph: Graph, link: Link, s: Array) -> Graph:
    """The same function with the producer's channels divided by s, (cout,), and the reader's
    weights multiplied by it.
    """
    producer, reader = graph[link.producer], graph[link.reader]
    changed: list[Any] = [scale_outputs(producer, 1 / s, np.zeros(len(s)))]
    scale = along(s, link.origin, 1.0)
    nothing = np.zeros(len(scale))
    padded = "pad_value" in reader.weights
    constant = np.zeros(len(output_range(magnitudes(reader))))
    changed.append(scale_inputs(reader, scale, nothing, constant, padded))
    for name, origin in link.clips.items():
        changed.append(scaled_clip(graph[name], along(s, origin, 1.0)))
    return graph.replace(add=changed)
