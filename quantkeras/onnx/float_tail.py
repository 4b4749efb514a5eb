"""The float layers behind an integer program, as ONNX operators behind its own.

They are the nodes of the quantized model that follow its Dequantizers: a softmax, or layers that
could not be quantized. `sanitize.write_onnx` writes them; their inputs are the program's outputs.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx

from sanitize.graph import Graph, Node, producer_of
from sanitize.onnx_io import OnnxError, write_onnx
from sanitize.onnx_io.protos import opset_of, rename_values, value_info

from ..errors import QuantizationError
from ..layers import Dequantizer
from ..qmodel import QuantizedGraph, layer_of
from ..runtime import Program
from .float_head import head_nodes
from .layer_builder import BATCH
from .layer_export import with_exported_layers
from .onnx_options import OnnxOptions

OPSET = 17
"""The oldest operator set that is written."""

ADVICE = "export_onnx(convert(model)) exports the integer layers without it"


def oldest_opset(model: Any) -> int:
    """The oldest operator set in which the float tail can be written: ONNX operators that were kept
    as they are go to newer ones, and not to older ones.
    """
    return max([OPSET, *(opset_of(layer.onnx_call()[0]) for layer in kept_operators(model))])


def kept_operators(model: Any) -> list[Any]:
    """The layers of a model, and of models in it, that are operators of an ONNX model."""
    found = []
    for layer in getattr(model, "layers", ()):
        found += [layer] if hasattr(layer, "onnx_call") else kept_operators(layer)
    return found


def append_tail(
    graph: onnx.GraphProto,
    reading: QuantizedGraph,
    program: Program,
    options: OnnxOptions,
    opset: int,
) -> None:
    """Add the float tail of a quantized Keras model to the graph of its program.

    The graph has to give its outputs as float32, maps channels first. Its outputs become those of
    the model, in order. Raises QuantizationError naming the layer that ONNX has no operators for.
    """
    full = tail_graph(reading, program)
    tail, choices = without_argmax(full)
    tail = with_exported_layers(tail)
    layout: Literal["nchw", "nhwc"] = "nchw" if options.outputs_first else "nhwc"
    try:
        written = write_onnx(tail, input_layout="nchw", output_layout=layout, opset=opset).graph
    except OnnxError as error:
        raise QuantizationError(f"the float tail: {error}; {ADVICE}") from error
    entering = {entry.name for entry in written.input}
    taken = {name for node in graph.node for name in node.output}
    taken |= {constant.name for constant in graph.initializer} | set(program.shapes)
    inner = {name for node in written.node for name in node.output}
    inner |= {constant.name for constant in written.initializer}
    renamed = {name: f"tail/{name}" for name in inner & (taken - entering)}
    rename_values(written, renamed)
    for node in written.node:
        node.name = f"tail/{node.name}"
    graph.node.extend(written.node)
    graph.initializer.extend(written.initializer)
    inside = list(graph.output)
    del graph.output[:]
    ends = dict(zip(dict.fromkeys(tail.outputs), written.output, strict=True))
    for position, value in enumerate(tail.outputs):
        found = ends[value].name
        if position in choices:
            graph.output.append(_append_argmax(graph, found, choices[position]))
        elif value not in {entry.name for entry in graph.output}:
            if found != value:  # the tail passes on an output of the program
                rename_values(graph, {value: f"{value}/values", found: value})
            ends[value].name = value
            ends[value].type.tensor_type.shape.dim[0].dim_param = BATCH
            graph.output.append(ends[value])
    made = {name for node in graph.node for name in node.output}
    leaving = {entry.name for entry in graph.output}
    graph.value_info.extend(e for e in inside if e.name in made and e.name not in leaving)


def tail_graph(reading: QuantizedGraph, program: Program) -> Graph:
    """The float nodes behind the Dequantizers, with the program's outputs as inputs."""
    graph, parts = reading.graph, reading.parts()
    if max(parts.values(), default=0) > 0:
        raise QuantizationError(
            "the model has integer layers behind float ones; export its parts one by one: "
            "export_onnx(convert(model, part=...))"
        )
    before = set(head_nodes(reading))
    entering: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    kept: list[Node] = []
    for node in graph:
        if layer_of(node, Dequantizer):
            name = _program_tensor(graph, node, program)
            renamed[node.name] = name
            entry = Node(name, "input", (), {"dtype": "float32"}, {}, node.shape)
            entering.setdefault(name, entry)
        elif node.name not in parts and node.kind != "input" and node.name not in before:
            for value in node.inputs:
                source = graph[producer_of(value)]
                if source.kind == "input" or source.name in before:
                    raise QuantizationError(
                        f"float layer {node.name!r} reads the input {source.name!r}; {ADVICE}"
                    )
            kept.append(node.with_(inputs=tuple(renamed.get(v, v) for v in node.inputs)))
    outputs = tuple(renamed.get(value, value) for value in graph.outputs)
    nodes = (*entering.values(), *kept)
    return Graph(nodes, tuple(entering), outputs, graph.name)


def without_argmax(graph: Graph) -> tuple[Graph, dict[int, Node]]:
    """The graph with what its final argmax reads as outputs; and these nodes by position.

    Of the scores of classes, (n, classes); any other argmax stays in the graph.
    """
    outputs, found = list(graph.outputs), {}
    for position, value in enumerate(outputs):
        node = graph[producer_of(value)]
        scores = node.inputs[0] if node.inputs else ""
        if type(node.attrs.get("layer")).__name__ != "Argmax" or graph.consumers(node.name):
            continue
        axis = node.attrs["layer"].axis
        if len(graph.shape_of(scores)) == 1 and axis in (1, -1):
            outputs[position], found[position] = scores, node
    dropped = {node.name for node in found.values()}
    nodes = tuple(node for node in graph if node.name not in dropped)
    return Graph(nodes, graph.inputs, tuple(outputs), graph.name), found


def _append_argmax(graph: onnx.GraphProto, scores: str, node: Node) -> onnx.ValueInfoProto:
    """Adds the class of the scores, as int32 like Keras's; returns the output's description."""
    helper, wide = onnx.helper, f"{node.name}/ArgMax"
    keep, kind = int(node.attrs["layer"].keepdims), onnx.TensorProto.INT32
    graph.node.append(helper.make_node("ArgMax", [scores], [wide], wide, axis=1, keepdims=keep))
    graph.node.append(helper.make_node("Cast", [wide], [node.name], node.name, to=kind))
    return value_info(node.name, np.int32, [BATCH, 1] if keep else [BATCH])


def _program_tensor(graph: Graph, node: Node, program: Program) -> str:
    """The output of the program that a Dequantizer reads."""
    source = graph[producer_of(node.inputs[0])]
    while source.name not in program.outputs and source.kind == "identity":
        source = graph[producer_of(source.inputs[0])]
    return source.name if source.name in program.outputs else node.name
