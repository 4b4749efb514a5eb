"""Loads and saves Keras models: quantized or float, `.keras` or `.h5`, of Keras 3 or Keras 2.

An `.onnx` file is loaded as the float Keras model that `from_onnx` makes of it.

`load_model` needs no `custom_objects` for what quantkeras makes. A file is told by its contents;
one written by Keras 2 goes through `quantkeras.files.keras2`. `save_model` writes beside the target
and renames at the end, so an interrupted save leaves the old file as it was.
"""

import json
import logging
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from quantkeras.errors import ModelFileError
from quantkeras.files.faults import describe_foreign, explained, first_line
from quantkeras.files.model_file_limits import bounded_weights, check_hdf5, check_zip
from quantkeras.files.writing import replacing, reserve

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_ZIP_SIGNATURE = b"PK"
_KERAS_MEMBERS = ("config.json", "metadata.json", "model.weights.h5")
_HDF5_SUFFIXES = (".h5", ".hdf5")
_HDF5_GROUP = 4096
"""Bytes that HDF5 spends on a layer or a weight besides its numbers, at most."""
_SUFFIXES = (".keras", *_HDF5_SUFFIXES)


def load_model(
    path: str | os.PathLike[str],
    *,
    compile: bool = False,
    safe_mode: bool = True,
    custom_objects: Mapping[str, Any] | None = None,
) -> keras.Model:
    """Load the model in a file: .keras, .h5 or .hdf5, also those of Keras 2, and .onnx.

    Args:
        path: the file.
        compile: also restore the optimizer, loss and metrics (not those of Keras 2 files).
        safe_mode: refuse Lambda layers, which are Python code inside the file.
        custom_objects: name -> class or function, for layers that are neither Keras's nor
            quantkeras's.

    Returns:
        The model, quantized or float as it was saved.

    Raises:
        ModelFileError: with what is wrong with the file and what to do.
        QuantizationError: for an .onnx file where the package onnx is missing.
    """
    # Known to Keras by name once imported: the quantized layers, and Keras 2's left-overs.
    from quantkeras.files.keras2 import layers as keras2_layers
    from quantkeras.layers import (
        as_quantized_model,
        onnx_operator,  # noqa: F401
    )

    path = Path(path)
    start = _first_bytes(path)
    if path.suffix.lower() == ".onnx":
        return _load_onnx(path)
    if start == _HDF5_SIGNATURE:
        suffixes: tuple[str, ...] = _HDF5_SUFFIXES
        keras_version, config = _read_hdf5_header(path)
    elif start.startswith(_ZIP_SIGNATURE):
        suffixes = (".keras",)
        _check_archive(path)
        keras_version, config = "3", {}
    else:
        raise ModelFileError(describe_foreign(path, start))
    with explained(path, compile), bounded_weights(path):
        if keras_version.startswith("2."):
            objects = {**keras2_layers.application_layers(), **(custom_objects or {})}
            return _load_keras2(path, config, objects, safe_mode)
        if path.suffix.lower() not in suffixes:
            raise ModelFileError(f"it holds a {suffixes[0]} model; rename it to *{suffixes[0]}")
        objects = {**keras2_layers.application_layers(), **(custom_objects or {})}
        model = keras.models.load_model(
            path, custom_objects=objects, compile=compile, safe_mode=safe_mode
        )
    # Files of before there was a class of quantized models name Keras's own.
    return as_quantized_model(model)


def save_model(model: keras.Model, path: str | os.PathLike[str]) -> Path:
    """Save a model, replacing a file that is there.

    All or nothing: if saving fails or is interrupted, the file is what it was before.

    Args:
        model: a Keras model, float or quantized.
        path: *.keras, *.h5 or *.hdf5. The first also keeps the optimizer, loss and metrics of a
            compiled model; the others do not.

    Returns:
        ``path``.

    Raises:
        ModelFileError: where the name, the folder or the model does not allow it.
    """
    if not isinstance(model, keras.Model):
        remedy = "; a Program is written by its own save" if hasattr(model, "run_integers") else ""
        kind = type(model).__name__
        raise ModelFileError(f"save_model writes a keras.Model, not a {kind}{remedy}")
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ModelFileError(f"{path}: a model file is named *.keras or *.h5")
    if path.is_dir():
        raise ModelFileError(f"{path} is a folder: choose the name of a file")
    if suffix in _HDF5_SUFFIXES:
        _check_hdf5_can_hold(model, path)
    with replacing(path) as temporary, _without_format_advice():
        # Keras tells the format by the suffix, which a file behind a link need not have.
        written = temporary.with_name(f"model{suffix}")
        _write(model, written)
        os.replace(written, temporary)
    return path


def _write(model: keras.Model, path: Path) -> None:
    if path.suffix == ".keras":
        model.save(path)
    else:
        # HDF5 brings the process down where the disk is full.
        reserve(path, _size_in_hdf5(model))
        # With the optimizer, Keras removes it from the compile settings of the live model.
        model.save(path, include_optimizer=False)


def _first_bytes(path: Path) -> bytes:
    """What the kind of a file is told by. Raises ModelFileError where there is none to read."""
    try:
        if path.is_dir():
            raise ModelFileError(
                f"{path} is a folder, not a .keras or .h5 file; a TensorFlow SavedModel has to be "
                "saved as .h5 by the Keras 2 that wrote it"
            )
        if not path.is_file():
            raise ModelFileError(f"{path} does not exist")
        with path.open("rb") as file:
            return file.read(8)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error


