"""Statistics that batch normalizations remember, and high biases absorbed with them.

Behind a batch normalization a channel has the mean beta and the standard deviation |gamma|, without
any data. Where the mean is so high that the ReLU behind it hardly ever clips, c = max(0, mean - 3
deviations) can leave the channel and go into the biases of the next layer (Nagel et al. 2019,
arXiv:1906.04721, section 4.1.3): relu(x - c) = relu(x) - c but for 0.14 % of the values, and the
activation needs a smaller range. Without an activation between, all of the mean can go, exactly.

A next layer that pads with p sees p - c there, a padding value that hardware layers have. It must
be an integer of the tensor's format, though: below 0 behind a ReLU it would cost a sign, which is
more than absorbing gains. So c is at most p, and nothing is absorbed where the padding is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sanitize.graph import Graph, Node
from sanitize.kinds import Trait
from sanitize.rewriting_check import random_inputs
from sanitize.rules.linear import (
    LINEAR,
    constant_response,
    explicit_pads,
    pad_values,
    scale_inputs,
    scale_outputs,
)
from sanitize.semantics import evaluate

from .channel_links import Link, along, gathered, scaled_clip

Array = NDArray[np.float64]

DEVIATIONS = 3.0
"""What lies further below the mean counts as never seen."""
MATCH = 1e-3
"""Largest difference, relative to the value, between two values that count as proportional."""


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation per channel, (c,) each."""

    mean: Array
    deviation: Array


def batchnorm_moments(raw: Graph, graph: Graph) -> dict[str, Moments]:
    """Moments of the outputs of layers with weights of ``graph``, by name.

    raw: the network as it was read, with its batch normalizations. graph: what sanitizing made of
    it. Which layer's output is the output of which normalization, or a multiple of it per channel,
    is found by running both on a few random samples, whatever the rules did.
    """
    norms = [node for node in raw if node.kind == "batchnorm"]
    layers = [node for node in graph if node.kind in LINEAR and node.share is None]
    pairs = [(a, b) for a in norms for b in layers if set(a.source) & set(b.source)]
    if not pairs:
        return {}
    inputs = random_inputs(raw)
    before = evaluate(raw, inputs, {a.name for a, _ in pairs}, np.float64)
    after = evaluate(graph, inputs, {b.name for _, b in pairs}, np.float64)
    found: dict[str, Moments] = {}
    for norm, layer in pairs:
        ratio = proportion(before[norm.name], after[layer.name])
        if ratio is not None:
            found[layer.name] = norm_moments(norm, ratio)
    return found


def norm_moments(norm: Node, ratio: Array) -> Moments:
    """Moments of the output of a batchnorm node times ``ratio`` (c,)."""
    channels = norm.weights["mean"].size
    beta = norm.weights.get("beta", np.zeros(channels)).astype(np.float64)
    gamma = norm.weights.get("gamma", np.ones(channels)).astype(np.float64)
    return Moments(beta * ratio, np.abs(gamma * ratio))


def proportion(before: Array, after: Array) -> Array | None:
    """(c,) positive r with after = r * before, (n, ..., c) both; None if there is none."""
    if before.shape != after.shape:
        return None
    x, y = (np.asarray(a, np.float64).reshape(-1, a.shape[-1]) for a in (before, after))
    energy = (x * x).sum(axis=0)
    ratio = (x * y).sum(axis=0) / np.where(energy > 0, energy, 1.0)
    close = np.abs(y - ratio * x).max(axis=0) <= MATCH * np.abs(y).max(axis=0)
    return ratio if close.all() and (ratio > 0).all() else None


def absorb(graph: Graph, link: Link, moments: Moments) -> tuple[Graph, int]:
    """Move what is always there of the producer's output into the reader's bias.

    Returns the graph and how many channels were concerned, 0 where it cannot be done exactly.
    """
    kinds = [graph[name].kind for name in link.path]
    if "pad" in kinds or "activation" in kinds:
        return graph, 0
    amount = moments.mean
    if "relu" in kinds:
        amount = np.maximum(0.0, moments.mean - DEVIATIONS * moments.deviation)
    for name, origin in link.clips.items():
        amount = np.minimum(amount, _below_ceiling(graph[name], origin, amount))
    producer, reader = graph[link.producer], graph[link.reader]
    padded = _is_padded(graph, reader)
    if padded:
        amount = np.minimum(amount, _least_padding(reader, link, len(amount)))
    offset = along(amount, link.origin, 0.0)
    constant = constant_response(graph, reader, offset)
    if constant is None or not amount.any() or "bias" not in producer.weights:
        return graph, 0
    shifted = scale_inputs(reader, np.ones(len(offset)), offset, constant, padded)
    changed = [scale_outputs(producer, np.ones(len(amount)), -amount), shifted]
    changed += [
        scaled_clip(graph[name], np.ones(len(origin)), along(amount, origin, 0.0))
        for name, origin in link.clips.items()
    ]
    return graph.replace(add=changed), int(np.count_nonzero(amount))


def _below_ceiling(clip: Node, origin: NDArray[np.int64], amount: Array) -> Array:
    """(c,) what may be absorbed below a clip: 0 where it would leave nothing."""
    clip = scaled_clip(clip, np.ones(len(origin)))
    ceiling = np.broadcast_to(clip.weights["max_value"].astype(np.float64), origin.shape)
    lowest = gathered(np.minimum, np.full(len(amount), np.inf), origin, ceiling)
    return np.where(amount < 0.5 * lowest, amount, 0.0)


def _least_padding(reader: Node, link: Link, channels: int) -> Array:
    """(c,) what may be absorbed for the padding to stay above 0.

    Below, the input of the reader would need a sign, which costs more than absorbing gains.
    """
    values = pad_values(reader, len(link.origin))
    lowest = gathered(np.minimum, np.full(channels, np.inf), link.origin, values)
    return np.maximum(lowest, 0.0)


def _is_padded(graph: Graph, node: Node) -> bool:
    if Trait.CONVOLVES not in node.traits:
        return False
    return bool(explicit_pads(graph, node) != ((0, 0), (0, 0)))
