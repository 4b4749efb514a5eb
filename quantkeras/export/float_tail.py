"""The float layers behind an integer program, as ONNX operators behind its own.

They are the nodes of the quantized model that follow its Dequantizers: a softmax, or layers that
could not be quantized. `sanitize.write_onnx` writes them; their inputs are the program's outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import onnx

from sanitize.graph import Graph, Node, producer_of
from sanitize.keras_io import read_keras
from sanitize.onnx_io import OnnxError, write_onnx

from ..conversion.parts import integer_parts
from ..errors import QuantizationError
from ..layers import Dequantizer
from ..runtime import Program
from .onnx_options import OnnxOptions

OPSET = 17
"""The oldest operator set of the tail."""

ADVICE = "export_onnx(convert(model)) exports the integer layers without it"


def append_tail(
    graph: onnx.GraphProto, model: Any, program: Program, options: OnnxOptions, opset: int
) -> None:
    """Add the float tail of a quantized Keras model to the graph of its program.

    The graph has to give its outputs as float32, maps channels first. Its outputs become those of
    the model, in order. Raises QuantizationError naming the layer that ONNX has no operators for.
    """
    tail = tail_graph(read_keras(model), program)
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
    for constant in written.initializer:
        constant.name = renamed.get(constant.name, constant.name)
    for node in written.node:
        node.name = f"tail/{node.name}"
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    graph.node.extend(written.node)
    graph.initializer.extend(written.initializer)
    inside = list(graph.output)
    del graph.output[:]
    for entry in written.output:
        entry.name = renamed.get(entry.name, entry.name)
        entry.type.tensor_type.shape.dim[0].dim_param = "batch"
        graph.output.append(entry)
    leaving = {entry.name for entry in graph.output}
    graph.value_info.extend(entry for entry in inside if entry.name not in leaving)


def tail_graph(graph: Graph, program: Program) -> Graph:
    """The float nodes behind the Dequantizers, with the program's outputs as inputs."""
    parts = integer_parts(graph)
    if max(parts.values(), default=0) > 0:
        raise QuantizationError(
            "the model has integer layers behind float ones; export its parts one by one: "
            "export_onnx(convert(model, part=...))"
        )
    entering: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    kept: list[Node] = []
    for node in graph:
        if isinstance(node.attrs.get("layer"), Dequantizer):
            name = _program_tensor(graph, node, program)
            renamed[node.name] = name
            entering.setdefault(name, _input_node(name, node))
        elif node.name not in parts and node.kind != "input":
            for value in node.inputs:
                source = graph[producer_of(value)]
                if source.kind == "input":
                    raise QuantizationError(
                        f"float layer {node.name!r} reads the input {source.name!r}; {ADVICE}"
                    )
            kept.append(_rewired(node, renamed))
    outputs = tuple(renamed.get(value, value) for value in graph.outputs)
    nodes = (*entering.values(), *kept)
    return Graph(nodes, tuple(entering), outputs, graph.name)


def _program_tensor(graph: Graph, node: Node, program: Program) -> str:
    """The output of the program that a Dequantizer reads."""
    source = graph[producer_of(node.inputs[0])]
    while source.name not in program.outputs and source.kind == "identity":
        source = graph[producer_of(source.inputs[0])]
    return source.name if source.name in program.outputs else node.name


def _input_node(name: str, dequantizer: Node) -> Node:
    return Node(
        name=name,
        kind="input",
        inputs=(),
        attrs={"dtype": "float32"},
        weights={},
        shape=dequantizer.shape,
        source=(),
        share=None,
    )


def _rewired(node: Node, renamed: Mapping[str, str]) -> Node:
    return replace(node, inputs=tuple(renamed.get(value, value) for value in node.inputs))
