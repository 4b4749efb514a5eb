"""`quantkeras quantize`: a float model file -> a calibrated quantized model file."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import QuantizationError
from ..quantization.params import QuantizationParams
from .command_files import (
    MODEL_SUFFIXES,
    ONNX_SUFFIX,
    REPORT_SUFFIXES,
    check_output,
    keras_suffix,
    naming,
)
from .input_shapes import SHAPES_HELP, given_shapes
from .keras_import import import_keras

HELP = "quantize a Keras or ONNX model and calibrate it with samples"
EXAMPLES = """\
  quantkeras quantize -m net.h5 -sa samples.npz
      8 bits everywhere; writes net_i8_w8_a8.h5
  quantkeras quantize -m net.keras -i 8 -w 4 -a 4 -sa samples.npz -bs 128 -e 2 -o net4.keras
  quantkeras quantize -m net.onnx -sa samples.npz
      writes net_i8_w8_a8.keras; samples as the ONNX model takes them, or channels-last
  quantkeras quantize -m net.onnx -sa samples.npz -o net8.onnx
      an ONNX model with the same inputs and outputs that computes with integers
  quantkeras quantize -m net.keras -w 4 -a 4 --weight_range mse --adaround -sa samples.npz
      weights rounded adaptively: the best at 4 bits without labels
  quantkeras quantize -m net.h5 --params qparams.json --float_layers head,head_softmax --strict"""

SETTINGS = (
    "input_weight_bits",
    "weight_bits",
    "activation_bits",
    "output_bits",
    "last_weight_bits",
    "last_output_bits",
    "buffer_bits",
    "scale_bits",
    "input_bits",
    "input_dtype",
    "weight_range",
    "observer",
    "per_tensor_activations",
)
"""Fields of QuantizationParams that have an option of the same name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("-m", "--model", type=Path, required=True, help="float model, .keras, .h5 or .onnx")
    add(
        "-o",
        "--output",
        "-s",
        "--save_name",
        type=Path,
        help="file to write (.keras, .h5 or .onnx)",
    )
    bits = parser.add_argument_group("bits (2 to 8, or 16; default 8)")
    add = bits.add_argument
    add("-i", "--input_weight_bits", type=int, metavar="N", help="weights of the first layer")
    add("--last_weight_bits", type=int, metavar="N", help="weights of the last layer")
    add("-w", "--weight_bits", type=int, metavar="N", help="weights of the other layers")
    add("-a", "--activation_bits", type=int, metavar="N", help="outputs behind an activation")
    add("--output_bits", type=int, metavar="N", help="outputs of layers without an activation")
    add(
        "-lob",
        "--last_output_bits",
        type=int,
        metavar="N",
        help="output of the last layer (default: its accumulator)",
    )
    add("-b", "--buffer_bits", type=int, metavar="N", help="accumulators, 16 to 32 (default 32)")
    add("--scale_bits", type=int, metavar="N", help="output scales, 1 to 16 (default 8)")
    add("--input_bits", type=int, metavar="N", help="inputs that are floats")
    choices = parser.add_argument_group("choices")
    add = choices.add_argument
    add("-id", "--input_dtype", help="auto (what the samples are), uint8, int8 or float32")
    add(
        "--per_tensor_activations",
        action="store_const",
        const=True,
        help="one format per activation, instead of one per channel",
    )
    add("--weight_range", help="minmax or mse")
    add("--observer", help="minmax, moving_average, percentile, mse or sqnr; percentile:99.9")
    add("--float_layers", metavar="A,B", help="layers to keep in float; patterns such as head*")
    add("--params", type=Path, metavar="JSON", help="file of settings; options above override it")
    add("--strict", action="store_true", help="fail if a layer cannot be quantized")
    better = parser.add_argument_group("better without labels")
    add = better.add_argument
    add("--equalize", action="store_true", help="cross-layer equalization of the float model")
    rounding = better.add_mutually_exclusive_group()
    rounding.add_argument(
        "--correct_bias", action="store_true", help="no channel's mean is shifted"
    )
    rounding.add_argument(
        "--adaround",
        type=_iterations,
        nargs="?",
        const=0,
        metavar="ITERATIONS",
        help="round weights adaptively, layer by layer; with iterations, then block by block",
    )
    reports = parser.add_argument_group("reports")
    add = reports.add_argument
    add("-v", "--verbose", action="store_true", help="list what became of each layer")
    add("--json", type=Path, metavar="FILE", help="write that to this file")
    add("--html", type=Path, metavar="FILE", help="write that as a page")
    calibration = parser.add_argument_group("calibration")
    add = calibration.add_argument
    add("-sa", "--samples", type=Path, metavar="NPZ", help=".npz or .npy (default: random)")
    add("-ns", "--num_samples", type=int, default=1024, metavar="N", help="(default 1024)")
    add("-bs", "--batch_size", type=int, metavar="N", help="samples at a time")
    add("--shapes", nargs="+", metavar="SHAPE", help=SHAPES_HELP)
    add("-e", "--epochs", type=int, default=1, metavar="N", help="(default 1)")


