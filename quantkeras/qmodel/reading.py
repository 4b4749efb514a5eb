"""A quantized model, read once: which of its layers reads what, for all that ask.

Reading a model takes as long as some of what is done with it. So what works on quantized models
takes a model or its :class:`QuantizedGraph`, and hands the latter on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import keras

from sanitize.graph import Graph, Node, producer_of
from sanitize.keras_io import read_keras
from sanitize.keras_io.call import Slot
from sanitize.keras_io.opaque_layers import OpaqueCall

from ..layers import Dequantizer, HardwareLayer, InputQuantizer, WeightedLayer, check_quantized

Layer = TypeVar("Layer")


@dataclass(frozen=True, eq=False)
class QuantizedGraph:
    """The calls of a quantized model's layers, in order, those of nested models included.

    Attributes:
        model: the model itself.
        graph: its calls as nodes. Quantized layers are the live ones, which may be calibrated or
            trained; layers that stay float compute what they did when it was read.
    """

    model: keras.Model
    graph: Graph

    @classmethod
    def of(cls, model: Any, verb: str = "") -> QuantizedGraph:
        """Read a quantized model.

        Args:
            model: the model, or a reading of one, which is given back.
            verb: what the message of an error calls the function that takes them.

        Returns:
            The reading.

        Raises:
            QuantizationError: with the remedy, for all else.
        """
        if isinstance(model, cls):
            return model
        check_quantized(model, verb)
        return cls(model, read_keras(model))

    def calls(self, kind: type[Layer]) -> list[tuple[Node, Layer]]:
        """Find the calls of layers of a kind.

        Args:
            kind: the layers' class.

        Returns:
            (node, layer) of each call, in order.
        """
        found = [(node, layer_of(node, kind)) for node in self.graph]
        return [(node, layer) for node, layer in found if layer is not None]

    def inputs(self) -> list[tuple[Node, InputQuantizer]]:
        """Where floats, or integers from outside, become integers."""
        return self.calls(InputQuantizer)

    def hardware(self) -> list[tuple[Node, HardwareLayer]]:
        """The calls of hardware layers."""
        return self.calls(HardwareLayer)

    def weighted(self) -> list[tuple[Node, WeightedLayer]]:
        """Those of them that have weights."""
        return self.calls(WeightedLayer)

    def dequantizers(self) -> list[tuple[Node, Dequantizer]]:
        """Where integers become floats."""
        return self.calls(Dequantizer)

    def parts(self) -> dict[str, int]:
        """Name of each node that handles integers, Dequantizers included -> number of its part.

        Parts are what float layers separate. Part 0 begins at the inputs of the model, or behind
        the float layers that it begins with; each InputQuantizer behind further float layers begins
        a new part, numbered above all parts that it depends on. Other nodes belong to the last of
        the parts that they read.
        """
        depth: dict[str, int] = {}
        integer: dict[str, int] = {}
        ended = {node.name for node, _ in self.dequantizers()}
        for node in self.graph:
            read = [producer_of(value) for value in node.inputs]
            # -1: there are no integers in front of it.
            depth[node.name] = max((depth[name] for name in read), default=-1)
            if layer_of(node, InputQuantizer):
                depth[node.name] += 1
                integer[node.name] = depth[node.name]
            elif node.name in ended or layer_of(node, HardwareLayer):
                depth[node.name] = max(depth[node.name], 0)
                integer[node.name] = depth[node.name]
            elif read and node.kind != "opaque" and integer.keys() - ended >= set(read):
                integer[node.name] = depth[node.name]
        return integer


def layer_of(node: Node, kind: type[Layer]) -> Layer | None:
    """Look up the layer that a node of a graph calls.

    Args:
        node: of the graph of a model.
        kind: the layer's class.

    Returns:
        The layer, None if it is not one of that kind.
    """
    layer = node.attrs.get("layer")
    return layer if isinstance(layer, kind) else None


def rounding_layer(node: Node) -> HardwareLayer | InputQuantizer | None:
    """Look up the quantized layer that a node calls.

    Args:
        node: of the graph of a model.

    Returns:
        The layer, None for others and for a Dequantizer, which changes nothing.
    """
    return layer_of(node, HardwareLayer) or layer_of(node, InputQuantizer)


def layer_node(
    layer: Any, name: str, inputs: tuple[str, ...], shape: Any, source: tuple[str, ...] = ()
) -> Node:
    """Make a graph node that calls a layer itself (not a copy) on given values.

    Args:
        layer: the layer.
        name: of the node.
        inputs: the values.
        shape: of the output, unbatched.
        source: the layers of the user's model that it stands for.

    Returns:
        The node.
    """
    slots = [Slot(i) for i in range(len(inputs))]
    call = OpaqueCall(
        layer, (slots if len(slots) > 1 else slots[0],), {}, ("float32",) * len(slots)
    )
    attrs = {"layer": layer, "call": call, "shapes": (tuple(shape),), "fresh": True}
    return Node(name, "opaque", inputs, attrs, {}, tuple(shape), source)
