"""From a path, bytes or a ModelProto to a model that can be read, or an error that says why not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnx
import onnx.checker
import onnx.defs
import onnx.helper
import onnx.inliner
from google.protobuf.message import DecodeError

from ..onnx_errors import OnnxError
from .limits import check_limits, check_sizes
from .protos import inner_graphs, label_of, opset_of

#: The oldest operator set that is read; version 10 gave Slice and others their inputs of today.
OLDEST_OPSET = 10
#: Operator domains that ``onnx`` can run node by node.
DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
#: Above this size protobuf cannot serialize a model, which the checker needs.
_LARGEST_CHECKED = 2**31 - 1


def load_model(model: Any) -> onnx.ModelProto:
    """The model with its weights loaded and its local functions written out, checked.

    model: a ModelProto, the bytes of one, or a path (external data are read from beside it).
    Raises OnnxError for a file that is no model, or asks for more than can be held (``limits``), an
    opset below 10, a node of a foreign domain, an operator that the opset does not have, and what
    onnx.checker objects to; FileNotFoundError for a path that leads nowhere.
    """
    loaded, label = parse_model(model)
    check_limits(loaded, label)
    if loaded.functions:
        loaded = onnx.inliner.inline_local_functions(loaded)
    opset = opset_of(loaded)
    if opset < OLDEST_OPSET:
        raise OnnxError(
            f"{label} uses opset {opset}; opset {OLDEST_OPSET} is the oldest that is read. Convert"
            " it first: onnx.version_converter.convert_version(model, 13)"
        )
    for position, node in enumerate(loaded.graph.node):
        _check_operator(node, position, loaded, label)
    if loaded.ByteSize() <= _LARGEST_CHECKED:
        try:
            onnx.checker.check_model(loaded)
        except (onnx.checker.ValidationError, UnicodeDecodeError) as error:
            raise OnnxError(f"{label} is not a valid ONNX model: {error}") from error
    check_sizes(loaded, label)
    return loaded


def parse_model(model: Any) -> tuple[onnx.ModelProto, str]:
    """The model as it is stored, with its weights, and what to call it in messages.

    model: as for :func:`load_model`. Raises OnnxError for a file that is no model,
    FileNotFoundError for a path that leads nowhere, and TypeError for anything else.
    """
    if isinstance(model, onnx.ModelProto):
        loaded, label = model, f"the model '{model.graph.name}'"
    elif isinstance(model, (bytes, str, os.PathLike)):
        label = "the model" if isinstance(model, bytes) else f"'{Path(model).name}'"
        loaded = _parsed(model, label)
    else:
        raise TypeError(
            f"an ONNX model is a ModelProto, its bytes or a path, not a {type(model).__name__}"
        )
    if not loaded.HasField("graph") or not loaded.opset_import:
        raise OnnxError(f"{label} is not an ONNX model: it has no graph. Is the file complete?")
    return loaded, label


def _parsed(model: bytes | str | os.PathLike[str], label: str) -> onnx.ModelProto:
    if not isinstance(model, bytes) and not Path(model).is_file():
        raise FileNotFoundError(f"there is no file '{model}'")
    try:
        if isinstance(model, bytes):
            return onnx.load_model_from_string(model)
        return onnx.load(str(model))
    except DecodeError as error:
        raise OnnxError(
            f"{label} cannot be parsed as an ONNX model ({error}); it is damaged or of another kind"
        ) from error
    except (onnx.checker.ValidationError, OSError, ValueError, TypeError, MemoryError) as error:
        raise OnnxError(f"the external data of {label} cannot be read: {error}") from error


def _check_operator(
    node: onnx.NodeProto, position: int, model: onnx.ModelProto, label: str
) -> None:
    name = label_of(node, position)
    if node.domain not in DOMAINS:
        raise OnnxError(
            f"node '{name}' of {label} is the operator '{node.op_type}' of the domain"
            f" '{node.domain}', which nothing is known about. Export the model with standard"
            " operators only (without the optimizations of a runtime)"
        )
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    domain = node.domain if node.domain != "ai.onnx" else ""
    version = versions.get(domain or "ai.onnx", 1)
    newest = onnx.defs.onnx_opset_version() if not domain else version
    if not onnx.defs.has(node.op_type, min(version, newest), domain):
        raise OnnxError(
            f"node '{name}' of {label} is the operator '{node.op_type}', which opset {version} of"
            f" the domain '{domain or 'ai.onnx'}' does not have. Export the model again with"
            " another opset, or write the operator out"
        )
    for inner in inner_graphs(node):
        for place, part in enumerate(inner.node):
            _check_operator(part, place, model, label)
