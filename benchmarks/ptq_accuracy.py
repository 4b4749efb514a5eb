"""Accuracy after quantization without training, and whether Keras and integers agree on all of it.

    python benchmarks/ptq_accuracy.py [--samples N] [--networks zoo mlperf] [--json FILE]

ResNet8 on CIFAR-10, calibrated on 256 training images. Widths are `first weights / weights /
activations`; outputs of layers without an activation keep 8 bits.

Networks: `zoo`, the package's own, and `mlperf`, the reference network of MLPerf Tiny, if the
environment variable QUANTKERAS_SHARED names a folder with models/resnet8.h5. Images: the test
images of $QUANTKERAS_DATA/cifar10.npz if that is there, else the 1,000 of the package.

A row is exact if every integer of every layer, and every output of `predict`, is the same in the
Keras model and in the integer program (`quantkeras.verify`): on 1,000 of the images, or as many as
`--verified` says, and the classes chosen on all of them.

Goal: 8/8/8 within half a point of the float network.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from measuring import report

WIDTHS = {"8/8/8": (8, 8, 8), "8/4/8": (8, 4, 8), "8/4/4": (8, 4, 4)}
CALIBRATION = 256
GOAL = 0.5
BATCH = 500

Split = tuple[np.ndarray, np.ndarray]


def images(count: int | None) -> tuple[Split, Split]:
    """Training and test images of CIFAR-10, ``count`` test images (None: all), evenly spaced."""
    from model_zoo import cifar10_demo
    from model_zoo.datasets import load_cifar10

    folder = os.environ.get("QUANTKERAS_DATA")
    full = folder is not None and Path(folder, "cifar10.npz").is_file()
    train, (x, y) = load_cifar10(folder) if full else cifar10_demo()
    taken = min(len(x), count or len(x))
    chosen = np.arange(taken) * len(x) // taken
    return train, (x[chosen], y[chosen].reshape(-1))


def network(name: str) -> Any:
    """The float network, or None where its file is not at hand."""
    from model_zoo import resnet8
    from quantkeras import load_model

    if name == "zoo":
        return resnet8.load()
    folder = os.environ.get("QUANTKERAS_SHARED")
    path = Path(folder, "models", "resnet8.h5") if folder else None
    return load_model(path) if path is not None and path.is_file() else None


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Per cent of the samples whose largest score is at the label."""
    return 100.0 * float((scores.reshape(len(scores), -1).argmax(axis=1) == labels).mean())


def rows_of(
    model: Any, train: np.ndarray, test: Split, chosen: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Quantize in every way chosen, one row each; the first row is the float network."""
    from quantkeras import QuantizationParams, convert, quantize, verify

    x, y = test
    scores = model.predict(x, BATCH, verbose=0)
    float_accuracy, float_choice = accuracy(scores, y), scores.argmax(axis=1)
    yield {"widths": "float", "accuracy": float_accuracy}
    calibration = train[np.arange(CALIBRATION) * len(train) // CALIBRATION]
    ways = product(chosen.widths, chosen.activations, chosen.weight_ranges)
    for width, activations, weight_range in ways:
        first, weights, acts = WIDTHS[width]
        params = QuantizationParams(
            input_weight_bits=first,
            weight_bits=weights,
            last_weight_bits=weights,
            activation_bits=acts,
            per_tensor_activations=activations == "tensor",
            weight_range=weight_range,
        )
        quantized = quantize(model, params, calibration)
        program = convert(quantized)
        outputs = quantized.predict(x, BATCH, verbose=0)
        logits = program.predict(x)
        # Softmax in float32 may round two scores to a tie: the program's class is one of the best.
        chosen_scores = np.take_along_axis(outputs, logits.argmax(axis=1)[:, None], axis=1)
        same = bool((chosen_scores[:, 0] == outputs.max(axis=1)).all())
        compared = verify(quantized, program, x, chosen.verified, batch_size=100)
        found = accuracy(outputs, y)
        yield {
            "widths": width,
            "activations": activations,
            "weight_range": weight_range,
            "accuracy": found,
            "lost": float_accuracy - found,
            "program_accuracy": accuracy(logits, y),
            "agreement": accuracy(outputs, float_choice),
            "same_classes": same,
            "exact": compared.exact,
            "elements": compared.elements,
        }


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """The row as text."""
    if row["widths"] == "float":
        return ("float", "", "", f"{row['accuracy']:.2f}", "", "", "", "", "")
    within = ""
    if row["widths"] == "8/8/8":
        within = measuring.verdict(row["lost"], GOAL)
    return (
        row["widths"],
        row["activations"],
        row["weight_range"],
        f"{row['accuracy']:.2f}",
        f"{row['program_accuracy']:.2f}",
        f"{row['lost']:+.2f}",
        within,
        f"{row['agreement']:.1f}",
        "yes" if row["exact"] and row["same_classes"] else "NO",
    )


HEADER = (
    "widths", "activations per", "weight ranges", "Keras %", "program %", "lost", "",
    "same choice %", "exact",
)  # fmt: skip


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = measuring.arguments(__doc__)
    parser.add_argument("--samples", type=int, help="test images (default: all)")
    networks = ("zoo", "mlperf")
    parser.add_argument("--networks", nargs="+", choices=networks, default=list(networks))
    parser.add_argument("--widths", nargs="+", choices=list(WIDTHS), default=list(WIDTHS))
    parser.add_argument(
        "--weight-ranges", nargs="+", choices=("minmax", "mse"), default=["minmax", "mse"]
    )
    formats = ("channel", "tensor")
    parser.add_argument("--activations", nargs="+", choices=formats, default=list(formats))
    parser.add_argument("--verified", type=int, default=1000, help="images (default: 1000)")
    return parser.parse_args()


def main() -> None:
    """Measure, print one table per network."""
    chosen = parsed()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    (x_train, _), test = images(chosen.samples)
    figures = {}
    for name in chosen.networks:
        model = network(name)
        if model is None:
            print(f"{name}: QUANTKERAS_SHARED names no folder with models/resnet8.h5; left out\n")
            continue
        found = list(rows_of(model, x_train, test, chosen))
        elements = found[-1]["elements"]
        notes = [
            f"{len(test[0]):,} test images, {CALIBRATION} to calibrate; {elements:,} elements "
            f"compared per row. Goal: 8/8/8 loses at most {GOAL} points."
        ]
        report(f"ResNet8 ({name}) on CIFAR-10", HEADER, [cells(row) for row in found], notes)
        figures[name] = found
    print(measuring.machine_line())
    measuring.write_json(chosen.json, {"samples": len(test[0]), **figures})


if __name__ == "__main__":
    main()
