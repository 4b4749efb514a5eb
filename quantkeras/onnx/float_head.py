"""The float layers in front of an integer program, as ONNX operators in front of its own.

They are the nodes that the quantized model begins with and that have no integer form: a reflecting
pad, say. `sanitize.write_onnx` writes them; their outputs are the program's inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from sanitize.graph import Graph, producer_of
from sanitize.onnx_io import OnnxError, write_onnx
from sanitize.onnx_io.protos import rename_values, value_names

from ..errors import QuantizationError
from ..qmodel import QuantizedGraph
from .layer_export import with_exported_layers
from .onnx_options import OnnxOptions

if TYPE_CHECKING:
    import onnx


def head_nodes(reading: QuantizedGraph) -> list[str]:
    """Names of the float layers that the first InputQuantizers read, in order."""
    return [node.name for node in _before_integers(reading) if node.kind != "input"]


def _before_integers(reading: QuantizedGraph) -> Graph:
    """The part of the graph that InputQuantizers read, if no integers are in it."""
    graph = reading.graph
    entering = [producer_of(node.inputs[0]) for node, _ in reading.inputs()]
    nodes = graph.needed(entering)
    inputs = tuple(name for name in graph.inputs if graph[name] in nodes)
    outputs = tuple(dict.fromkeys(name for name in entering if graph[name].kind != "input"))
    return Graph(tuple(nodes), inputs, outputs, graph.name)


def prepend_head(
    target: onnx.GraphProto, reading: QuantizedGraph, options: OnnxOptions, opset: int
) -> None:
    """Put the float layers that a model begins with in front of the graph of its program.

    Its inputs become those of the model. Raises QuantizationError naming the layer that ONNX has no
    operators for, and for inputs of other types than float32.
    """
    head = _before_integers(reading)
    if not head.outputs:
        return
    if options.input_type != "float32":
        raise QuantizationError(
            f"the model begins with the float layer {head.outputs[0]!r}: its inputs are float32"
        )
    layout: Literal["nchw", "nhwc"] = "nchw" if options.inputs_first else "nhwc"
    try:
        written = write_onnx(
            with_exported_layers(head), input_layout=layout, output_layout=layout, opset=opset
        ).graph
    except OnnxError as error:
        raise QuantizationError(f"the float layers at the beginning: {error}") from error
    ends = {entry.name for entry in (*written.input, *written.output)}
    rename_values(written, {name: f"head/{name}" for name in {*value_names(written)} - ends})
    for node in written.node:
        node.name = f"head/{node.name}"
    inside = list(target.node)
    del target.node[:]
    target.node.extend([*written.node, *inside])
    target.initializer.extend(written.initializer)
    made = {entry.name for entry in written.output}
    given = [entry for entry in target.input if entry.name not in made]
    present = {entry.name for entry in given}
    fresh = [entry for entry in written.input if entry.name not in present]
    _replace_inputs(target, [*fresh, *given], reading.graph.inputs)


def _replace_inputs(
    target: onnx.GraphProto, entries: Sequence[onnx.ValueInfoProto], order: Sequence[str]
) -> None:
    by_name = {entry.name: entry for entry in entries}
    for entry in entries:
        entry.type.tensor_type.shape.dim[0].dim_param = "batch"
    del target.input[:]
    target.input.extend(by_name[name] for name in order if name in by_name)
