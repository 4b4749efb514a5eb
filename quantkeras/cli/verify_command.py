"""`quantkeras verify`: do a quantized model and its program give the same integers?"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..files.writing import write_text
from ..runtime import Program
from .command_files import check_output, naming
from .keras_import import import_keras

HELP = "compare a quantized model with its integer program, layer by layer"
EXAMPLES = """\
  quantkeras verify -m net_i8_w8_a8.h5
      converts the model and compares on random samples; exit status 1 if anything differs
  quantkeras verify -m net_i8_w8_a8.h5 -p net.qkp -sa samples.npz --json report.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("-m", "--model", type=Path, required=True, help="quantized model, .keras or .h5")
    add("-p", "--program", type=Path, help="its program, .qkp (default: converted now)")
    add("-sa", "--samples", type=Path, metavar="NPZ", help=".npz or .npy (default: random)")
    add("-ns", "--num_samples", type=int, default=256, metavar="N", help="(default 256)")
    add("-bs", "--batch_size", type=int, metavar="N", help="samples at a time")
    add("--json", type=Path, metavar="FILE", help="also write the report to this file")


def execute(args: argparse.Namespace) -> int:
    """Compare and report; 1 if anything differs."""
    if args.json is not None:
        check_output(args.json, [".json"])
    program = None if args.program is None else Program.load(args.program)
    import_keras()
    from ..api import load_model, verify
    from ..conversion.convert import integer_program

    model = load_model(args.model)
    program = integer_program(model) if program is None else program
    with naming(args.samples):
        report = verify(model, program, args.samples, args.num_samples, args.batch_size)
    report.show()
    if args.json is not None:
        write_text(args.json, report.to_json())
    return 0 if report.exact else 1
