"""`quantkeras convert`: a quantized model file -> an integer program."""

from __future__ import annotations

import argparse
from pathlib import Path

from .command_files import PROGRAM_SUFFIX, check_output
from .keras_import import import_keras

HELP = "convert a quantized model to a program of integers, which runs without Keras"
EXAMPLES = """\
  quantkeras convert -m net_i8_w8_a8.h5
      writes net_i8_w8_a8.qkp
  quantkeras convert -m net_i8_w8_a8.h5 -o net.qkp"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("-m", "--model", type=Path, required=True, help="quantized model, .keras or .h5")
    add("-o", "--output", type=Path, help="file to write (.qkp)")


def execute(args: argparse.Namespace) -> int:
    """Load, convert, save."""
    output = args.output or args.model.with_suffix(PROGRAM_SUFFIX)
    check_output(output, [PROGRAM_SUFFIX], [args.model])
    import_keras()
    from ..api import load_model
    from ..conversion.convert import integer_program

    program = integer_program(load_model(args.model))
    program.save(output)
    print(f"{output}: {len(program.layers)} layers")
    for tail in program.float_tail:
        print(f"stays in float: {tail.name} ({tail.type}): {tail.reason}")
    return 0
