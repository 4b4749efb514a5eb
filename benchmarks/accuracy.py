"""Accuracy method by method, and the accuracy of the integer program beside it.

    python benchmarks/accuracy.py [--networks resnet8 ...] [--widths 4/4 ...] [--epochs 1 5]
                                  [--json FILE] [--markdown FILE]

Networks, widths, ends and formats are those of subjects.py.
Columns: the float network; ranges min-max and mse; mse with corrected biases; the same after
equalization; adaptive rounding (layer by layer); its integer program. With --epochs, for each
number of epochs: the float network trained for so long; `quantkeras.retrain` from mse for so long,
the float network as it was its teacher (where it was trained on such images: not resnet8,
resnet20); the program of that. Images to train on are the 50,000 JPEG ones in QUANTKERAS_DATA,
mirrored and shifted at random, and all are tested on the 10,000 there, too.
A program is equal if it chooses the same class as its Keras model for every image.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from measuring import report
from subjects import (
    NETWORKS,
    WIDTHS,
    Subject,
    accuracies,
    add_all_images,
    of_program,
    settings,
    subject,
    trained_float,
    training_images,
)

GOALS = {"8/8": 0.5, "6/6": 0.5, "4/8": 1.0}
"""Points that a program may lose to float, by widths."""
TRAINED_GOAL = 1.0
"""Points that a retrained 4/4 program may lose to the float network trained as long."""
LEAST = {("resnet20_jpeg", "4/4"): 84.0, ("resnet20", "4/4"): 75.0}
"""Accuracy of a program on the JPEG images, as a goal."""


def row(
    of: Subject, equalized: Any, calibration: np.ndarray, how: tuple[str, str, str]
) -> dict[str, Any]:
    """All methods without labels for one network and one choice of widths."""
    from quantkeras import adaround, correct_bias, quantize

    squared, extremes = (settings(*how, ranges) for ranges in ("mse", "minmax"))
    found: dict[str, dict[str, float]] = {}
    found["min-max"] = accuracies(quantize(of.model, extremes, calibration), of)
    quantized = quantize(of.model, squared, calibration)
    found["mse"] = accuracies(quantized, of)
    found["+ bias"] = accuracies(correct_bias(quantized, calibration), of)
    other = correct_bias(quantize(equalized, squared, calibration), calibration)
    found["+ equalize"] = accuracies(other, of)
    quantized = quantize(of.model, squared, calibration)
    wall, cpu = measuring.timed(lambda: adaround(quantized, calibration, num_samples=None))
    found["adaround"] = accuracies(quantized, of)
    found["program"], equal = of_program(quantized, of)
    return {"accuracy": found, "equal": equal, "seconds": wall, "cpu_seconds": cpu}


def retrained(
    of: Subject, calibration: np.ndarray, how: tuple[str, str, str], epochs: int
) -> dict[str, Any]:
    """Accuracies after retraining from mse for so many epochs, of model and program."""
    import keras

    from quantkeras import quantize, retrain

    quantized = quantize(of.model, settings(*how, "mse"), calibration)
    images, teacher = training_images(of), of.model if of.teaches else None
    keras.utils.set_random_seed(0)
    wall, _ = measuring.timed(
        lambda: retrain(quantized, images, teacher=teacher, epochs=epochs, verbose=0)
    )
    program, equal = of_program(quantized, of)
    return {"QAT": accuracies(quantized, of), "program": program, "equal": equal, "seconds": wall}


METHODS = ("min-max", "mse", "+ bias", "+ equalize", "adaround", "program")


def header(epochs: Sequence[int]) -> tuple[str, ...]:
    """The names of the columns."""
    trained = [name for n in epochs for name in (f"float {n}", f"QAT {n}", "program", "goal")]
    front = ("widths", "ends", "formats per", "images", "float")
    return (*front, *METHODS, *trained, "equal", "goal", "seconds")


def rows_of(name: str, shared: Path, chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows of one network, as JSON."""
    from quantkeras import equalize

    of = subject(name, shared)
    images = np.load(shared / "data" / "cifar10_jpeg_calib1024.npz")["x"][: chosen.calibration]
    calibration = of.prepare(images)
    equalized = equalize(of.model)
    if chosen.epochs:
        add_all_images(of)
    float_accuracy = accuracies(of.model, of)
    floats = {
        epochs: accuracies(trained_float(of, training_images(of), epochs=epochs), of)
        for epochs in chosen.epochs
    }
    for widths in chosen.widths:
        for ends in chosen.ends:
            for formats in chosen.formats:
                began = time.perf_counter()
                how = (widths, ends, formats)
                found = row(of, equalized, calibration, how)
                found["trained"] = [
                    {"epochs": n, "float": floats[n], **retrained(of, calibration, how, n)}
                    for n in chosen.epochs
                ]
                found |= {"widths": widths, "ends": ends, "formats": formats}
                found |= {"float": float_accuracy, "network": name}
                print(f"{name} {widths}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
                yield found


def goal(found: dict[str, Any], images: str) -> str:
    """Whether the row meets its goal, if it has one."""
    got, name = found["accuracy"]["program"][images], (found["network"], found["widths"])
    if name in LEAST and images == "JPEG":
        return measuring.verdict(LEAST[name], got)
    if found["widths"] in GOALS and found["network"] != "uneven":
        return measuring.verdict(found["float"][images] - got, GOALS[found["widths"]])
    return ""


def trained_cells(trained: dict[str, Any], images: str) -> tuple[str, ...]:
    """The columns of one number of epochs."""
    known, model, program = (trained[name][images] for name in ("float", "QAT", "program"))
    goal = measuring.verdict(known - program, TRAINED_GOAL)
    return (f"{known:.2f}", f"{model:.2f}", f"{program:.2f}", goal)


def cells(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """The row as text, one line per set of images."""
    return [
        (
            found["widths"],
            found["ends"],
            found["formats"],
            images,
            f"{found['float'][images]:.2f}",
            *(f"{found['accuracy'][method][images]:.2f}" for method in METHODS),
            *(cell for trained in found["trained"] for cell in trained_cells(trained, images)),
            "yes" if all(each["equal"] for each in (found, *found["trained"])) else "NO",
            goal(found, images),
            f"{found['seconds']:.0f}",
        )
        for images in found["float"]
    ]


def markdown(name: str, names: Sequence[str], rows: list[dict[str, Any]]) -> str:
    """A table of one network."""
    lines = [f"**{name}**", "", "| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for found in rows:
        lines += ["| " + " | ".join(line) + " |" for line in cells(found)]
    return "\n".join([*lines, ""])


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = measuring.arguments(__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--widths", nargs="+", choices=list(WIDTHS), default=list(WIDTHS))
    parser.add_argument("--ends", nargs="+", choices=("8", "all"), default=["8", "all"])
    parser.add_argument(
        "--formats", nargs="+", choices=("channel", "tensor"), default=["channel", "tensor"]
    )
    parser.add_argument("--epochs", type=int, nargs="+", default=[], help="retrain for so many")
    parser.add_argument("--calibration", type=int, default=1024, help="images (default: 1024)")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    return parser.parse_args()


def main() -> None:
    """Measure, print one table per network, write files."""
    chosen = parsed()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    folder = os.environ.get("QUANTKERAS_SHARED")
    if folder is None:
        sys.exit("QUANTKERAS_SHARED must name the folder with models/ and data/")
    figures: dict[str, list[dict[str, Any]]] = {}
    names = header(chosen.epochs)
    for name in chosen.networks:
        rows = figures[name] = []
        for found in rows_of(name, Path(folder), chosen):
            rows.append(found)
            measuring.write_json(chosen.json, {"calibration": chosen.calibration, **figures})
        lines = [line for found in rows for line in cells(found)]
        report(name, names, lines, [f"{chosen.calibration} images to calibrate, no labels"])
        if chosen.markdown is not None:
            tables = [markdown(network, names, known) for network, known in figures.items()]
            chosen.markdown.write_text("\n".join(tables), encoding="utf-8")
    print(measuring.machine_line())


if __name__ == "__main__":
    main()
