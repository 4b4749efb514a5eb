"""convert: a quantized Keras model as an integer Program.

The numbers are read off the layers (``qkernel``, ``qbias``, ``multiplier``, ...), never computed a
second time, so the program has what the Keras model computes with.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from sanitize.graph import Graph, Node, producer_of
from sanitize.keras_io import read_keras

from ..errors import QuantizationError
from ..layers import (
    Dequantizer,
    HardwareLayer,
    InputQuantizer,
    LayerNumbers,
    QuantizedConcatenate,
    WeightedLayer,
)
from ..numerics.formats import Format
from ..numerics.layer import LayerParams, LayerSpec, Pool, Window
from ..runtime import FloatTail, Program, ProgramInput, ProgramLayer

MOVEMENTS = ("flatten", "reshape", "permute", "max_pool", "pad", "identity")


def convert(model: keras.Model) -> Program:
    """The integer program of a quantized model, up to its Dequantizers.

    What follows a Dequantizer (a final softmax, layers that could not be quantized) stays behind
    and is listed in the program's float tail.

    Raises QuantizationError for a model without quantized layers, or with a quantized layer whose
    numbers do not fit the hardware layer.
    """
    graph = read_keras(model)
    if not any(isinstance(n.attrs.get("layer"), HardwareLayer) for n in graph):
        raise QuantizationError(
            f"model {model.name!r} has no quantized layers to convert; call quantize first"
        )
    converter = _Converter(graph)
    for node in graph:
        converter.add(node)
    return converter.program()


class _Converter:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.inputs: list[ProgramInput] = []
        self.layers: list[ProgramLayer] = []
        self.formats: dict[str, Format | None] = {}  # integer values only
        self.alias: dict[str, str] = {}  # value of the graph -> tensor of the program
        self.tail: list[FloatTail] = []
        layers = [node.attrs.get("layer") for node in graph]
        self.reasons = {
            name: reason
            for layer in layers
            if isinstance(layer, Dequantizer)
            for name, reason in layer.reasons.items()
        }

    def add(self, node: Node) -> None:
        layer = node.attrs.get("layer")
        integer = bool(node.inputs) and all(producer_of(v) in self.alias for v in node.inputs)
        if isinstance(layer, InputQuantizer):
            self._add_input(node, layer)
        elif isinstance(layer, HardwareLayer):
            self._add_layer(node, layer)
        elif isinstance(layer, Dequantizer):
            self._add_dequantizer(node)
        elif integer and node.kind in MOVEMENTS:
            self._add_movement(node)
        elif node.kind != "input":
            self.tail.append(self._left_behind(node))

    def _add_input(self, node: Node, layer: InputQuantizer) -> None:
        source = self.graph[node.inputs[0]]
        if source.kind != "input":
            raise QuantizationError(
                f"InputQuantizer {layer.name!r} follows {source.name!r}, not an input: a program "
                "starts at the inputs of the model"
            )
        found = layer.output_format(node.shape).numpy().compact()
        scale = None if layer.integer_input else _array(layer.scale, np.float32)
        self.inputs.append(ProgramInput(source.name, self._shape(node.name), found, scale))
        self.formats[node.name] = found
        self.alias[node.name] = source.name

    def _add_layer(self, node: Node, layer: HardwareLayer) -> None:
        numbers = layer.numbers()
        formats = [self._format(v) for v in node.inputs]
        params = layer_params(layer, numbers, formats, self._shapes(node))
        output = layer.output_format(node.shape)
        scale = None if output is not None else _array(numbers.multiplier, np.float32)
        self._append(
            ProgramLayer(
                name=node.name,
                spec=layer.spec,
                params=params,
                inputs=self._sources(node),
                output_format=None if output is None else output.numpy().compact(),
                output_shape=self._shape(node.name),
                output_scale=scale,
                source=node.source,
                weight_bits=layer.weight_quantizer.bits if isinstance(layer, WeightedLayer) else 0,
            )
        )

    def _add_movement(self, node: Node) -> None:
        source = node.inputs[0]
        if node.kind == "identity":
            self.alias[node.name] = self.alias[producer_of(source)]
            self.formats[node.name] = self._format(source)
            return
        shape, output_shape = self._shape(source), self._shape(node.name)
        found = self._format(source)
        assert found is not None
        if node.kind in ("flatten", "reshape"):
            found = found.reshape(shape, output_shape)
        elif node.kind == "permute":
            found = found.permute(shape, node.attrs["dims"])
        layer = ProgramLayer(
            node.name,
            _movement_spec(node, output_shape),
            LayerParams(qmin=found.qmin, qmax=found.qmax),
            self._sources(node),
            found,
            output_shape,
            source=node.source,
        )
        self._append(layer)

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
        self.alias[layer.name] = layer.name

    def _sources(self, node: Node) -> tuple[str, ...]:
        return tuple(self.alias[producer_of(v)] for v in node.inputs)

    def _format(self, value: str) -> Format | None:
        return self.formats[producer_of(value)]

    def _shapes(self, node: Node) -> list[tuple[int, ...]]:
        return [self._shape(value) for value in node.inputs]

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
        layer = node.attrs.get("layer")
        kind = type(layer).__name__ if layer is not None else node.attrs.get("function", node.kind)
        reason = self.reasons.get(node.name.replace("/", "_"), "it is float in the model")
        return FloatTail(node.name, kind, reason)

    def program(self) -> Program:
        outputs: dict[str, None] = {}
        for value in self.graph.outputs:
            for name in _dequantizers_before(self.graph, value):
                source = producer_of(self.graph[name].inputs[0])
                outputs[self.alias[source]] = None
        inputs, layers, tail = tuple(self.inputs), tuple(self.layers), tuple(self.tail)
        return Program(inputs, layers, tuple(outputs), tail, self.graph.name)


def layer_params(
    layer: HardwareLayer,
    numbers: LayerNumbers,
    formats: list[Format | None],
    shapes: list[tuple[int, ...]],
) -> LayerParams:
    """The integers of one quantized layer for inputs of these formats and unbatched shapes."""
    params = LayerParams(max_value=_optional_int(numbers.qmax_value))
    acc_frac = -_log2(_array(numbers.lsb, np.float64), layer.name)
    params.input_shifts = _input_shifts(layer, acc_frac, formats, shapes)
    if isinstance(layer, WeightedLayer):
        params.weights = _integers(numbers.qkernel)
        params.bias = _optional_int(numbers.qbias)
        if numbers.qpad_value is not None:
            per_input = acc_frac if acc_frac.size == 1 else acc_frac[:: layer.depth_multiplier]
            values = _array(numbers.qpad_value, np.float64)
            params.pad_value = _integers(np.ldexp(values, per_input))
    quantizer = layer.output_quantizer
    if quantizer is not None:
        params.scale, params.shift = _scale_and_shift(layer, numbers)
        params.qmin, params.qmax = quantizer.qmin, quantizer.qmax
    return params


def _input_shifts(
    layer: HardwareLayer,
    acc_frac: np.ndarray,
    formats: list[Format | None],
    shapes: list[tuple[int, ...]],
) -> tuple[np.ndarray | None, ...]:
    """Left shifts into the accumulator's frac, per input; None where nothing moves."""
    targets: list[np.ndarray] = [acc_frac] * len(formats)
    if isinstance(layer, QuantizedConcatenate) and layer.joins_channels:
        edges = np.cumsum([shape[-1] for shape in shapes])[:-1]
        targets = np.split(acc_frac, edges)
    elif hasattr(layer, "depth_multiplier") and acc_frac.size > 1:
        targets = [acc_frac[:: layer.depth_multiplier]]
    shifts: list[np.ndarray | None] = []
    for found, target in zip(formats, targets, strict=True):
        assert found is not None
        shift = target - found.frac
        if shift.min() < 0:
            raise QuantizationError(f"layer {layer.name!r}: its input is finer than it expects")
        shifts.append(shift if shift.any() else None)
    return tuple(shifts) if any(s is not None for s in shifts) else ()


