"""`quantkeras sanitize`: a float model file in the form that quantizes well."""

from __future__ import annotations

import argparse
from pathlib import Path

from .files import MODEL_SUFFIXES, check_output
from .keras_import import import_keras

HELP = "rewrite a float model into the form that integer hardware can run"
EXAMPLES = """\
  quantkeras sanitize -m net.h5
      writes net_sanitized.h5, which computes the same
  quantkeras sanitize -m net.h5 -o clean.keras --verbose
      says what was rewritten, what was not, and why"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("-m", "--model", type=Path, required=True, help="float model, .keras or .h5")
    add("-o", "--output", type=Path, help="file to write (.keras or .h5)")
    add("-v", "--verbose", action="store_true", help="print every rewrite and every refusal")


def execute(args: argparse.Namespace) -> int:
    """Load, rewrite, save."""
    output = args.output or args.model.with_stem(f"{args.model.stem}_sanitized")
    check_output(output, MODEL_SUFFIXES, [args.model])
    import_keras()
    from sanitize import read_keras, sanitize_graph, write_keras

    from ..api import load_model, save_model

    graph, log = sanitize_graph(read_keras(load_model(args.model)))
    if args.verbose:
        print(log)
    save_model(write_keras(graph), output)
    for rule, count in log.counts().items():
        print(f"{count:4} x {rule}")
    print(f"{output}: {len(log.fired)} rewrites, {len(log.refused)} refused")
    return 0
