"""Float Keras models that hold operators of an ONNX model: exported with these operators.

Keras exports by way of TensorFlow, where such an operator is a Python function.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import keras

from sanitize import read_keras, write_onnx
from sanitize.graph import GraphError
from sanitize.onnx_errors import OnnxError

from ..errors import QuantizationError
from .float_export import check_options, export_float
from .float_tail import kept_operators, oldest_opset
from .layer_export import with_exported_layers
from .onnx_files import check_onnx, save_onnx
from .onnx_options import OnnxOptions

if TYPE_CHECKING:
    import onnx


def export_float_model(
    model: keras.Model, path: str | os.PathLike[str] | None, options: OnnxOptions
) -> onnx.ModelProto:
    """A float Keras model as an ONNX model: by :func:`export_float`, or by this project's own
    writer where ONNX operators are among its layers.

    Raises QuantizationError as :func:`export_float` does, and for a layer that has no ONNX
    operators.
    """
    if not kept_operators(model):
        return export_float(model, path, options)
    opset, oldest = check_options(options), oldest_opset(model)
    if options.opset is not None and opset < oldest:
        raise QuantizationError(f"this model takes opset {oldest} at least, not {opset}")
    try:
        graph = with_exported_layers(read_keras(model))
        found = write_onnx(
            graph, input_layout="nhwc", output_layout="nhwc", opset=max(opset, oldest)
        )
    except (GraphError, OnnxError) as error:
        raise QuantizationError(
            f"model {model.name!r} holds ONNX operators, and cannot be written with them: {error}"
        ) from error
    check_onnx(found)
    if path is not None:
        save_onnx(found, path)
    return found
