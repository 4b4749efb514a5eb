"""`quantkeras summary`: what is in a file: float model, quantized model or program."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from ..runtime import Program
from ..terminal.text_tables import print_table
from .command_files import is_program
from .keras_import import import_keras

HELP = "show the layers of a float model, a quantized model or a program"
EXAMPLES = """\
  quantkeras summary -m net_i8_w8_a8.h5
  quantkeras summary -m net.qkp"""

HEADER = ("layer", "type", "output", "format", "weight bits", "weights")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("-m", "--model", type=Path, required=True, help=".keras, .h5 or .qkp")


def execute(args: argparse.Namespace) -> int:
    """Print the table that fits the file."""
    if is_program(args.model):
        Program.load(args.model).summary()
        return 0
    import_keras()
    from sanitize import read_keras

    from ..api import load_model
    from ..layers import is_quantized

    model = load_model(args.model)
    if is_quantized(model):
        rows = [_row(node) for node in read_keras(model)]
        print_table(f"{model.name}: quantized model", HEADER, rows, left=4)
    else:
        model.summary()
    return 0


def _row(node: Any) -> tuple[str, ...]:
    """The cells for one node of the quantized model's graph."""
    from ..layers import WeightedLayer
    from ..layers.onnx_operator import type_name
    from ..qmodel import layer_of, rounding_layer

    text, layer, weighted = "-", rounding_layer(node), layer_of(node, WeightedLayer)
    if layer is not None:
        found = layer.output_format(node.shape)
        text = "accumulator" if found is None else str(found.numpy())
    return (
        node.name,
        type_name(node.attrs["layer"]) if node.kind == "opaque" else node.kind,
        "x".join(map(str, node.shape)) or "-",
        text,
        "-" if weighted is None else str(weighted.weight_quantizer.bits),
        "-" if weighted is None else f"{math.prod(weighted.kernel.shape):,}",
    )
