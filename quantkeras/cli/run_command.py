"""`quantkeras run`: outputs and accuracy of a program (without Keras) or a Keras model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..calibration.batches import Batch, InputSpec
from ..errors import QuantizationError
from ..runtime import Program
from ..runtime.execution import top1
from ..runtime.fed import check_fed
from ..terminal.progress import progress
from .command_files import check_output, is_program, naming, write_arrays
from .keras_import import import_keras
from .run_data import find_labels, open_inputs

HELP = "run a program or a Keras model on samples: accuracy, outputs"
EXAMPLES = """\
  quantkeras run -m net.qkp -sa test.npz
      prints the accuracy if test.npz has labels (y, labels or y_test) beside the samples
  quantkeras run -m net_i8_w8_a8.h5 -sa x.npz -l y.npz -o outputs.npz -bs 128"""

Array = npt.NDArray[Any]
Runner = Callable[[Batch], list[Array]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("-m", "--model", type=Path, required=True, help="program (.qkp) or model (.keras, .h5)")
    add("-sa", "--samples", type=Path, required=True, metavar="NPZ", help=".npz or .npy")
    add("--samples_key", metavar="NAME", help="which array of the .npz (default: x_test, or all)")
    add("-l", "--labels", type=Path, metavar="NPZ", help="class numbers, .npz or .npy")
    add("-o", "--output", type=Path, metavar="NPZ", help="file for the outputs, one array each")
    add("-bs", "--batch_size", type=int, default=128, metavar="N", help="(default 128)")


def execute(args: argparse.Namespace) -> int:
    """Run all samples; print what is known of the outputs."""
    if args.output is not None:
        check_output(args.output, [".npz"], [args.samples, args.labels])
    inputs, names, runner = open_runner(args.model)
    parts: list[list[Array]] = [[] for _ in names]
    with naming(args.samples):
        samples = open_inputs(args.samples, inputs, args.samples_key, args.batch_size)
        labels = find_labels(args.labels, args.samples, samples.key, samples.count)
        for batch in progress(samples.stream, samples.stream.total, "running"):
            for part, found in zip(parts, runner(batch), strict=True):
                part.append(found)
    outputs = {name: np.concatenate(part) for name, part in zip(names, parts, strict=True)}
    described = ", ".join(f"{name} {array.shape[1:]}" for name, array in outputs.items())
    print(f"{args.model}: {samples.count:,} samples -> {described}")
    if args.output is not None:
        write_arrays(args.output, outputs)
        print(f"outputs in {args.output}")
    if labels is not None:
        _print_accuracy(list(outputs.values()), labels, asked=args.labels is not None)
    return 0


def open_runner(path: Path) -> tuple[Sequence[InputSpec], Sequence[str], Runner]:
    """The inputs of what is in the file, the names of its outputs, and what runs a batch."""
    if is_program(path):
        program = Program.load(path)
        inputs = [InputSpec(entry.name, tuple(entry.shape)) for entry in program.inputs]

        def run_program(batch: Batch) -> list[Array]:
            found = program.predict(batch, as_dict=True)
            assert isinstance(found, dict)
            return list(found.values())

        return inputs, program.outputs, run_program
    import_keras()
    import keras

    from ..api import load_model
    from ..calibration.ports import input_names
    from ..conversion.program_inputs import inputs_of
    from ..layers import is_quantized
    from ..qmodel import QuantizedGraph
    from ..qmodel.running import run_batch

    model = load_model(path)
    tensors = keras.tree.flatten(model.inputs)
    names = input_names(model)

    entries = inputs_of(QuantizedGraph.of(model)) if is_quantized(model) else []
    told: set[str] = set()

    def run_model(batch: Batch) -> list[Array]:
        check_fed(entries, batch, told)
        fed = [np.asarray(batch[name], np.float32) for name in names]
        return run_batch(model, fed)

    inputs = [
        InputSpec(name, tuple(tensor.shape[1:]))
        for name, tensor in zip(names, tensors, strict=True)
    ]
    return inputs, list(model.output_names), run_model


def _print_accuracy(outputs: list[Array], labels: Array, asked: bool) -> None:
    """asked: labels were given on purpose; those found beside the samples may be no classes."""
    try:
        result = top1(outputs[0] if len(outputs) == 1 else outputs, labels)
    except QuantizationError as error:
        if asked:
            raise
        print(f"quantkeras: warning: no accuracy: {error}", file=sys.stderr)
        return
    correct = round(result["accuracy"] * len(labels))
    print(f"accuracy {result['accuracy']:.4f} ({correct:,} of {len(labels):,})")
