"""`quantkeras report`: which layers of the user's model are integer, which float and why."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..terminal.text_tables import print_table
from .command_files import REPORT_SUFFIXES, check_output
from .keras_import import import_keras

HELP = "show what became of each layer of the model that was quantized"
EXAMPLES = """\
  quantkeras report -m net_i8_w8_a8.h5
  quantkeras report -m net_i8_w8_a8.h5 --html net.html --json net.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("-m", "--model", type=Path, required=True, help="quantized model, .keras or .h5")
    add("-v", "--verbose", action="store_true", help="list the rewrites before quantization, too")
    add("--json", type=Path, metavar="FILE", help="also write the report to this file")
    add("--html", type=Path, metavar="FILE", help="also write it as a page")


def execute(args: argparse.Namespace) -> int:
    """Load, tell, write."""
    for name in ("json", "html"):
        if getattr(args, name) is not None:
            check_output(getattr(args, name), REPORT_SUFFIXES[name], [args.model])
    import_keras()
    from ..api import coverage, load_model

    found = coverage(load_model(args.model))
    found.show()
    if args.verbose:
        log = found.log
        print_table(log.summary, log.HEADER, log.rows(every=True), left=len(log.HEADER))
    for path in (args.json, args.html):
        if path is not None:
            found.save(path)
    return 0