def _iterations(text: str) -> int:
    """A whole number from 0; argparse puts the ValueError of others into a sentence."""
    if (number := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"{number} iterations; 0 or more can be")
    return number


def execute(args: argparse.Namespace) -> int:
    """Quantize, calibrate, save."""
    params = settings(args)
    output = args.output or default_output(args.model, params)
    check_output(output, (*MODEL_SUFFIXES, ONNX_SUFFIX), [args.model, args.samples])
    for name in ("json", "html"):
        if getattr(args, name) is not None:
            sources = [args.model, args.samples, args.params]
            check_output(getattr(args, name), REPORT_SUFFIXES[name], sources)
    import_keras()
    from ..api import coverage, load_model, quantize, save_model
    from ..calibration.sample_shapes import SampleShapes
    from ..ptq import adaround, correct_bias, equalize
    from ..quantization.float_network import float_network, is_onnx

    if args.samples is None and (args.correct_bias or args.adaround is not None):
        raise QuantizationError("--correct_bias and --adaround need samples: give -sa FILE")
    network = float_network(
        args.model if is_onnx(args.model) else load_model(args.model),
        given_shapes(args.shapes),
        SampleShapes(args.samples),
    )
    if args.equalize:
        network = network.with_model(equalize(network, verbose=args.verbose, qparams=params))
    with naming(args.samples):
        quantized = quantize(
            network,
            params,
            args.samples,
            args.num_samples,
            args.batch_size,
            args.epochs,
            strict=args.strict,
        )
        more = network.samples_for_layers(args.samples, args.num_samples, args.batch_size)
        if args.correct_bias:
            correct_bias(quantized, more, verbose=args.verbose)
        if args.adaround is not None:
            adaround(quantized, more, args.adaround, verbose=args.verbose)
    if is_onnx(output):
        from ..onnx.onnx_files import save_onnx
        from ..onnx.whole_model import export_whole

        save_onnx(export_whole(quantized, source=network.onnx), output)
    else:
        save_model(quantized, output)
    in_full = args.verbose or args.json is not None or args.html is not None
    found = coverage(quantized, accumulators=in_full)
    for path in (args.json, args.html):
        if path is not None:
            found.save(path)
    if args.verbose:
        found.show()
    else:
        print(found.summary)
    print(f"{output}: {_widths(quantized)}")
    return 0


def settings(args: argparse.Namespace) -> QuantizationParams:
    """The file of settings, if there is one, with the options on top."""
    config: dict[str, Any] = {}
    if args.params is not None:
        config = QuantizationParams.load(args.params).to_config()
    given = {name: getattr(args, name) for name in SETTINGS}
    config |= {name: value for name, value in given.items() if value is not None}
    if args.float_layers is not None:
        names = [name.strip() for name in args.float_layers.split(",")]
        config["float_layers"] = [name for name in names if name]
    return QuantizationParams.from_config(config)


def default_output(model: Path, params: QuantizationParams) -> Path:
    """``net.h5`` -> ``net_i8_w8_a8.h5``, in the same folder; ``net.onnx`` -> ``.keras``."""
    widths = f"i{params.input_weight_bits}_w{params.weight_bits}_a{params.activation_bits}"
    return model.with_name(f"{model.stem}_{widths}{keras_suffix(model)}")


def _widths(model: Any) -> str:
    """Bits of the weights and outputs that the layers of a quantized model have."""
    from ..layers import HardwareLayer, WeightedLayer

    layers = [layer for layer in model.layers if isinstance(layer, HardwareLayer)]
    weights = {x.name: x.weight_quantizer.bits for x in layers if isinstance(x, WeightedLayer)}
    outputs = {x.name: x.output_quantizer.bits for x in layers if x.output_quantizer is not None}
    found = {"weights": weights, "activations": outputs}
    parts = [f"{what} {_most_and_others(bits)}" for what, bits in found.items() if bits]
    return ", ".join([f"{len(layers)} quantized layers", *parts])


def _most_and_others(bits: Mapping[str, int]) -> str:
    """``8 bits``, or ``4 bits (conv 6, head 8)`` where layers have others than most."""
    most = Counter(bits.values()).most_common(1)[0][0]
    others: dict[int, list[str]] = {}
    for name, width in bits.items():
        if width != most:
            others.setdefault(width, []).append(name)
    listed = [
        f"{names[0] if len(names) == 1 else f'{len(names)} layers'} {width}"
        for width, names in others.items()
    ]
    return f"{most} bits" + (f" ({', '.join(listed)})" if listed else "")
