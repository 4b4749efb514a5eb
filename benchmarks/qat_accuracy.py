"""Accuracy after a short retraining, next to the float network trained as long.

    QUANTKERAS_DATA=... QUANTKERAS_SHARED=... python benchmarks/qat_accuracy.py
        [--networks resnet20_jpeg ...] [--widths 4/4] [--ends all] [--steps 200] [--rate 2e-3]
        [--batchnorm folded live] [--json FILE]

Networks, widths and ends are those of subjects.py.
Columns: the float network as it is, and after the same steps as the retrained ones; the quantized
network with mse ranges; integer programs after retraining with batch normalization folded, and with
live batch normalization; whether these choose as their Keras models do on every image.
Retraining is `quantkeras.retrain`: learned ranges, batches of 128 training images, half of them
mirrored; the float network is the teacher, except for resnet8, which never saw JPEG images and
knows less of them than their labels. Tested on the 2,000 JPEG images, and in the second line on all
10,000.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from measuring import report
from subjects import (
    WIDTHS,
    Subject,
    accuracies,
    add_all_images,
    of_program,
    settings,
    subject,
    trained_float,
)

NETWORKS = ("resnet20_jpeg", "resnet8", "mobilenet", "shufflenet")
BATCH = 128
FLOATS = ("float", "float trained")
GOAL = 1.0
"""Points that the better program may lose to the better of the two float networks."""


def row(of: Subject, widths: str, chosen: argparse.Namespace, options: dict[str, Any]) -> dict:
    """All columns but the float ones; options: of `retrain`."""
    import keras

    from quantkeras import quantize, retrain

    samples = np.load(Path(os.environ["QUANTKERAS_SHARED"]) / "data" / "cifar10_jpeg_calib1024.npz")
    right, equal = {}, True
    began = time.perf_counter()
    qparams = settings(widths, chosen.ends, "channel", "mse")
    for batchnorm in chosen.batchnorm:
        quantized = quantize(of.model, qparams, of.prepare(samples["x"][:256]))
        right["mse"] = accuracies(quantized, of)
        keras.utils.set_random_seed(0)
        retrain(
            quantized,
            teacher=of.model if of.teaches else None,
            epochs=1,
            batch_size=BATCH,
            batchnorm=batchnorm,
            verbose=0,
            **options,
        )
        right[f"QAT {batchnorm}"], same = of_program(quantized, of)
        equal &= same
    seconds = (time.perf_counter() - began) / len(chosen.batchnorm)
    return {"widths": widths, "accuracy": right, "equal": equal, "seconds": seconds}


def training_images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels, drawn with a fixed seed; every other one mirrored."""
    from model_zoo.datasets import load_cifar10

    (x, y), _ = load_cifar10()
    chosen = np.random.default_rng(0).permutation(len(x))[:count]
    x, y = x[chosen], y[chosen].reshape(-1)
    x[::2] = x[::2, :, ::-1]
    return x, y


def columns(batchnorms: Sequence[str]) -> tuple[str, ...]:
    """The names of the accuracies."""
    return (*FLOATS, "mse", *(f"QAT {batchnorm}" for batchnorm in batchnorms))


def lines(found: dict[str, Any], names: Sequence[str]) -> list[tuple[str, ...]]:
    """The row as text, one line per set of images; names: of the accuracies."""
    right = found["accuracy"]
    programs = [name for name in names if name.startswith("QAT")]
    return [
        (
            found["network"],
            found["widths"],
            found["ends"],
            images,
            *(f"{right[name][images]:.2f}" for name in names),
            "yes" if found["equal"] else "NO",
            measuring.verdict(
                max(right[name][images] for name in FLOATS)
                - max(right[name][images] for name in programs),
                GOAL,
            ),
            f"{found['seconds']:.0f}",
        )
        for images in right["float"]
    ]


def main() -> None:
    """Measure, print the table."""
    parser = measuring.arguments(__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--widths", nargs="+", choices=tuple(WIDTHS), default=["4/4"])
    parser.add_argument("--ends", choices=("8", "all"), default="all")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rate", type=float, help="learning rate (default: that of retrain)")
    parser.add_argument(
        "--batchnorm", nargs="+", choices=("folded", "live"), default=["folded", "live"]
    )
    chosen = parser.parse_args()
    names = columns(chosen.batchnorm)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    images, y = training_images(chosen.steps * BATCH)
    rows, figures = [], []
    for name in chosen.networks:
        of = subject(name, Path(os.environ["QUANTKERAS_SHARED"]))
        add_all_images(of)
        x = of.prepare(images)
        options = {"x": x, "y": y}
        if chosen.rate is not None:
            options["learning_rate"] = chosen.rate
        known = {
            "float": accuracies(of.model, of),
            "float trained": accuracies(trained_float(of, x, y, batch_size=BATCH), of),
        }
        for widths in chosen.widths:
            found = {"network": name, "ends": chosen.ends, **row(of, widths, chosen, options)}
            found["accuracy"] |= known
            figures.append(found)
            rows += lines(found, names)
            measuring.write_json(chosen.json, {"steps": chosen.steps, "qat": figures})
    header = ("network", "widths", "ends", "images", *names, "equal", "goal", "seconds")
    report(f"Retrained for {chosen.steps} steps of {BATCH} images", header, rows)
    print(measuring.machine_line())


if __name__ == "__main__":
    main()
