"""`quantkeras onnx-quantize`: a float ONNX file -> a quantized ONNX file for onnxruntime."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import QuantizationError
from ..files.json_files import parse_json, read_text
from ..files.writing import write_text
from .command_files import check_output, naming

HELP = "quantize an ONNX model for onnxruntime, as it is"
EXAMPLES = """\
  quantkeras onnx-quantize -m net.onnx
      integer operators, scales measured in each run; writes net_integer.onnx
  quantkeras onnx-quantize -m net.onnx --mode qdq -sa samples.npz --per_channel -o net_qdq.onnx
  quantkeras onnx-quantize -m net.onnx -sa samples.npz --method entropy --save_params scales.json
  quantkeras onnx-quantize -m net.onnx --mode qlinear --params scales.json --exclude /fc/Gemm"""

_QUANTIZED = (
    "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QGemm", "QuantizeLinear",
    "DynamicQuantizeLinear", "DequantizeLinear",
)  # fmt: skip
"""Operators that are counted for the user."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("-m", "--model", type=Path, required=True, help="float model (.onnx, opset 10 or newer)")
    add("-o", "--output", type=Path, help="file to write (.onnx)")
    add("--mode", default="integer", help="integer (default), qlinear or qdq")
    add(
        "--dynamic",
        action="store_true",
        help="scales measured in each run (the default without samples and params)",
    )
    group = parser.add_argument_group("numbers")
    add = group.add_argument
    add("-wt", "--weight_type", default="int8", metavar="TYPE", help="int8 (default), uint8")
    add("-at", "--activation_type", default="uint8", metavar="TYPE", help="uint8 (default), int8")
    add("--per_channel", action="store_true", help="a scale per output channel of weights")
    add("--symmetric", action="store_true", help="activations with the zero point in the middle")
    add("--reduce_range", action="store_true", help="weights of 7 bits, for old processors")
    group = parser.add_argument_group("nodes")
    add = group.add_argument
    add("--op_types", metavar="A,B", help="operator types to quantize")
    add("--nodes", metavar="A,B", help="names of nodes: quantize only these")
    add("--exclude", metavar="A,B", help="names of nodes to leave in float")
    group = parser.add_argument_group("calibration")
    add = group.add_argument
    add("-sa", "--samples", type=Path, metavar="NPZ", help=".npz or .npy")
    add("-ns", "--num_samples", type=int, default=1024, metavar="N", help="(default 1024)")
    add("-bs", "--batch_size", type=int, metavar="N", help="samples at a time")
    add("--method", default="minmax", help="minmax (default), percentile:99.9, entropy or mse")
    add("--params", type=Path, metavar="JSON", help='scales: {"tensor": [zero_point, scale]}')
    add("--save_params", type=Path, metavar="JSON", help="write the scales of the samples there")


def execute(args: argparse.Namespace) -> int:
    """Calibrate if scales are to be kept, quantize, save."""
    mode = args.mode if args.mode.isalnum() else "quantized"  # others are refused below
    output = args.output or args.model.with_name(f"{args.model.stem}_{mode}.onnx")
    sources = [args.model, args.samples, args.params]
    check_output(output, [".onnx"], sources)
    if args.save_params is not None:
        check_output(args.save_params, [".json"], sources)
        if args.samples is None:
            raise QuantizationError("--save_params writes what samples give: add -sa")
    from ..onnx.runtime_quantizer import calibrate_onnx, quantize_onnx

    params = None if args.params is None else read_params(args.params)
    settings: dict[str, Any] = {
        "method": args.method,
        "num_samples": args.num_samples,
        "batch_size": args.batch_size,
        "activation_type": args.activation_type,
    }
    with naming(args.samples):
        if args.save_params is not None:
            found = calibrate_onnx(args.model, args.samples, symmetric=args.symmetric, **settings)
            write_params(args.save_params, found)
        model = quantize_onnx(
            args.model,
            args.mode,
            False if args.dynamic else None,
            samples=args.samples,
            quantization_params=params,
            per_channel=args.per_channel,
            weight_type=args.weight_type,
            symmetric_activations=args.symmetric,
            reduce_range=args.reduce_range,
            op_types_to_quantize=_names(args.op_types),
            nodes_to_quantize=_names(args.nodes),
            nodes_to_exclude=_names(args.exclude),
            path=output,
            **settings,
        )
    counts = Counter(node.op_type for node in model.graph.node)
    listed = ", ".join(f"{counts[name]} {name}" for name in _QUANTIZED if counts[name])
    print(f"{output}: {listed or 'no quantized operators'}")
    return 0


def read_params(path: Path) -> dict[str, Any]:
    """Scales of a file. Raises QuantizationError if it holds something else."""
    try:
        found = parse_json(read_text(path))
    except ValueError as error:
        raise QuantizationError(f"{path} is no JSON file: {error}") from error
    if not isinstance(found, dict):
        raise QuantizationError(f"{path} holds no scales: {{tensor: [zero_point, scale]}}")
    return found


def write_params(path: Path, params: dict[str, Any]) -> None:
    """Scales as JSON; a float32 is written so that it is read as the same one."""
    found = {name: [int(zero), float(np.float64(scale))] for name, (zero, scale) in params.items()}
    write_text(path, json.dumps(found, indent=2))


def _names(text: str | None) -> list[str] | None:
    if text is None:
        return None
    return [name.strip() for name in text.split(",") if name.strip()]
