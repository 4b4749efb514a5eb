"""convert: a quantized Keras model as an integer Program.

The numbers are read off the layers (``qkernel``, ``qbias``, ``multiplier``, ...), never computed a
second time, so the program has what the Keras model computes with.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sanitize.graph import Node, producer_of

from ..errors import QuantizationError
from ..layers import (
    HardwareLayer,
    InputQuantizer,
    WeightedLayer,
    program_input,
)
from ..layers.onnx_operator import kind_of
from ..numerics.carry import carry
from ..numerics.formats import Format
from ..numerics.layer import LayerParams, LayerSpec
from ..qmodel import QuantizedGraph, layer_of, rounding_layer
from ..quantization.movement_steps import carry_through, movement_steps
from ..quantization.provenance import provenance_of, quantized_name
from ..runtime import FloatTail, Program, ProgramInput, ProgramLayer
from .float_ends import warn_of_floats
from .program_numbers import as_array, check_finite, layer_params
from .wide_accumulators import warn_of_wide_accumulators

Array = npt.NDArray[Any]


def convert(model: Any, part: int = 0) -> Program:
    """Make the integer program of a quantized model, up to its Dequantizers.

    What follows a Dequantizer (a final softmax, layers that could not be quantized) stays behind
    and is listed in the program's float tail. Where the model begins with layers that stay float,
    the program takes what these give.

    Args:
        model: a quantized model, or its reading.
        part: where layers are quantized again behind float ones (see ``float_layers`` of
            QuantizationParams), the model has several integer parts, and this says which one: 0
            begins at the inputs. The inputs of another part are the float values that are quantized
            again, and tensors of earlier parts that it reads; they have the names of the layers
            that make them.

    Returns:
        The program, which gives the same numbers as the model, bit for bit.

    Raises:
        QuantizationError: for a model without quantized layers, or with a quantized layer whose
            numbers do not fit the hardware layer, and for a part that is not there.

    Warns:
        FloatTailWarning: of float layers behind the program, unless it is a softmax, a sigmoid or
            the like at the very end, which is left to the application, and of those before it.
        AccumulatorWarning: of a model whose accumulators have outgrown buffer_bits in training.

    Example:
        ``convert(quantized).save("net.qkp")``
    """
    reading = QuantizedGraph.of(model, "convert")
    program = integer_program(reading, part)
    warn_of_floats(reading.graph, program, part)
    warn_of_wide_accumulators(reading.model, program)
    return program


def integer_program(model: Any, part: int = 0) -> Program:
    """:func:`convert` for those who tell of the float tail themselves, or need none."""
    reading = QuantizedGraph.of(model, "convert")
    parts = reading.parts()
    last = max(parts.values())
    if not 0 <= part <= last:
        raise QuantizationError(
            f"model {reading.model.name!r} has no integer part {part}; the last one is {last}"
        )
    return _converted(reading, parts, part)


def convert_parts(model: Any) -> list[Program]:
    """Make the program of each integer part of a quantized model that has layers.

    Args:
        model: a quantized model, or its reading.

    Returns:
        The programs in the order of the parts: one, unless layers are quantized again behind float
        ones; see :func:`convert`.

    Raises:
        QuantizationError: as :func:`convert` does.
    """
    reading = QuantizedGraph.of(model, "convert")
    parts = reading.parts()
    busy = {parts[node.name] for node, _ in reading.hardware()}
    return [_converted(reading, parts, part) for part in sorted(busy)]


def _converted(reading: QuantizedGraph, parts: dict[str, int], part: int) -> Program:
    converter = _Converter(reading, parts, part)
    for node in reading.graph:
        converter.add(node)
    return converter.program()


class _Converter:
    def __init__(self, reading: QuantizedGraph, parts: dict[str, int], part: int) -> None:
        self.graph = reading.graph
        self.parts = parts
        self.part = part
        self.inputs: list[ProgramInput] = []
        self.layers: list[ProgramLayer] = []
        self.formats: dict[str, Format | None] = {}  # integer values only; None: accumulators
        self.scales: dict[str, Array | None] = {}  # of accumulators
        self.alias: dict[str, str] = {}  # value of the graph -> tensor of the program
        self.tail: list[FloatTail] = []
        self.sources = provenance_of(reading.model).sources  # layers of the user's model
        self.dequantizers = dict.fromkeys(node.name for node, _ in reading.dequantizers())
        self.reasons = {
            name: reason
            for _, layer in reading.dequantizers()
            for name, reason in layer.reasons.items()
        }

    def add(self, node: Node) -> None:
        quantizer, layer = layer_of(node, InputQuantizer), layer_of(node, HardwareLayer)
        if node.name not in self.parts:
            if node.kind != "input":
                self.tail.append(self._left_behind(node))
        elif self.parts[node.name] != self.part:
            if self.parts[node.name] > self.part and layer is not None:
                self.tail.append(self._left_behind(node))
        elif quantizer is not None:
            self._add_input(node, quantizer)
        elif layer is not None:
            self._add_layer(node, layer)
        elif node.name in self.dequantizers:
            self._add_dequantizer(node)
        else:
            self._add_movement(node)

    def _add_input(self, node: Node, layer: InputQuantizer) -> None:
        source = node.inputs[0]  # one output of a float layer, or an input of the model
        check_finite(layer)
        entry = program_input(source, self._shape(node.name), layer)
        self.inputs.append(entry)
        self.formats[node.name] = entry.format
        self.alias[node.name] = source

    def _enter(self, values: tuple[str, ...]) -> None:
        """Make inputs of the program of integers that earlier parts compute."""
        for name in dict.fromkeys(map(producer_of, values)):
            if name not in self.alias:
                found = self._format_made_by(name)
                self.formats[name] = found
                self.alias[name] = self._behind_identities(name)
                if all(entry.name != self.alias[name] for entry in self.inputs):
                    shape = self._shape(name)
                    self.inputs.append(ProgramInput(self.alias[name], shape, found))

    def _format_made_by(self, name: str) -> Format:
        """Format of the integers that a node of an earlier part gives."""
        node = self.graph[name]
        layer: Any = rounding_layer(node)
        if layer is not None:
            made: Format = layer.output_format(node.shape).numpy().compact()
            return made
        source = node.inputs[0]
        found, shape = self._format_made_by(producer_of(source)), self._shape(source)
        return found.with_frac(carry_through(found.frac, node, shape, self._shape(name)))

    def _behind_identities(self, name: str) -> str:
        """The node that makes what this one hands on: identities are no layers of a program."""
        while self.graph[name].kind == "identity":
            name = producer_of(self.graph[name].inputs[0])
        return name

    def _add_layer(self, node: Node, layer: HardwareLayer) -> None:
        self._enter(node.inputs)
        check_finite(layer)
        numbers = layer.numbers()
        formats = [self._format(v) for v in node.inputs]
        params = layer_params(layer, numbers, formats)
        output = layer.output_format(node.shape)
        scale = None if output is not None else as_array(numbers.multiplier, np.float32)
        self._append(
            ProgramLayer(
                name=node.name,
                spec=layer.spec,
                params=params,
                inputs=self._sources(node),
                output_format=None if output is None else output.numpy().compact(),
                output_shape=self._shape(node.name),
                output_scale=scale,
                source=self.sources.get(node.name, node.source),
                weight_bits=layer.weight_quantizer.bits if isinstance(layer, WeightedLayer) else 0,
            )
        )

    def _add_movement(self, node: Node) -> None:
        self._enter(node.inputs)
        source = node.inputs[0]
        if node.kind == "identity":
            self.alias[node.name] = self.alias[producer_of(source)]
            self.formats[node.name] = self._format(source)
            self.scales[node.name] = self.scales.get(producer_of(source))
            return
        name, (before,) = producer_of(source), self._sources(node)
        found, scale = self.formats[name], self.scales.get(name)
        shape = self._shape(source)
        steps = movement_steps(node, shape, self._shape(node.name))
        for number, step in enumerate(steps, 1):
            if found is not None:
                found = found.with_frac(carry(found.frac, step.spec, shape))
            if scale is not None:
                scale = carry(scale, step.spec, shape)
            own = node.name if number == len(steps) else f"{node.name}/{step.spec.kind}"
            limits = (found.qmin, found.qmax) if found is not None else (0, 0)
            params = LayerParams(qmin=limits[0], qmax=limits[1])
            source_names = self.sources.get(node.name, node.source)
            layer = ProgramLayer(
                own, step.spec, params, (before,), found, step.shape, scale, source_names
            )
            self._append(layer)
            before, shape = own, step.shape

    def _add_dequantizer(self, node: Node) -> None:
        """A Dequantizer is where an output of the program is read; it needs a layer before it."""
        source = self.alias[producer_of(node.inputs[0])]
        if any(entry.name == source for entry in self.inputs):
            found = self._format(node.inputs[0])
            assert found is not None
            params = LayerParams(qmin=found.qmin, qmax=found.qmax)
            name, shape = node.name, self._shape(node.name)
            self.layers.append(
                ProgramLayer(name, LayerSpec("identity"), params, (source,), found, shape)
            )
            self.alias[producer_of(node.inputs[0])] = name

    def _append(self, layer: ProgramLayer) -> None:
        self.layers.append(layer)
        self.formats[layer.name] = layer.output_format
        self.scales[layer.name] = layer.output_scale
        self.alias[layer.name] = layer.name

    def _sources(self, node: Node) -> tuple[str, ...]:
        return tuple(self.alias[producer_of(v)] for v in node.inputs)

    def _format(self, value: str) -> Format | None:
        return self.formats[producer_of(value)]

    def _shape(self, value: str) -> tuple[int, ...]:
        """Unbatched shape of a value; QuantizationError where a size is not known."""
        shape = self.graph.shape_of(value)
        known = tuple(size for size in shape if size is not None)
        if len(known) != len(shape):
            raise QuantizationError(
                f"{value!r} has the shape {shape}: a program needs known sizes. Rebuild the float "
                "model with a keras.Input of fixed size, load its weights, and quantize that."
            )
        return known

    def _left_behind(self, node: Node) -> FloatTail:
        reason = self.reasons.get(quantized_name(node.name), "it is float in the model")
        if node.name in self.parts:
            reason = f"integer behind float layers: convert(model, part={self.parts[node.name]})"
        return FloatTail(node.name, kind_of(node), reason)

    def program(self) -> Program:
        ends: dict[str, None] = {}
        for value in self.graph.outputs:
            ends.update(dict.fromkeys(self._dequantizers_before(value)))
        ends |= self.dequantizers  # what other parts read, through float layers or as it is
        outputs: dict[str, None] = {}
        for name in ends:
            if self.parts[name] == self.part:
                outputs[self.alias[producer_of(self.graph[name].inputs[0])]] = None
        for node in self.graph:
            if self.parts.get(node.name, 0) > self.part:
                read = [producer_of(value) for value in node.inputs]
                crossing = [name for name in read if self.parts.get(name) == self.part]
                outputs.update({self.alias[name]: None for name in crossing})
        # A list of arrays feeds the program as it feeds the model.
        order = {name: place for place, name in enumerate(self.graph.inputs)}
        inputs = tuple(sorted(self.inputs, key=lambda entry: order.get(entry.name, len(order))))
        layers, tail = tuple(self.layers), tuple(self.tail)
        return Program(inputs, layers, tuple(outputs), tail, self.graph.name)

    def _dequantizers_before(self, value: str) -> list[str]:
        """Those that a value depends on without another between, in order of reading."""
        found: dict[str, None] = {}
        waiting, seen = [producer_of(value)], set()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self.dequantizers:
                found[name] = None
            else:
                waiting += [producer_of(v) for v in reversed(self.graph[name].inputs)]
        return list(found)
