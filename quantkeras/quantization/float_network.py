"""A float network to quantize, wherever it comes from: a Keras model or an ONNX model."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from sanitize.former_names import former_names
from sanitize.graph import Graph, Node
from sanitize.keras_io.keras_graph import is_graph_model
from sanitize.keras_io.keras_reading import read_model
from sanitize.keras_io.reader import READ
from sanitize.log import LogEntry

from ..calibration.batches import InputSpec
from ..calibration.ports import input_names, output_names
from ..calibration.sample_shapes import SampleShapes
from ..calibration.samples import SampleStream, iterate_samples
from ..errors import QuantizationError
from ..layers import is_quantized
from ..layers.onnx_operator import type_name, with_operator_layers
from ..onnx.onnx_files import require_onnx
from .provenance import user_layers

if TYPE_CHECKING:
    from sanitize.onnx_io import OnnxImport


@dataclass(frozen=True)
class FloatNetwork:
    """What quantizing starts from.

    graph: as it was read, before any rewriting. layers: the user's layers or ONNX nodes, name ->
    type, in order and without inputs. inputs: what samples have to be. names: what the user calls
    an input -> its name in the graph. onnx: how the graph relates to the ONNX model, where it comes
    from one. conversions: what reading made of layers that are Python functions, or of integer
    products. objects: the layers themselves, of a Keras model. outputs: what the user calls the
    outputs, in order. former: layers that a Keras model lost when sanitize or equalize made it ->
    those that compute them.
    """

    graph: Graph
    layers: Mapping[str, str]
    inputs: tuple[InputSpec, ...]
    names: Mapping[str, str]
    onnx: OnnxImport | None = field(default=None, repr=False)
    conversions: tuple[LogEntry, ...] = ()
    objects: Mapping[str, Any] = field(default_factory=dict, repr=False)
    outputs: tuple[str, ...] = ()
    former: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    def open_samples(
        self,
        samples: Any,
        num_samples: int | None,
        batch_size: int | None,
        epochs: int,
        random_range: Any,
    ) -> SampleStream:
        """The samples as a stream of checked batches; see ``calibration.samples``."""
        if isinstance(samples, Mapping):
            samples = {self.names.get(name, name): array for name, array in samples.items()}
        return iterate_samples(
            samples, self.inputs, num_samples, batch_size, epochs, random_range=random_range
        )

    def samples_for_layers(
        self, samples: Any, num_samples: int | None, batch_size: int | None
    ) -> Any:
        """The samples as the quantized Keras model takes them: those of an ONNX model turned."""
        if self.onnx is None:
            return samples
        return lambda: self.open_samples(samples, num_samples, batch_size, 1, None)

    def with_model(self, model: Any) -> FloatNetwork:
        """The network of a Keras model that was made of this one; samples and the ONNX model's
        names and axes are as before.
        """
        return replace(
            float_network(model),
            inputs=self.inputs,
            names=self.names,
            onnx=self.onnx,
            outputs=self.outputs,
        )

    def described(self, node: Node) -> str:
        """The layers behind a node for a message: 'head' (dense), or 'fc' (Gemm)."""
        names = node.source or (node.name,)
        if self.onnx is None:
            kind = node.kind
            if kind == "opaque":  # which says nothing to the user
                kind = self.layers.get(names[0], type_name(node.attrs["layer"]))
            return f"{', '.join(map(repr, names))} ({kind})"
        return ", ".join(f"{name!r} ({self.layers.get(name, node.kind)})" for name in names)


def float_network(
    model: Any, shapes: Any = None, samples: SampleShapes | None = None, verify: bool = True
) -> FloatNetwork:
    """The network of a Keras model, or of an ONNX model: a ModelProto, its bytes, or a path.

    shapes: sizes behind the batch of inputs that leave them open, by name, or a tuple for the only
    input; those of an ONNX model in its order. samples: where they are taken from otherwise; None
    leaves those of a Keras model open.
    verify: run what is read from a Keras model against it on random inputs.

    Raises QuantizationError for a quantized model and for anything else, SampleError where sizes
    stay open, OnnxError and GraphError for a model that cannot be read, and ReadingError, naming
    the layer, where what was read computes something else.
    """
    if isinstance(model, FloatNetwork):
        return model
    if isinstance(model, keras.Model):
        check_float(model)
        return _keras_network(model, shapes, samples, verify)
    if is_onnx(model):
        return onnx_network(model, shapes=onnx_shapes(shapes, samples))
    what = repr(str(model)) if isinstance(model, (str, os.PathLike)) else type(model).__name__
    raise QuantizationError(
        f"quantize takes a keras.Model or an ONNX model, not {what}; load files with load_model"
    )


def check_float(model: Any) -> None:
    """Raise QuantizationError, with the remedy, for a model that is quantized already."""
    if is_quantized(model):
        raise QuantizationError(
            f"model {model.name!r} is quantized already, and this takes the float model that it was"
            " made of; calibrate, correct_bias, adaround and fit go on with a quantized one"
        )


def _keras_network(
    model: Any, shapes: Any, samples: SampleShapes | None, verify: bool
) -> FloatNetwork:
    shapes, dtypes = keras_shapes(model, shapes, samples)
    reading = read_model(model, verify, shapes, dtypes)
    graph = reading.graph
    inputs = [
        InputSpec(name, tuple(graph.shape_of(name)), _other_order(graph, name))
        for name in graph.inputs
    ]
    names = dict(zip(input_names(reading.model), graph.inputs, strict=True))
    objects = dict(user_layers(reading.model))
    layers = {name: type_name(layer) for name, layer in objects.items()}
    return FloatNetwork(
        graph,
        layers,
        tuple(inputs),
        names,
        conversions=tuple(reading.conversions),
        objects=objects,
        outputs=tuple(output_names(reading.model)),
        former=former_names(model),
    )


def keras_shapes(model: Any, shapes: Any, samples: SampleShapes | None = None) -> tuple[Any, Any]:
    """Shapes and dtypes of a Keras model's inputs as ``read_model`` takes them.

    The shapes that were given, or those of samples where the model leaves sizes open or is not
    built; None where the model tells by itself. Raises SampleError for samples that do not tell.
    """
    if shapes is not None or samples is None:
        return shapes, None
    if is_graph_model(model):
        specs = [
            InputSpec(name, tuple(tensor.shape[1:]))
            for name, tensor in zip(
                input_names(model), keras.tree.flatten(model.inputs), strict=True
            )
        ]
        opened = any(None in spec.shape for spec in specs)
        return (samples.of_inputs(specs) if opened else None), None
    return (None, None) if model.built else samples.nested()


def _other_order(graph: Graph, name: str) -> tuple[int, ...] | None:
    """Where samples of an input that is channels first may also come channels last: their axes."""
    shape = graph.shape_of(name)
    last = (*range(1, len(shape)), 0)
    readers = graph.consumers(name)
    turned = readers and all(
        node.kind == "permute" and tuple(node.attrs["dims"]) == last for node in readers
    )
    # A shape that looks the same either way is in the model's own order.
    if not turned or None in shape or tuple(shape[axis] for axis in last) == tuple(shape):
        return None
    return (0, len(shape), *range(1, len(shape)))


def onnx_shapes(shapes: Any, samples: SampleShapes | None = None) -> Any:
    """What ``import_onnx`` takes for sizes: those given, or a function that asks the samples."""

    def asked(declared: Mapping[str, tuple[int | None, ...]]) -> Mapping[str, Sequence[int]]:
        if shapes is not None or samples is None:
            return dict.fromkeys(list(declared)[:1], shapes)
        specs = [InputSpec(name, shape, _picture_order(shape)) for name, shape in declared.items()]
        return samples.of_inputs(specs)

    plain = isinstance(shapes, Mapping) or (shapes is None and samples is None)
    return shapes if plain else asked


def _picture_order(shape: tuple[int | None, ...]) -> tuple[int, ...] | None:
    """Pictures (c, h, w) may come channels last."""
    return (0, 3, 1, 2) if len(shape) == 3 and shape[0] is not None else None


def is_onnx(model: Any) -> bool:
    """Whether it is an ONNX model or the path of one, by its type or its name."""
    if isinstance(model, (str, os.PathLike)):
        return Path(model).suffix.lower() == ".onnx"
    proto = getattr(sys.modules.get("onnx"), "ModelProto", ())
    return isinstance(model, (bytes, proto))


def onnx_network(model: Any, **options: Any) -> FloatNetwork:
    """The network of an ONNX model; options go to ``import_onnx``.

    Samples may have their axes as in the ONNX model, or channels-last.
    """
    require_onnx()
    from sanitize.onnx_io import import_onnx

    imported = import_onnx(model, **options)
    graph = with_operator_layers(imported.graph)
    layers = {node.name: node.op_type for node in imported.nodes}
    names = {port.name: port.value for port in imported.inputs}
    inputs = []
    for port in imported.inputs:
        shape = tuple(graph.shape_of(port.value))
        # Samples that the ONNX model counts along another axis come along the first.
        inputs.append(InputSpec(port.value, shape, None if port.order[0] else port.order))
    outputs = tuple(port.name for port in imported.outputs)
    return FloatNetwork(
        graph,
        layers,
        tuple(inputs),
        names,
        imported,
        conversions=tuple(map(_read_as_float, imported.products)),
        outputs=outputs,
    )


def _read_as_float(name: str) -> LogEntry:
    sentence = (
        f"'{name}', whose input the ONNX model quantizes with steps of each batch, is read as the"
        " float product that it rounds"
    )
    return LogEntry(READ, (name,), (name,), "fired", sentence, name, "dynamic int8 -> float")
