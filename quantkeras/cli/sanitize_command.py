"""`quantkeras sanitize`: a float model file in the form that quantizes well, and what was done."""

from __future__ import annotations

import argparse
from pathlib import Path

from sanitize.target import TARGETS

from ..quantization.params import QuantizationParams
from ..terminal.text_tables import print_table
from .command_files import MODEL_SUFFIXES, REPORT_SUFFIXES, check_output, keras_suffix
from .keras_import import import_keras
from .model_reading import add_size_options, read_file

HELP = "rewrite a float model into the form that integer hardware can run"
EXAMPLES = """\
  quantkeras sanitize -m net.h5
      writes net_sanitized.h5, which computes the same, and says what was rewritten or refused
  quantkeras sanitize -m net.h5 -o clean.keras --verbose
      lists every place where a rule fired or was refused
  quantkeras sanitize -m net.h5 --html net.html --plot net.svg
  quantkeras sanitize -m net.onnx -sa samples.npz
      sizes that the model leaves open are those of the samples"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("-m", "--model", type=Path, required=True, help="float model, .keras, .h5 or .onnx")
    add("-o", "--output", type=Path, help="file to write (.keras or .h5)")
    add_size_options(parser)
    add("--target", choices=TARGETS, help="also what this hardware asks for (default: generic)")
    add("-v", "--verbose", action="store_true", help="list every rewrite and every refusal")
    add("--json", type=Path, metavar="FILE", help="write the log and the coverage to this file")
    add("--html", type=Path, metavar="FILE", help="write them as a page")
    add("--plot", type=Path, metavar="FILE", help="draw before and after (.svg, .png, .pdf, .dot)")


def execute(args: argparse.Namespace) -> int:
    """Load, rewrite, save, tell."""
    output = args.output or args.model.with_name(
        f"{args.model.stem}_sanitized{keras_suffix(args.model)}"
    )
    check_output(output, MODEL_SUFFIXES, [args.model])
    for name, suffixes in REPORT_SUFFIXES.items():
        if getattr(args, name) is not None:
            check_output(getattr(args, name), suffixes, [args.model])
    import_keras()
    from sanitize import sanitize_graph, write_keras
    from sanitize.log import Log

    from ..api import save_model
    from ..quantization.decide import make_plan
    from ..quantization.float_network import check_float
    from ..report.coverage import planned_coverage
    from ..report.plot import check_drawing, plot_graph

    if args.plot is not None:
        check_drawing(args.plot)
    reading = read_file(args, verify=True)
    check_float(reading.model)
    model, before = reading.model, reading.graph
    graph, log = sanitize_graph(before, args.target)
    log = Log((*reading.conversions, *log.entries))
    found = planned_coverage(model, make_plan(graph, QuantizationParams()), log)
    save_model(write_keras(graph), output)
    for path in (args.json, args.html):
        if path is not None:
            found.save(path)
    if args.plot is not None:
        plot_graph(graph, args.plot, before, ("before", "after"))
    rows = log.rows(every=args.verbose)
    if rows:
        print_table(f"{model.name}: {log.summary}", log.HEADER, rows, left=len(log.HEADER))
    print(found.summary)
    print(f"{output}: {log.summary}")
    return 0
