"""`quantkeras plot`: a drawing of a model's graph, or of two beside each other."""

from __future__ import annotations

import argparse
from pathlib import Path

from .command_files import REPORT_SUFFIXES, check_output
from .keras_import import import_keras
from .model_reading import add_size_options, read_file

HELP = "draw the graph of a float or quantized model"
EXAMPLES = """\
  quantkeras plot -m net_i8_w8_a8.h5 -o net.svg
      green: integer, orange: float
  quantkeras plot -m net.h5 -o net.svg --sanitized
      before and after `quantkeras sanitize`
  quantkeras plot -m net_i8_w8_a8.h5 --before net.h5 -o both.dot
      the text of the drawing; this needs no Graphviz"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("-m", "--model", type=Path, required=True, help="model, .keras, .h5 or .onnx")
    add("-o", "--output", type=Path, help="file to write: .svg (default), .png, .pdf or .dot")
    add_size_options(parser)
    beside = parser.add_mutually_exclusive_group()
    beside.add_argument("--before", type=Path, metavar="FILE", help="a model to draw at its left")
    beside.add_argument(
        "--sanitized", action="store_true", help="draw what sanitize makes of it at its right"
    )
    add("--left_to_right", action="store_true", help="lay it out from left to right")


def execute(args: argparse.Namespace) -> int:
    """Load, draw."""
    output = args.output or args.model.with_suffix(".svg")
    check_output(output, REPORT_SUFFIXES["plot"], [args.model, args.before])
    import_keras()
    from sanitize import sanitize_graph

    from ..api import load_model
    from ..report.plot import check_drawing, plot_graph

    check_drawing(output)
    direction = "LR" if args.left_to_right else "TB"
    graph = read_file(args, verify=False).graph
    if args.sanitized:
        after, _ = sanitize_graph(graph)
        plot_graph(after, output, graph, ("before", "after"), direction)
    else:
        before = None if args.before is None else load_model(args.before)
        plot_graph(graph, output, before, direction=direction)
    print(output)
    return 0