def _size_in_hdf5(model: keras.Model) -> int:
    """Bytes of a model file, rather too many: weights, network, and what HDF5 spends on each."""
    weights: int = sum(
        math.prod(weight.shape) * np.dtype(keras.backend.standardize_dtype(weight.dtype)).itemsize
        for weight in model.weights
    )
    groups = len(model.weights) + len(model.layers)
    return weights + len(model.to_json()) + _HDF5_GROUP * groups


def _read_hdf5_header(path: Path) -> tuple[str, dict[str, Any]]:
    """The Keras version that wrote an HDF5 file ("2.x" if it does not say) and its network."""
    try:
        with h5py.File(path, "r") as file:
            check_hdf5(file, path)
            config = file.attrs.get("model_config")
            version = file.attrs.get("keras_version", "2.")
            weights_only = "layer_names" in file.attrs or "layers" in file
    except ModelFileError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as error:
        raise ModelFileError(f"{path} is damaged or incomplete: {first_line(error)}") from error
    if config is None and weights_only:
        raise ModelFileError(
            f"{path} holds weights without their network: build the network and use "
            "its load_weights"
        )
    if config is None:
        raise ModelFileError(f"{path} is an HDF5 file but holds no Keras model")
    try:
        if not isinstance(network := json.loads(_text(config)), dict):
            raise ValueError("it is no description")
        return _text(version), network
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: its network is not readable JSON") from error


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _check_archive(path: Path) -> None:
    """Raises unless `path` is a whole zip archive with the members of a Keras 3 model."""
    try:
        with zipfile.ZipFile(path) as archive:
            missing = [name for name in _KERAS_MEMBERS if name not in archive.namelist()]
            if missing:
                raise ModelFileError(
                    f"{path} is a zip archive but no Keras model: {', '.join(missing)} missing"
                )
            check_zip(archive, path)
            if damaged := archive.testzip():
                raise ModelFileError(f"{path} is damaged: its {damaged} does not read back")
            metadata = json.loads(archive.read("metadata.json"))
    except ModelFileError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OSError) as error:
        raise ModelFileError(f"{path} is damaged or incomplete: {first_line(error)}") from error
    version = metadata.get("keras_version", "3") if isinstance(metadata, dict) else None
    if not isinstance(version, str):
        raise ModelFileError(f"{path} is damaged: its metadata.json names no version of Keras")
    if version.startswith("2."):
        raise ModelFileError(
            f"{path} is a .keras file of Keras {version}, which Keras 3 cannot read; save the "
            "model as .h5 with that Keras and load the .h5"
        )


def _load_onnx(path: Path) -> keras.Model:
    """The float model of an ONNX file."""
    from quantkeras.onnx.onnx_files import require_onnx

    require_onnx()
    from quantkeras.onnx.onnx_models import from_onnx

    with explained(path, compile=False):
        return from_onnx(path)


def _load_keras2(
    path: Path, config: dict[str, Any], custom_objects: dict[str, Any], safe_mode: bool
) -> keras.Model:
    """Builds the network of a Keras 2 file in Keras 3 and fills in its weights."""
    from quantkeras.files.keras2.config import upgrade, with_names_for_functions, with_packages
    from quantkeras.files.keras2.keras2_weights import assign_weights
    from quantkeras.files.keras2.lambdas import lambda_layer

    network = upgrade(config)
    kind = "Sequential" if network["class_name"] == "Sequential" else "Model"
    if kind == "Model" and "layers" not in network["config"]:
        raise ModelFileError(f"its network is a '{network['class_name']}', not a graph of layers")
    objects = {"Lambda": lambda_layer(safe_mode), **with_packages(network, custom_objects)}
    network = with_names_for_functions(network, objects)
    # The scope is for functions among the settings of layers, which are looked up by themselves.
    with keras.saving.CustomObjectScope(objects):
        model = keras.saving.deserialize_keras_object(
            {
                "module": "keras",
                "class_name": kind,
                "registered_name": kind,
                "config": network["config"],
            },
            custom_objects=objects,
            safe_mode=safe_mode,
        )
    with h5py.File(path, "r") as file:
        if "model_weights" not in file:
            raise ModelFileError("it holds a network without its weights")
        assign_weights(model, file["model_weights"])
    return model


def _check_hdf5_can_hold(model: keras.Model, path: Path) -> None:
    """Raises where Keras would write a .h5 file that cannot be loaded again."""
    if _operations(model) is None:
        raise ModelFileError(f"{path}: a subclassed model can be saved as .keras only")
    if bare := list(_bare_operations(model)):
        raise ModelFileError(
            f"{path}: operations without a layer ({', '.join(bare[:5])}) cannot be loaded from "
            ".h5; save as .keras"
        )


def _operations(model: keras.Model) -> list[Any] | None:
    """The nodes of a functional or sequential model; None for a subclassed one."""
    if isinstance(model, keras.Sequential):
        return list(model.layers)
    operations: list[Any] | None = getattr(model, "operations", None)
    return operations


def _bare_operations(model: keras.Model) -> Iterator[str]:
    """Names of the operations, such as `x + y`, that are no layers; of inner models as well."""
    for operation in _operations(model) or ():
        if isinstance(operation, keras.Model):
            yield from _bare_operations(operation)
        elif not isinstance(operation, keras.layers.Layer):
            yield operation.name


@contextmanager
def _without_format_advice() -> Iterator[None]:
    """Mutes Keras's advice against .h5, a format that many tools around still need."""

    def is_other(record: logging.LogRecord) -> bool:
        return "HDF5 file" not in record.getMessage()

    logger = logging.getLogger("absl")
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)
