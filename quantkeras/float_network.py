"""A float network to quantize, wherever it comes from: a Keras model or an ONNX model."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from sanitize.graph import Graph, Node
from sanitize.keras_io import read_keras

from .calibration.batches import InputSpec
from .calibration.loop import input_names
from .calibration.samples import SampleStream, iterate_samples
from .errors import QuantizationError
from .export.onnx_export import require_onnx
from .provenance import layer_types

if TYPE_CHECKING:
    from sanitize.onnx_io import OnnxImport


@dataclass(frozen=True)
class FloatNetwork:
    """What quantizing starts from.

    graph: as it was read, before any rewriting. layers: the user's layers or ONNX nodes, name ->
    type, in order and without inputs. inputs: what samples have to be. onnx: how the graph relates
    to the ONNX model, where it comes from one.
    """

    graph: Graph
    layers: Mapping[str, str]
    inputs: tuple[InputSpec, ...]
    onnx: OnnxImport | None = field(default=None, repr=False)

    def open_samples(
        self,
        samples: Any,
        num_samples: int | None,
        batch_size: int | None,
        epochs: int,
        random_range: Any,
    ) -> SampleStream:
        """The samples as a stream of checked batches; see ``calibration.samples``."""
        if self.onnx is not None and isinstance(samples, Mapping):
            ours = {port.name: port.value for port in self.onnx.inputs}
            samples = {ours.get(name, name): array for name, array in samples.items()}
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
        return replace(float_network(model), inputs=self.inputs, onnx=self.onnx)

    def described(self, node: Node) -> str:
        """The layers behind a node for a message: 'head' (dense), or 'fc' (Gemm)."""
        names = node.source or (node.name,)
        if self.onnx is None:
            return f"{', '.join(map(repr, names))} ({node.kind})"
        return ", ".join(f"{name!r} ({self.layers.get(name, node.kind)})" for name in names)


def float_network(model: Any) -> FloatNetwork:
    """The network of a Keras model, or of an ONNX model: a ModelProto, its bytes, or a path.

    Raises QuantizationError for anything else, and OnnxError for an ONNX model that cannot be read.
    """
    if isinstance(model, FloatNetwork):
        return model
    if isinstance(model, keras.Model):
        tensors = keras.tree.flatten(model.inputs)
        inputs = [
            InputSpec(name, tuple(tensor.shape[1:]))
            for name, tensor in zip(input_names(model), tensors, strict=True)
        ]
        return FloatNetwork(read_keras(model), dict(layer_types(model)), tuple(inputs))
    if is_onnx(model):
        return onnx_network(model)
    what = repr(str(model)) if isinstance(model, (str, os.PathLike)) else type(model).__name__
    raise QuantizationError(
        f"quantize takes a keras.Model or an ONNX model, not {what}; load files with load_model"
    )


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

    from .onnx_operator import with_operator_layers

    imported = import_onnx(model, **options)
    graph = with_operator_layers(imported.graph)
    layers = {node.name: node.op_type for node in imported.nodes}
    inputs = []
    for port in imported.inputs:
        shape = tuple(graph.shape_of(port.value))
        inputs.append(InputSpec(port.value, shape, port.order))
    return FloatNetwork(graph, layers, tuple(inputs), imported)
