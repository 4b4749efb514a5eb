"""`quantkeras export`: a program, a quantized or a float model as an ONNX model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import QuantizationError
from ..runtime import Program
from .command_files import MODEL_SUFFIXES, PROGRAM_SUFFIX, check_output, is_program
from .keras_import import import_keras

HELP = "export a program or a model to ONNX, in integers or in a form of other runtimes"
EXAMPLES = """\
  quantkeras export -m net_i8_w8_a8.h5
      writes net_i8_w8_a8.onnx, which computes the same integers
  quantkeras export -m net.qkp -f qdq --input_type uint8 --layout nchw -o net_qdq.onnx
  quantkeras export -m net_i8_w8_a8.h5 -f encodings -o net_float.onnx
      writes net_float.encodings as well"""

FORMATS = ("integer", "qdq", "qoperator", "encodings")
SUFFIX = ".onnx"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    known = ", ".join((PROGRAM_SUFFIX, *MODEL_SUFFIXES))
    add("-m", "--model", type=Path, required=True, help=f"program or model ({known})")
    add("-f", "--format", choices=FORMATS, default="integer", help="(default integer)")
    add("-o", "--output", type=Path, help="file to write (.onnx)")
    add("--input_type", choices=("float32", "uint8", "integer"), default="float32")
    add("--layout", choices=("nhwc", "nchw"), default="nhwc", help="of images (default nhwc)")
    add("--opset", type=int, metavar="N", help="(default: the oldest that serves)")
    add("--encodings_version", default="1.0.0", choices=("0.6.1", "1.0.0", "2.0.0"))


def execute(args: argparse.Namespace) -> int:
    """Load, export, say what is in the file."""
    output = args.output or args.model.with_suffix(SUFFIX)
    check_output(output, [SUFFIX], [args.model])
    model, tail = _open(args.model)
    from ..onnx import export_onnx

    made = export_onnx(
        model,
        output,
        args.format,
        input_layout=args.layout,
        input_type=args.input_type,
        opset=args.opset,
        encodings_version=args.encodings_version,
    )
    opsets = ", ".join(f"{entry.domain or 'opset'} {entry.version}" for entry in made.opset_import)
    print(f"{output}: {len(made.graph.node)} operators, {opsets}")
    if args.format == "encodings" and output.with_suffix(".encodings").exists():
        print(f"{output.with_suffix('.encodings')}: encodings {args.encodings_version}")
    for layer in tail:
        print(f"not exported: {layer.name} ({layer.type}): {layer.reason}")
    return 0


def _open(path: Path) -> tuple[Any, tuple[Any, ...]]:
    """The model or program of a file, and what of it stays behind."""
    if is_program(path):
        program = Program.load(path)
        return program, program.float_tail
    if path.suffix.lower() == SUFFIX:
        raise QuantizationError(
            f"{path}: no program ({PROGRAM_SUFFIX}) and no model ({', '.join(MODEL_SUFFIXES)})"
        )
    import_keras()
    from ..api import load_model

    return load_model(path), ()
