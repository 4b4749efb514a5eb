"""Where a quantized model comes from: the layers of the user's model, and what the user chose.

Rules merge, split and drop layers before any is quantized. What became of which is known when the
model is quantized; a :class:`Provenance` keeps it, with the settings, and travels in the quantized
model's first Dequantizer, so that a model that was saved and loaded can still be explained, and
calibrated as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from sanitize.graph import Node, producer_of
from sanitize.keras_io.keras_graph import is_graph_model
from sanitize.keras_io.names import layer_name
from sanitize.log import Log, layer_of

from ..layers import Dequantizer, InputQuantizer, layers_of
from ..layers.onnx_operator import type_name
from .params import QuantizationParams
from .plan import FloatCause, Plan

INPUT = "InputLayer"
"""Type of the layers that only stand for an input."""


@dataclass(frozen=True)
class Provenance:
    """What the layers of a quantized model stand for.

    layers: layers of the user's model, name -> type, in their order; those of nested models are
    named 'inner/layer'. sources: name of each layer of the quantized model -> the user's layers
    that it computes, first the one that it is named after. floats: names of those that stay float
    -> the reason. following: of these, those that only are behind others. log: the rewrites that
    went before. params: the settings, None if they are not known. observers: names of layers of the
    quantized model -> their observer, where it is not that of params. provisional: the ranges come
    from random numbers, and what is decided by samples once and for all waits for some. hints: what
    is told when the model begins to train. outputs: what the user's model calls its outputs.
    """

    layers: Mapping[str, str]
    sources: Mapping[str, tuple[str, ...]]
    floats: Mapping[str, str] = field(default_factory=dict)
    following: frozenset[str] = frozenset()
    log: Log = field(default_factory=Log)
    params: QuantizationParams | None = None
    observers: Mapping[str, str] = field(default_factory=dict)
    provisional: bool = False
    hints: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    def observer_of(self, layer: str) -> str:
        """The observer of that layer of the quantized model."""
        default = "minmax" if self.params is None else self.params.observer
        return self.observers.get(layer, default)

    def to_config(self) -> dict[str, Any]:
        """All of it as JSON-able values; pairs in lists, as order counts."""
        return {
            "layers": [list(pair) for pair in self.layers.items()],
            "sources": [[name, list(source)] for name, source in self.sources.items()],
            "floats": [list(pair) for pair in self.floats.items()],
            "following": sorted(self.following),
            "log": self.log.to_config(),
            "params": None if self.params is None else self.params.to_config(),
            "observers": dict(self.observers),
            "provisional": self.provisional,
            "hints": list(self.hints),
            "outputs": list(self.outputs),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Provenance:
        """The reverse of to_config; files of before settings and causes were kept have none."""
        params = config.get("params")
        return cls(
            dict(config["layers"]),
            {name: tuple(source) for name, source in config["sources"]},
            dict(config["floats"]),
            frozenset(config.get("following", ())),
            Log.from_config(config["log"]),
            None if params is None else QuantizationParams.from_config(params),
            dict(config.get("observers", {})),
            config.get("provisional", False),
            tuple(config.get("hints", ())),
            tuple(config.get("outputs", ())),
        )


def trace(layers: Mapping[str, str], plan: Plan, log: Log) -> Provenance:
    """What becomes of layers (name -> type, without inputs) by a plan for their sanitized graph."""
    sources: dict[str, tuple[str, ...]] = {}
    for name in plan.inputs:
        sources[quantized_name(f"{name}/quantizer")] = plan.graph[name].source
    for block in plan.blocks.values():
        sources[quantized_name(block.name)] = _sources(block.nodes)
    moves = [node for node in plan.graph if node.name in plan.movements]
    for node in [*moves, *(entry.node for entry in plan.floats)]:
        sources[quantized_name(node.name)] = _sources((node,))
    floats = {
        quantized_name(entry.node.name): (
            f"{entry.node.attrs.get('function', entry.node.kind)} at the end"
            if entry.expected
            else entry.reason
        )
        for entry in plan.floats
    }
    following = frozenset(
        quantized_name(entry.node.name)
        for entry in plan.floats
        if entry.cause is FloatCause.BEHIND and not entry.expected
    )
    inputs = {layer: INPUT for name in plan.graph.inputs for layer in plan.graph[name].source}
    return Provenance({**inputs, **layers}, sources, floats, following, log)


def chosen_observers(plan: Plan, params: QuantizationParams) -> dict[str, str]:
    """Observers that layers of the quantized model have by overrides, by the layers' names."""
    found = {quantized_name(b.name): b.settings.observer for b in plan.blocks.values()}
    for value in (*plan.inputs, *plan.requantized):
        node = plan.graph[producer_of(value)]
        settings = params.for_layer(node.name, node.kind, source=node.source)
        found[quantized_name(f"{value.replace(':', '_')}/quantizer")] = settings.observer
    return {name: kind for name, kind in found.items() if kind != params.observer}


def quantized_name(node: str) -> str:
    """What the layer of the quantized model that is made of a node is called."""
    return layer_name(node)


def _sources(nodes: tuple[Node, ...]) -> tuple[str, ...]:
    """The user's layers behind a layer: first the one that it is named after."""
    every = dict.fromkeys(layer for node in nodes for layer in node.source)
    first = layer_of(nodes[0].name, nodes[0].source)
    return tuple(dict.fromkeys([*([first] if first in every else []), *every]))


def user_layers(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(name, layer or bare operation) of a model but its inputs; nested models are opened."""
    parts = model.layers if isinstance(model, keras.Sequential) else model.operations
    for part in parts:
        if is_graph_model(part):
            yield from user_layers(part, f"{prefix}{part.name}/")
        elif not isinstance(part, keras.layers.InputLayer):
            yield prefix + part.name, part


def layer_types(model: Any) -> Iterator[tuple[str, str]]:
    """(name, type) of the same."""
    for name, part in user_layers(model):
        yield name, type_name(part)


def attach(model: Any, provenance: Provenance) -> None:
    """Keep it in a quantized model: with its first Dequantizer."""
    for layer in _dequantizers(model)[:1]:
        layer.set_provenance(provenance.to_config())


def add_hint(model: Any, hint: str) -> None:
    """Tell who begins to train a quantized model; files do not keep it."""
    for layer in _dequantizers(model)[:1]:
        layer.hints = (*layer.hints, hint)


def params_of(model: Any) -> QuantizationParams | None:
    """Look up the settings that a quantized model was made with.

    Args:
        model: a quantized model, also one that was loaded. It may have been changed since, by
            :func:`set_ranges` for one.

    Returns:
        The settings, None if they are not known.
    """
    return provenance_of(model).params


def provenance_of(model: Any) -> Provenance:
    """That of a quantized model, also of one inside another model; where none was kept, each layer
    stands for itself.
    """
    dequantizers = _dequantizers(model)
    for layer in dequantizers:
        if layer.provenance:
            return Provenance.from_config(layer.provenance)
    own = [x for x in layers_of(model) if not isinstance(x, Dequantizer | InputQuantizer)]
    floats = {name: reason for layer in dequantizers for name, reason in layer.reasons.items()}
    layers = {layer.name: type_name(layer) for layer in own}
    return Provenance(layers, {name: (name,) for name in layers}, floats)


def _dequantizers(model: Any) -> list[Dequantizer]:
    return [layer for layer in layers_of(model) if isinstance(layer, Dequantizer)]
