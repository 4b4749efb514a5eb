"""`quantkeras summary`: what is in a file: float model, quantized model or program."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from ..runtime import Program
from ..text_tables import print_table
from .files import is_program
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
    from ..layers import HardwareLayer

    model = load_model(args.model)
    if any(isinstance(layer, HardwareLayer) for layer in model.layers):
        rows = [_row(node) for node in read_keras(model)]
        print_table(f"{model.name}: quantized model", HEADER, rows, left=4)
    else:
        model.summary()
    return 0


def _row(node: Any) -> tuple[str, ...]:
    """The cells for one node of the quantized model's graph."""
    from ..layers import HardwareLayer, InputQuantizer, WeightedLayer
    from ..onnx_operator import type_name

    layer = node.attrs.get("layer")
    text = "-"
    if isinstance(layer, HardwareLayer | InputQuantizer):
        found = layer.output_format(node.shape)
        text = "accumulator" if found is None else str(found.numpy())
    weighted = isinstance(layer, WeightedLayer)
    return (
        node.name,
        node.kind if layer is None else type_name(layer),
        "x".join(map(str, node.shape)) or "-",
        text,
        str(layer.weight_quantizer.bits) if weighted else "-",
        f"{math.prod(layer.kernel.shape):,}" if weighted else "-",
    )
