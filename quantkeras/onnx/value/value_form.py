"""The value form of a program: float operators, with every tensor marked as quantized.

What is marked, and how, is the style's business: pairs of QuantizeLinear and DequantizeLinear
("qdq"), operators that take integers ("qoperator"), or a list beside a float graph ("encodings").
The steps are those of the program, so the results are within one of them, layer for layer: ONNX
rounds halves to even where the program rounds them up, and sums in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import onnx

from sanitize.onnx_io.protos import value_info

from ...numerics.hardware_kinds import Trait
from ...numerics.layer import LayerParams, LayerSpec, run_layer
from ...numerics.layer_shapes import core_shape, output_channels
from ...numerics.rounding import pow2
from ...runtime import Program, ProgramInput, ProgramLayer
from ..integer.integer_ends import emit_order, graph_input
from ..integer.integer_form import tensor_names
from ..layer_builder import BATCH, TO_MAP, LayerBuilder, Shape, Tensor
from ..onnx_options import OnnxOptions
from .value_arrays import ValueArrays, Valued
from .value_styles import Style, emit_values
from .value_types import Floats, Limits, container, uniform, zero_point

FLOAT32 = np.dtype(np.float32)


@dataclass
class Held:
    """A tensor of the program: its integers or its values, the others made when they are read.

    step: value of one integer, broadcastable to the unbatched shape. limits: of the integers,
    None for an accumulator.
    """

    tensor: Tensor
    step: Floats
    limits: Limits | None
    floats: Tensor | None = None

    @property
    def is_quantized(self) -> bool:
        """Whether the tensor holds integers."""
        return self.tensor.dtype != FLOAT32

    @property
    def zero(self) -> int:
        """What has been added to the integers."""
        return zero_point(self.tensor.dtype, self.limits)

    def values(self, builder: LayerBuilder) -> Tensor:
        """As floats; one DequantizeLinear serves all readers."""
        if not self.is_quantized:
            return self.tensor
        if self.floats is None:
            self.floats = emit_values(builder, self.tensor, self.step, self.zero)
        return self.floats


class ValueGraph(NamedTuple):
    """A finished graph and what its tensors hold, by the names of the program."""

    graph: onnx.GraphProto
    held: dict[str, Held]


Shortcut = Callable[[LayerBuilder, ProgramLayer, list[Held], Floats, Limits | None], Tensor | None]
"""Adds a layer in operators of integers, or gives None where there are none."""


def value_graph(
    program: Program,
    options: OnnxOptions,
    style: Style,
    names: dict[str, str],
    shortcut: Shortcut | None = None,
) -> ValueGraph:
    """The graph of the program; names: of the tensor of each input and layer in the graph."""
    builder = LayerBuilder([*names.values(), *program.shapes])
    held: dict[str, Held] = {}
    inputs = []
    for entry in program.inputs:
        dtype = _fed_type(entry, options.input_type)
        inputs.append(graph_input(entry, dtype, options.inputs_first))
        with builder.scope(entry.name):
            found = _emit_input(builder, style, entry, dtype, options)
            if found.tensor.name != entry.name:
                found.tensor = builder.named(found.tensor, names[entry.name])
            held[entry.name] = found
    for layer in program.layers:
        with builder.scope(layer.name):
            read = [held[name] for name in layer.inputs]
            found = _emit_layer(builder, style, layer, read, shortcut)
            found.tensor = builder.named(found.tensor, names[layer.name])
            held[layer.name] = found
        builder.describe(held[layer.name].tensor)
    outputs = []
    for name in program.outputs:
        with builder.scope(name):
            value = _emit_output(builder, held[name], options.outputs_first)
            if value.name != name:
                value = builder.named(value, name)
        stored = value.stored if options.outputs_first else value.shape
        outputs.append(value_info(name, FLOAT32, (BATCH, *stored)))
    return ValueGraph(builder.finished(program.name, inputs, outputs), held)


def value_names(program: Program, options: OnnxOptions, floats: bool) -> dict[str, str]:
    """Name of the tensor of each input and layer: its own, but where an end of the graph has that.

    floats: whether the graph has no integers, so that an output may be the tensor itself.
    """
    names = tensor_names(program)
    for name in program.outputs:
        layer = program[name]
        turned = len(layer.output_shape) == 3 and not options.outputs_first
        if not turned and (floats or limits_of(layer) is None):
            names[name] = name
    return names


def step_of(layer: ProgramLayer) -> Floats:
    """Value of one integer that leaves the layer."""
    if layer.output_format is not None:
        return np.asarray(pow2(-layer.output_format.frac))
    return np.asarray(1.0 if layer.output_scale is None else layer.output_scale, np.float64)


def limits_of(layer: ProgramLayer) -> Limits | None:
    """What the integers that leave the layer are within; None for an accumulator."""
    fmt, params = layer.output_format, layer.params
    if fmt is not None:
        return Limits(fmt.qmin, fmt.qmax)
    if params.table is not None:
        return Limits(min(int(np.min(params.table)), 0), int(np.max(params.table)))
    return None if params.scale is None else Limits(int(params.qmin), int(params.qmax))


def _fed_type(entry: ProgramInput, kind: str) -> np.dtype:
    if kind == "integer":
        found = container(Limits(entry.format.qmin, entry.format.qmax), 8)
        return FLOAT32 if found is None else found.dtype
    return np.dtype(np.uint8) if kind == "uint8" else FLOAT32


def _emit_input(
    builder: LayerBuilder, style: Style, entry: ProgramInput, dtype: np.dtype, options: OnnxOptions
) -> Held:
    fmt = entry.format
    step, limits = np.asarray(pow2(-fmt.frac)), Limits(fmt.qmin, fmt.qmax)
    x = Tensor(entry.name, dtype, tuple(entry.shape))
    if x.is_map and not options.inputs_first:
        x = x._replace(name=builder.to_order(x, TO_MAP))
    unscaled = entry.scale is None or (np.asarray(entry.scale) == 1).all()
    centred = entry.offset is not None and bool(np.any(entry.offset))
    plain = unscaled and not centred
    pixels = dtype == np.uint8 and plain and not fmt.frac.any() and limits == Limits(0, 255)
    if options.input_type == "integer" or pixels:
        return Held(x, step, limits)
    x = builder.cast(x, FLOAT32)
    if centred:
        assert entry.offset is not None
        x = builder.operate("Sub", x, entry.offset)
    if not unscaled:
        assert entry.scale is not None
        x = builder.operate("Mul", x, entry.scale)
    return Held(style.activation(builder, x, step, limits), step, limits)


def _emit_output(builder: LayerBuilder, end: Held, first: bool) -> Tensor:
    """Values in the order that the user asked for; integers change their order before."""
    if uniform(end.step) is None:
        return emit_order(builder, end.values(builder), first)
    turned = emit_order(builder, end.tensor, first)
    return emit_values(builder, turned, end.step, end.zero) if end.is_quantized else turned


def _emit_layer(
    builder: LayerBuilder,
    style: Style,
    layer: ProgramLayer,
    read: list[Held],
    shortcut: Shortcut | None,
) -> Held:
    spec, params, pool = layer.spec, layer.params, layer.spec.pool
    rescaled = params.scale is not None and params.table is None
    if rescaled and pool is not None and pool.kind == "max":
        # Maxima are the same before and behind the rescale, and of few bits behind it.
        core = _core_shape(layer, read)
        first = replace(layer, spec=replace(spec, pool=None), output_shape=core)
        then = replace(layer, spec=LayerSpec("identity", pool=pool), params=LayerParams())
        whole = _emit_layer(builder, style, first, read, shortcut)
        return _emit_layer(builder, style, then, [whole], shortcut)
    computes = params.scale is not None or params.bias is not None or params.table is not None
    if Trait.MOVES in spec.traits and (computes or spec.relu or pool is not None):
        # A movement gets a pair of its own: onnxruntime puts a faulty one behind it otherwise.
        rest = replace(layer, spec=LayerSpec("identity", pool=pool, relu=spec.relu))
        whole = _emit_movement(builder, style, replace(spec, pool=None, relu=False), read[0])
        return _emit_layer(builder, style, rest, [whole], shortcut)
    plain = not computes and not spec.relu and (pool is None or pool.kind == "max")
    if (
        plain
        and Trait.PASSES in spec.traits
        and Trait.MERGES not in spec.traits
        and layer.output_format is None
    ):
        return _emit_movement(builder, style, spec, read[0])
    step, limits = step_of(layer), limits_of(layer)
    found = shortcut(builder, layer, read, step, limits) if shortcut is not None else None
    if found is not None:
        return Held(found, step, limits)
    values = [Valued(x.values(builder), x.step) for x in read]
    area = 1 if pool is None else spec.pool_area(_core_shape(layer, read)[:2])
    arrays = ValueArrays(builder, style, params, step, area, layer.weight_bits)
    y = arrays.finished(run_layer(spec, params, values, arrays))
    y = y._replace(shape=tuple(layer.output_shape))
    if limits is not None:
        moves = plain and Trait.PASSES in spec.traits and not spec.relu
        within = moves and all(x.limits is not None and limits.cover(x.limits) for x in read)
        y = style.activation(builder, y, step, limits, within)
    return Held(y, step, limits)


def _emit_movement(builder: LayerBuilder, style: Style, spec: LayerSpec, x: Held) -> Held:
    """A movement alone, in the steps of what it moves."""
    arrays = ValueArrays(builder, style, LayerParams(), x.step, 1, 0)
    moved: Valued = run_layer(spec, LayerParams(), [Valued(x.values(builder), x.step)], arrays)
    found = moved.tensor
    if x.limits is not None:
        found = style.activation(builder, found, moved.step, x.limits, within=True)
    return Held(found, moved.step, x.limits)


def _core_shape(layer: ProgramLayer, read: list[Held]) -> Shape:
    """Unbatched shape of the core of a layer, before it is pooled."""
    shapes = [held.tensor.shape for held in read]
    channels = output_channels(layer.spec, layer.params.weights)
    return core_shape(layer.spec, shapes, channels, layer.name)
