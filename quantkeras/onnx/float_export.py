"""Float Keras models as ONNX, by Keras's own export and tf2onnx, without their traps.

Keras exports through tf2onnx on TensorFlow. It refuses a model that was never called, which every
freshly built or loaded one is, and tf2onnx alone fails on a Sequential model. Outputs are called
Identity there; here they keep their names.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from sanitize import read_keras, write_keras, write_onnx
from sanitize.keras_io.keras_graph import is_graph_model
from sanitize.onnx_errors import OnnxError

from ..errors import QuantizationError
from .onnx_files import check_onnx, save_onnx
from .onnx_options import OnnxOptions

if TYPE_CHECKING:
    import onnx

OPSETS = range(15, 19)
"""Operator sets that Keras's exporter writes."""
DEFAULT_OPSET = 17


def export_float(
    model: keras.Model, path: str | os.PathLike[str] | None, options: OnnxOptions
) -> onnx.ModelProto:
    """A float Keras model as an ONNX model of float32; path: where to save it as well.

    Layouts other than Keras's own and other types of inputs are for quantized models. Raises
    QuantizationError without tf2onnx, for a model without a known input shape, for a layer that
    ONNX has no operators for, and for options that Keras's exporter does not have.
    """
    import onnx

    opset = check_options(options)
    if importlib.util.find_spec("tf2onnx") is None:
        raise QuantizationError(
            "float Keras models need the package tf2onnx; install it with: pip install tf2onnx"
        )
    if keras.backend.backend() not in ("tensorflow", "jax"):
        raise QuantizationError(
            f"Keras exports ONNX on TensorFlow, not on {keras.backend.backend()}; "
            "load the model with KERAS_BACKEND=tensorflow"
        )
    functional = _called(_in_known_precision(model))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorFlow and tf2onnx, about themselves
        place = Path(folder) / "model.onnx"
        functional.export(str(place), format="onnx", opset_version=opset, verbose=False)
        found = onnx.load(place)
    _check_operators(found, functional)
    lost = _lost_constants(found, functional)
    if lost:
        found = _written_here(functional, lost, opset)
    else:
        _name_outputs(found, functional)
    check_onnx(found)
    if path is not None:
        save_onnx(found, path)
    return found


def check_options(options: OnnxOptions) -> int:
    """The operator set to write; QuantizationError for options that float models do not have."""
    if options.inputs_first or options.outputs_first:
        raise QuantizationError("a float model is exported as it is, in the layout 'nhwc'")
    if options.input_type != "float32" or options.integer_outputs:
        raise QuantizationError("a float model takes and gives float32")
    if options.opset is not None and options.opset not in OPSETS:
        raise QuantizationError(
            f"Keras exports float models in opset {OPSETS[0]} to {OPSETS[-1]}, not {options.opset}"
        )
    return options.opset or DEFAULT_OPSET


def _in_known_precision(model: keras.Model) -> keras.Model:
    """The model in float32 where it computes in types that runtimes have no convolution for."""
    layers = getattr(model, "layers", ()) if is_graph_model(model) else ()
    unknown = any(layer.compute_dtype in ("bfloat16", "float64") for layer in layers)
    return write_keras(read_keras(model)) if unknown else model


def _called(model: keras.Model) -> keras.Model:
    """The model as a functional one that has been called once."""
    if not model.built:
        raise QuantizationError(
            f"model {model.name!r} has no input shape yet; call it on samples, or give it a "
            "keras.Input, before exporting it"
        )
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    if hasattr(model, "inputs"):
        # Symbolic: there may be no function of one sample, as where rows are put together.
        given = [keras.KerasTensor(x.shape, x.dtype) for x in model.inputs]
        model(keras.tree.pack_sequence_as(model.input, given), training=False)
    return model


def _check_operators(found: onnx.ModelProto, model: Any) -> None:
    """Raises QuantizationError for what tf2onnx has left in the model as it is in TensorFlow."""
    from onnx import defs

    for node in found.graph.node:
        if node.domain in ("", "ai.onnx") and not defs.has(node.op_type):
            within = sorted(layer.name for layer in model.layers if layer.name in node.name)
            where = f"layer {max(within, key=len)!r}" if within else f"node {node.name!r}"
            raise QuantizationError(
                f"{where} of model {model.name!r} runs {node.op_type}, which ONNX has no operator"
                " for; write it with keras.ops, or cut the model off in front of it"
            )


def _lost_constants(found: onnx.ModelProto, model: Any) -> list[str]:
    """Drop inputs that the model does not have; returns the names of those that are read.

    tf2onnx makes inputs of the mean and variance of Normalization layers, without their values.
    """
    own = {tensor.name for tensor in getattr(model, "inputs", ())}
    kept = [entry for entry in found.graph.input if entry.name in own]
    if len(kept) < len(own):
        return []  # they have other names
    others = {entry.name for entry in found.graph.input} - own
    del found.graph.input[:]
    found.graph.input.extend(kept)
    return sorted(others & {name for node in found.graph.node for name in node.input})


def _written_here(model: Any, lost: list[str], opset: int) -> onnx.ModelProto:
    """The model by this project's own writer, which knows the layers that lose constants."""
    try:
        return write_onnx(
            read_keras(model), input_layout="nhwc", output_layout="nhwc", opset=max(opset, 17)
        )
    except OnnxError as error:
        raise QuantizationError(
            f"Keras's exporter loses the constants {', '.join(lost)}, and without it: {error}"
        ) from error


def _name_outputs(found: onnx.ModelProto, model: Any) -> None:
    """Give outputs the names that the model has for them, in place of Identity:0."""
    names = list(getattr(model, "output_names", []))
    taken = {name for node in found.graph.node for name in (*node.input, *node.output)}
    if len(names) != len(found.graph.output) or taken & set(names) or len(set(names)) < len(names):
        return
    renamed = dict(zip((entry.name for entry in found.graph.output), names, strict=True))
    for node in found.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for entry in found.graph.output:
        entry.name = renamed[entry.name]
