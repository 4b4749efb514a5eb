"""From a path, bytes or a ModelProto to a copy that may be rewritten; writing and running models.

A message of protobuf ends at 2 GiB. Models beyond it are held in memory all the same: what would
write them as one message is done part by part here, or through files with external data.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.helper
import onnx.inliner
import onnx.shape_inference
import onnxruntime

from sanitize.onnx_io import OnnxError
from sanitize.onnx_io.limits import (
    check_domains,
    check_limits,
    check_sizes,
    without_large_weights,
)
from sanitize.onnx_io.protos import label_of, opset_of, read_within, unique_name
from sanitize.onnx_io.source import parse_model

from ...errors import ModelFileError, QuantizationError
from ...files.faults import describe_foreign, is_tflite
from ...files.writing import replacing

OLDEST_OPSET = 10
"""The first with QuantizeLinear, ConvInteger, QLinearConv and their like."""

LARGEST_MESSAGE = 2**31 - 2**20
"""Bytes of the largest protobuf message, less some for what is no weight."""


def load_model(model: Any) -> onnx.ModelProto:
    """A copy of the model, its weights loaded and each node with a name of its own.

    model: a ModelProto, its bytes, or a path (external data are read from beside it).
    Raises ModelFileError for a file that is no ONNX model, FileNotFoundError for none, and
    QuantizationError for an opset below 10 or weights that were not loaded.
    """
    try:
        loaded, label = parse_model(model)
    except OnnxError as error:
        if isinstance(model, str | os.PathLike) and is_tflite(start := _first_bytes(model)):
            raise ModelFileError(describe_foreign(Path(model), start)) from error
        raise ModelFileError(str(error)) from error
    opset = opset_of(loaded)
    if opset < OLDEST_OPSET:
        raise QuantizationError(
            f"{label} uses opset {opset}, but the operators of quantized models came with opset "
            f"{OLDEST_OPSET}. Export it again with a newer opset, or convert it: "
            "onnx.version_converter.convert_version(model, 13)"
        )
    for tensor in loaded.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise QuantizationError(
                f"{label} keeps '{tensor.name}' in a file beside it that was not loaded. Pass the "
                "path of the model, or call onnx.load_external_data_for_model first"
            )
    try:
        check_limits(loaded, label)
        check_domains(loaded, label)
        if loaded.functions:
            loaded = onnx.inliner.inline_local_functions(loaded)
        check_sizes(loaded, label)
    except OnnxError as error:
        raise ModelFileError(str(error)) from error
    found = copy_model(loaded)
    found.ir_version = max(found.ir_version, 4)  # from here on weights need not be inputs, too
    for node in found.graph.node:
        node.domain = "" if node.domain == "ai.onnx" else node.domain  # two names of one domain
    _lift_constants(found.graph)
    _name_nodes(found.graph)
    return found


def _first_bytes(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        return file.read(8)


def copy_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy made field by field: no message as large as the whole is written."""
    found = onnx.ModelProto()
    for message, target in ((model, found), (model.graph, found.graph)):
        for field, value in message.ListFields():
            if field.name == "graph":
                continue
            if hasattr(value, "extend"):
                getattr(target, field.name).extend(value)
            elif hasattr(value, "CopyFrom"):
                getattr(target, field.name).CopyFrom(value)
            else:
                setattr(target, field.name, value)
    return found


def _lift_constants(graph: onnx.GraphProto) -> None:
    """All constants as initializers, and no initializer as an input: weights are weights in
    whatever way an exporter wrote them down. Values keep their names.
    """
    held = {tensor.name for tensor in graph.initializer}
    for index in reversed(range(len(graph.input))):
        if graph.input[index].name in held:
            del graph.input[index]
    same: dict[str, str] = {}
    read_elsewhere = {value.name for value in graph.output} | read_within(graph)
    kept = []
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = same.get(name, name)
        value = next((entry for entry in node.attribute if entry.name == "value"), None)
        if node.op_type == "Constant" and not node.domain and value is not None:
            tensor = graph.initializer.add()
            tensor.CopyFrom(value.t)
            tensor.name = node.output[0]
            held.add(tensor.name)
        elif (
            node.op_type == "Identity"
            and not node.domain
            and node.input[0] in held
            and node.output[0] not in read_elsewhere
        ):
            same[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Names for nodes without one, and one more digit for names that are taken: lists of nodes,
    onnxruntime's as well, go by name.
    """
    counts = Counter(node.name for node in graph.node)
    taken = {node.name for node in graph.node if node.name}
    for position, node in enumerate(graph.node):
        if node.name and counts[node.name] == 1:
            continue
        counts[node.name] -= 1
        node.name = unique_name(label_of(node, position), taken)


def size_of(model: onnx.ModelProto) -> int:
    """Bytes of the weights and the graph, also where they are too many for a message."""
    graph = model.graph
    return sum(part.ByteSize() for field in (graph.initializer, graph.node) for part in field)


def inferred_types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    """Element type, and shape where known, of the tensors of the main graph.

    Large weights take part by their shape alone, so that models of any size can be asked.
    """
    light = without_large_weights(model)
    light.graph.output.extend(model.graph.output)
    try:
        inferred = onnx.shape_inference.infer_shapes(light).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise ModelFileError(
            f"the shapes of the model '{model.graph.name}' do not fit together: {error}"
        ) from error
    values = [*model.graph.value_info, *inferred.value_info, *inferred.input, *inferred.output]
    return {
        value.name: value.type.tensor_type
        for value in values
        if value.type.HasField("tensor_type") and value.type.tensor_type.elem_type
    }


def save_model(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Write a model; the weights of one above 2 GiB go to a file ``path + ".data"`` beside it."""
    with replacing(path) as temporary:
        if size_of(model) <= LARGEST_MESSAGE:
            temporary.write_bytes(model.SerializeToString())
            return
        data = f"{temporary.name}.data"
        # Saving turns the weights of the model that is saved into references.
        onnx.save(copy_model(model), str(temporary), save_as_external_data=True, location=data)


@contextmanager
def as_file(model: onnx.ModelProto) -> Iterator[Path]:
    """The model as a file in a folder that goes away afterwards."""
    with tempfile.TemporaryDirectory(prefix="quantkeras-") as folder:
        path = Path(folder, "model.onnx")
        save_model(model, path)
        yield path


def open_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """The model in onnxruntime, on the CPU. Raises QuantizationError where it cannot be run."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    providers = ["CPUExecutionProvider"]
    try:
        if size_of(model) <= LARGEST_MESSAGE:
            content = model.SerializeToString()
            return onnxruntime.InferenceSession(content, options, providers=providers)
        with as_file(model) as path:
            return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except session_errors() as error:
        raise QuantizationError(
            f"onnxruntime cannot run the model '{model.graph.name}': {error}"
        ) from error


def dtype_of(onnx_type: str) -> np.dtype[Any]:
    """The NumPy type for what onnxruntime calls, for example, tensor(float).

    Raises TypeError for what NumPy has no type for.
    """
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64", "string": "object"}.get(name, name))


def session_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises for a model that it cannot take or run; the classes share no base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidGraph", "InvalidArgument", "NotImplemented", "RuntimeException")
    return tuple(getattr(state, name) for name in names)
