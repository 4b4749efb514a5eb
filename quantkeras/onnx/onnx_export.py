"""export_onnx: an integer program, a quantized or a float Keras model as an ONNX model."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._version import __version__
from ..errors import QuantizationError
from ..files.writing import write_text
from ..runtime import Program
from .onnx_files import check_onnx, require_onnx, save_onnx
from .onnx_options import OnnxOptions

if TYPE_CHECKING:
    import onnx

    from ..qmodel import QuantizedGraph
    from .encodings import Encoding

FORMATS = ("integer", "qdq", "qoperator", "encodings")
METADATA_KEY = "quantkeras"
"""Under this key the model's metadata hold the formats of all tensors, as JSON."""
ENCODINGS_KEY = "encodings"
ENCODINGS_SUFFIX = ".encodings"


def export_onnx(
    model: Any,
    path: str | os.PathLike[str] | None = None,
    format: str = "integer",
    *,
    input_layout: str = "nhwc",
    output_layout: str | None = None,
    input_type: str = "float32",
    output_type: str = "float32",
    opset: int | None = None,
    encodings_version: str = "1.0.0",
) -> onnx.ModelProto:
    """Write a program, a quantized or a float Keras model as ONNX model that onnx.checker accepts.

    Inputs and layers keep their names, outputs those that they have in the float network that was
    quantized; the batch dimension is free. The metadata say under "quantkeras" which format each
    tensor has. The float tail of a quantized model (a softmax, layers that stayed float) is
    exported with it, that of a Program is not. A float Keras model is exported by Keras, or
    with the operators of the ONNX model that it was made of, see
    :func:`~quantkeras.onnx.operator_models.export_float_model`.

    Args:
        model: a Program, a Keras model, or the reading of a quantized one,
            :class:`~quantkeras.qmodel.QuantizedGraph`.
        path: where to save it as well.
        format: of a program or quantized model. "integer" computes every integer of the program
            exactly, with standard operators; "qdq" has float operators between QuantizeLinear and
            DequantizeLinear; "qoperator" has operators of quantized tensors, some of them
            onnxruntime's own; "encodings" is a float model with weights on their grid, and a list
            of the steps of all tensors, written to the file ``path`` with the suffix ".encodings"
            and kept in the model's metadata. The last three round halves to even: they differ by a
            step here and there.
        input_layout: of maps, "nhwc" or "nchw".
        output_layout: likewise; None follows the input.
        input_type: "float32", "uint8" for pixels, or "integer" for what is quantized already.
        output_type: "float32" or, of the integer form, "integer".
        opset: None for the oldest that serves.
        encodings_version: "0.6.1", "1.0.0" or "2.0.0".

    Returns:
        The ONNX model.

    Raises:
        QuantizationError: where onnx is missing, an argument is not understood, or a float layer
            has no ONNX operators.
        AccumulatorTooWide: for a layer whose numbers ONNX has no integers for.
        ModelFileError: for a file that cannot be written.

    Example:
        ``export_onnx(quantized, "net.onnx", input_type="uint8")``
    """
    if format not in FORMATS:
        raise QuantizationError(f"format is {' or '.join(map(repr, FORMATS))}, not {format!r}")
    layout = output_layout or input_layout
    options = OnnxOptions(input_layout, layout, input_type, output_type, opset)
    if options.integer_outputs and format != "integer":
        raise QuantizationError(f"{format!r} gives float32 outputs; only 'integer' gives integers")
    if format == "encodings" and input_type != "float32":
        raise QuantizationError("'encodings' gives a float model, which takes float32 inputs")
    require_onnx()
    _check_opset(opset)
    if _is_float(model):
        from .operator_models import export_float_model

        return export_float_model(model, path, options)
    program, reading = _opened(model)
    found, encodings = _exported(program, reading, format, options)
    text = ""
    if encodings:
        from .encodings import encodings_document

        text = json.dumps(encodings_document(encodings, encodings_version), indent=1)
        _add_metadata(found, ENCODINGS_KEY, text)
    check_onnx(found)
    if path is not None:
        save_onnx(found, path)
        if text:
            write_text(Path(path).with_suffix(ENCODINGS_SUFFIX), text)
    return found


def _opened(model: Any) -> tuple[Program, QuantizedGraph | None]:
    """The program itself, or that of a quantized Keras model and what the model is read as."""
    if isinstance(model, Program):
        return model, None
    from ..conversion.convert import integer_program
    from ..qmodel import QuantizedGraph

    if not isinstance(model, QuantizedGraph) and not hasattr(model, "layers"):
        raise QuantizationError(
            f"a {type(model).__name__} cannot be exported; pass a Program or a Keras model"
        )
    reading = QuantizedGraph.of(model, "convert")
    return integer_program(reading), reading


def _check_opset(opset: int | None) -> None:
    """Raises QuantizationError for one that the installed onnx does not know."""
    from onnx.defs import onnx_opset_version

    newest = onnx_opset_version()
    if opset is not None and not 1 <= opset <= newest:
        raise QuantizationError(f"opset is 1 to {newest} with this onnx package, not {opset}")


def _is_float(model: Any) -> bool:
    """Whether a model is a Keras model without quantized layers."""
    if isinstance(model, Program) or not hasattr(model, "layers"):
        return False
    from ..layers import is_quantized

    return not is_quantized(model)


def _exported(
    program: Program, reading: QuantizedGraph | None, format: str, options: OnnxOptions
) -> tuple[onnx.ModelProto, tuple[Encoding, ...]]:
    """The model in its form, with its float tail, and the encodings of a float graph."""
    from sanitize.onnx_io.protos import make_model

    from .onnx_forms import EXPORTERS
    from .onnx_metadata import program_metadata

    tail = reading if program.float_tail else None
    inner = replace(options, output_layout="nchw", output_type="float32") if tail else options
    form = EXPORTERS[format](program, inner)
    lowest = form.opset
    if tail:
        from .float_head import prepend_head
        from .float_tail import append_tail, oldest_opset

        lowest = max(lowest, oldest_opset(tail.model))
        append_tail(form.graph, tail, program, options, options.opset or lowest)
        prepend_head(form.graph, tail, options, options.opset or lowest)
    if options.opset is not None and options.opset < lowest:
        raise QuantizationError(f"{format!r} takes opset {lowest} at least, not {options.opset}")
    imports = {"": options.opset or lowest, **dict.fromkeys(form.domains, 1)}
    found = make_model(
        form.graph, imports, producer_name="quantkeras", producer_version=__version__
    )
    renamed = {} if reading is None else _with_users_names(found.graph, reading, program)
    names = {name: renamed.get(tensor, tensor) for name, tensor in form.names.items()}
    described = program_metadata(program, format, options, names)
    _add_metadata(found, METADATA_KEY, json.dumps(described))
    return found, tuple(replace(x, name=renamed.get(x.name, x.name)) for x in form.encodings)


def _with_users_names(
    graph: onnx.GraphProto, reading: QuantizedGraph, program: Program
) -> dict[str, str]:
    """Name the outputs as the float network does; old name -> new name."""
    from ..quantization.provenance import provenance_of
    from .output_names import name_outputs, output_tensors

    names = provenance_of(reading.model).outputs
    return name_outputs(graph, output_tensors(reading.graph, program), names)


def _add_metadata(model: onnx.ModelProto, key: str, value: str) -> None:
    entry = model.metadata_props.add()
    entry.key, entry.value = key, value
