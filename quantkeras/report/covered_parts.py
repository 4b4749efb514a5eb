"""The layers of a quantized model (or of a plan for one) as reports see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sanitize.graph import Graph, Node, producer_of

from ..layers import Dequantizer, HardwareLayer, InputQuantizer, WeightedLayer
from ..layers.onnx_operator import kind_of
from ..qmodel import layer_of
from ..quantization.moving import MOVEMENTS
from ..quantization.plan import WEIGHTED, Plan
from ..quantization.provenance import quantized_name
from ..runtime.summary import describe

State = Literal["input", "integer", "float", "boundary"]
"""input: floats or integers come in; boundary: integers leave to be floats again."""

Status = Literal["integer", "partly", "float", "removed", "input"]
"""What became of a layer of the user's model."""

FLOAT = "float32"
ACCUMULATOR = "accumulator"


@dataclass(frozen=True)
class Part:
    """One layer of a quantized model.

    Attributes:
        name: the layer's.
        state: whether integers or floats come in, are computed or leave.
        steps: what it does, such as ``conv2d+relu``.
        weight_bits: 0 without weights; each output channel has a step of its own.
        output: format of what leaves it, such as ``uint8.5`` (8 bits, 5 of them fractional;
            ``4..6`` where channels differ), ``accumulator`` or ``float32``.
        accumulator_bits: needed in hardware, sign included; None where that is not known.
    """

    name: str
    state: State
    steps: str
    weight_bits: int = 0
    output: str = ""
    accumulator_bits: int | None = None


def parts_of_graph(graph: Graph, accumulators: Mapping[str, int] | None = None) -> dict[str, Part]:
    """The part that each node is: name of the node -> Part.

    graph: of a quantized model, see :func:`sanitize.keras_io.read_keras`; in that of a float model
    all is float. accumulators: bits that they need, by name of the node.
    """
    bits = accumulators or {}
    parts: dict[str, Part] = {}
    for node in graph:
        before = [parts[producer_of(value)] for value in node.inputs]
        parts[node.name] = _part(node, before, bits.get(node.name))
    return parts


def _part(node: Node, before: list[Part], accumulator: int | None) -> Part:
    """before: the parts that the node reads."""
    quantizer, layer = layer_of(node, InputQuantizer), layer_of(node, HardwareLayer)
    if quantizer is not None:
        fed = quantizer.output_format(node.shape)
        return Part(quantizer.name, "input", "input", output=str(fed.numpy()))
    if layer is not None:
        steps = describe(layer.spec)
        if layer.function is not None:
            steps += f"+{layer.function.name}"
        found = layer.output_format(node.shape)
        return Part(
            layer.name,
            "integer",
            steps,
            layer.weight_quantizer.bits if isinstance(layer, WeightedLayer) else 0,
            ACCUMULATOR if found is None else str(found.numpy()),
            accumulator,
        )
    # Layers of models inside the model have the names of these in front.
    name = (node.source or (node.name,))[0].rpartition("/")[2]
    dequantizer = layer_of(node, Dequantizer)
    if dequantizer is not None:
        return Part(dequantizer.name, "boundary", "dequantizer", output=FLOAT)
    integer = bool(before) and all(part.state in ("input", "integer") for part in before)
    if node.kind == "input":
        return Part(name, "input", "input", output=FLOAT)
    if node.kind in MOVEMENTS and integer and before[0].output != FLOAT:
        return Part(name, "integer", node.kind, output=before[0].output)
    return Part(name, "float", kind_of(node), output=FLOAT)


def parts_of_plan(plan: Plan) -> dict[str, Part]:
    """What the parts will be, without formats, which only calibration finds; by their names."""
    parts = [Part(quantized_name(f"{name}/quantizer"), "input", "input") for name in plan.inputs]
    for block in plan.blocks.values():
        output = f"{'int' if block.signed else 'uint'}{block.bits}"
        parts.append(
            Part(
                quantized_name(block.name),
                "integer",
                "+".join(kind_of(node) for node in block.nodes),
                block.settings.weight_bits if block.core.kind in WEIGHTED else 0,
                output if block.quantized_output else ACCUMULATOR,
            )
        )
    moves = [node for node in plan.graph if node.name in plan.movements]
    parts += [Part(quantized_name(node.name), "integer", node.kind) for node in moves]
    parts += [
        Part(quantized_name(entry.node.name), "float", kind_of(entry.node), output=FLOAT)
        for entry in plan.floats
    ]
    return {part.name: part for part in parts}