def _scale_and_shift(layer: HardwareLayer, numbers: LayerNumbers) -> tuple[np.ndarray, np.ndarray]:
    """``multiplier = scale * 2**-shift`` with scale of scale_bits bits, its top bit set."""
    mantissa, exponent = np.frexp(_array(numbers.multiplier, np.float64))
    scale = mantissa * 2.0**layer.scale_bits
    if (scale != np.floor(scale)).any():
        raise QuantizationError(
            f"layer {layer.name!r}: its scale does not fit {layer.scale_bits} bits"
        )
    return scale.astype(np.int64), (layer.scale_bits - exponent).astype(np.int64)


def _movement_spec(node: Node, shape: tuple[int, ...]) -> LayerSpec:
    """shape: unbatched, of the output."""
    if node.kind == "max_pool":
        window = Window(node.attrs["size"], node.attrs["strides"], node.attrs["padding"])
        return LayerSpec("identity", pool=Pool("max", window))
    if node.kind == "pad":
        return LayerSpec("pad", pads=node.attrs["padding"])
    if node.kind == "permute":
        return LayerSpec("permute", dims=tuple(node.attrs["dims"]))
    if node.kind == "reshape":
        return LayerSpec("reshape", shape=shape)
    return LayerSpec("flatten")


def _dequantizers_before(graph: Graph, value: str) -> list[str]:
    """Dequantizers that a value depends on without another between, in order of reading."""
    found: dict[str, None] = {}
    waiting, seen = [producer_of(value)], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        node = graph[name]
        if isinstance(node.attrs.get("layer"), Dequantizer):
            found[name] = None
        else:
            waiting += [producer_of(v) for v in reversed(node.inputs)]
    return list(found)


def _array(tensor: Any, dtype: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor)).astype(dtype)


def _integers(tensor: Any) -> np.ndarray:
    values = np.asarray(ops.convert_to_numpy(tensor))
    integers = values.astype(np.int64)
    assert (integers == values).all(), "a number of the hardware layer is not an integer"
    return integers


def _optional_int(tensor: Any) -> np.ndarray | None:
    return None if tensor is None else _integers(tensor)


def _log2(powers: np.ndarray, name: str) -> np.ndarray:
    mantissa, exponent = np.frexp(powers)
    assert (mantissa == 0.5).all(), f"layer {name!r}: a step is not a power of two"
    return (exponent - 1).astype(np.int64)
