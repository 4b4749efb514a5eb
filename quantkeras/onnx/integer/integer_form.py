"""The integer form of a program: standard ONNX operators on integers, equal to it in every number.

Between the inputs and the outputs there is no float: ConvInteger and MatMulInteger for the
products, Add, Mul, Div, Max and Min for the rest of the layer equation, Gather for tables.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from sanitize.onnx_io.protos import value_info

from ...numerics.bounds import LayerBounds
from ...numerics.layer import run_layer
from ...runtime import Program, ProgramLayer
from ...runtime.program_bounds import program_bounds
from ..layer_builder import BATCH, LayerBuilder, Tensor
from ..onnx_options import OnnxOptions
from .integer_arrays import OnnxArrays, holder
from .integer_ends import (
    emit_input,
    emit_order,
    emit_output,
    emit_quantization,
    graph_input,
    storage,
)

OPSET = 13
"""The oldest operator set with all that is used."""


def integer_graph(program: Program, options: OnnxOptions) -> onnx.GraphProto:
    """The graph of the program; inner tensors have the names of their layers."""
    bounds = program_bounds(program)
    names = tensor_names(program)
    builder = LayerBuilder([*names.values(), *program.shapes])
    inputs, tensors = [], {}
    for entry in program.inputs:
        fmt = entry.format
        dtype = input_type(options.input_type, storage(fmt.qmin, fmt.qmax))
        inputs.append(graph_input(entry, dtype, options.inputs_first))
        with builder.scope(entry.name):
            x = emit_input(builder, entry, dtype, options.inputs_first)
            if options.input_type != "integer":
                x = emit_quantization(builder, entry, x)
            tensors[entry.name] = builder.named(x, names[entry.name])
    for layer in program.layers:
        with builder.scope(layer.name):
            read = [tensors[name] for name in layer.inputs]
            found = emit_layer(builder, layer, read, bounds[layer.name])
            tensors[layer.name] = builder.named(found, names[layer.name])
            builder.describe(tensors[layer.name])
    outputs = []
    for name in program.outputs:
        layer, y = program[name], tensors[name]
        with builder.scope(name):
            bound = int(bounds[name].output.largest)
            value = y if options.integer_outputs else emit_output(builder, layer, y, bound)
            value = builder.named(emit_order(builder, value, options.outputs_first), name)
        stored = value.stored if options.outputs_first else value.shape
        outputs.append(value_info(name, value.dtype, (BATCH, *stored)))
    return builder.finished(program.name, inputs, outputs)


def emit_layer(
    builder: LayerBuilder, layer: ProgramLayer, inputs: list[Tensor], bounds: LayerBounds
) -> Tensor:
    """The nodes of one layer; the result is in the type that its format is stored in."""
    arrays = OnnxArrays(builder, layer.name, bounds)
    found: Tensor = arrays.finished(run_layer(layer.spec, layer.params, inputs, arrays))
    low, high, fmt = int(bounds.output.lo), int(bounds.output.hi), layer.output_format
    kept = holder(max(-low, high)) if fmt is None else storage(fmt.qmin, fmt.qmax)
    found = builder.cast(found, kept)
    return found._replace(shape=tuple(layer.output_shape), low=low, high=high)


def tensor_names(program: Program) -> dict[str, str]:
    """Name of the tensor that holds the integers of each input and layer, in channels-first maps.

    That of the layer itself, but where the user's input or output has that name.
    """
    names = {name: name for name in program.shapes}
    taken = set(names)
    for name in (*(entry.name for entry in program.inputs), *program.outputs):
        found, count = f"{name}/integers", 1
        while found in taken:
            count += 1
            found = f"{name}/integers_{count}"
        taken.add(found)
        names[name] = found
    return names


def input_type(kind: str, kept: npt.DTypeLike) -> npt.DTypeLike:
    """What the user feeds, for the options "float32", "uint8" and "integer"."""
    if kind == "integer":
        return kept
    return np.uint8 if kind == "uint8" else np.float32
