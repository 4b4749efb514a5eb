"""Accuracy method by method, and the accuracy of the integer program beside it.

    python benchmarks/accuracy.py [--networks resnet8 ...] [--widths 4/4 ...] [--epochs 1 5]
                                  [--json FILE] [--markdown FILE]

Widths are `weights / activations`. `ends 8`: weights of the first and the last layer and outputs
without an activation have 8 bits, as quantkeras does by default; `all`: they have as few as the
others, as AIMET counts. Weights have one step per output channel; `per tensor` and `per channel`
are the formats of the activations, whose steps are always powers of two. The last layer gives its
accumulator.

Networks, by name:
  resnet8        MLPerf Tiny, models/resnet8.h5 of QUANTKERAS_SHARED
  resnet20_jpeg  models/resnet20_cifar10_jpeg.onnx, on the 2,000 JPEG images
  resnet20       models/resnet20_cifar10.onnx, on the 2,000 JPEG images and on the lossless ones
  mobilenet      the package's own small MobileNetV2
  shufflenet     the package's own small ShuffleNetV2
  uneven         mobilenet, the same function, with channels between layers 2^-3 to 2^3 as large
All are calibrated on images of data/cifar10_jpeg_calib1024.npz, without labels, and tested on
data/cifar10_jpeg_eval2000.npz of QUANTKERAS_SHARED; QUANTKERAS_SHARED is needed.

Columns: the float network; ranges min-max and mse; mse with corrected biases; the same after
equalization; adaptive rounding (layer by layer); its integer program. With --epochs: `quantkeras.
retrain` from mse for so many epochs of the 50,000 JPEG training images (in QUANTKERAS_DATA),
mirrored and shifted at random, the float network as teacher (where it was trained on such images:
not resnet8, resnet20), and the program of that.
A program is equal if it chooses the same class as its Keras model for every image.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from measuring import report

NETWORKS = ("resnet8", "resnet20_jpeg", "resnet20", "mobilenet", "shufflenet", "uneven")
WIDTHS = {"8/8": (8, 8), "6/6": (6, 6), "4/8": (4, 8), "4/4": (4, 4)}
BATCH = 250
RATE = 2e-3
"""Learning rate of retraining, relative to the size of each kernel."""
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
GOALS = {"8/8": 0.5, "6/6": 0.5, "4/8": 1.0}
"""Points that a program may lose to float, by widths."""
LEAST = {("resnet20_jpeg", "4/4"): 84.0, ("resnet20", "4/4"): 75.0}
"""Accuracy of a program on the JPEG images, as a goal."""

Test = tuple[np.ndarray, np.ndarray]


@dataclass
class Subject:
    """A float network with what prepares its images, and sets of test images by name.

    teaches: whether it was trained on JPEG images, so that it can teach others about them.
    """

    model: Any
    prepare: Callable[[np.ndarray], np.ndarray]
    tests: dict[str, Test] = field(default_factory=dict)
    teaches: bool = True


def normalized(images: np.ndarray) -> np.ndarray:
    """As the ResNet20 networks were trained."""
    return (images.astype(np.float32) / 255 - MEAN) / DEVIATION


def subject(name: str, shared: Path) -> Subject:
    """The network of that name with its test images."""
    from model_zoo import mobilenet_tiny, shufflenet
    from quantkeras import from_onnx, load_model

    jpeg = np.load(shared / "data" / "cifar10_jpeg_eval2000.npz")
    tests = {"JPEG": (jpeg["x"], jpeg["y"].reshape(-1))}
    if name == "resnet8":
        return Subject(load_model(shared / "models" / "resnet8.h5"), np.float32, tests, False)
    if name == "mobilenet":
        return Subject(mobilenet_tiny.load(), np.float32, tests)
    if name == "uneven":
        return Subject(uneven(mobilenet_tiny.load()), np.float32, tests)
    if name == "shufflenet":
        return Subject(shufflenet.load(), np.float32, tests)
    if name == "resnet20":
        lossless = np.load(shared / "data" / "cifar10_lossless_part.npz")
        tests["lossless"] = (lossless["x_test"], lossless["y_test"].reshape(-1))
    file = {"resnet20": "resnet20_cifar10.onnx", "resnet20_jpeg": "resnet20_cifar10_jpeg.onnx"}
    model = from_onnx(shared / "models" / file[name])
    return Subject(model, normalized, tests, name == "resnet20_jpeg")


def uneven(model: Any) -> Any:
    """The same function with channels of very different sizes."""
    from quantkeras.ptq.equalization import scaled_along
    from quantkeras.ptq.links import find_links
    from sanitize import sanitize_graph
    from sanitize.keras_io import read_keras, write_keras

    graph, _ = sanitize_graph(read_keras(model))
    rng = np.random.default_rng(0)
    for link in find_links(graph)[0]:
        graph = scaled_along(graph, link, 2.0 ** rng.uniform(-3, 3, int(link.origin.max()) + 1))
    return write_keras(graph)


def settings(widths: str, ends: str, formats: str, ranges: str) -> Any:
    """QuantizationParams of a row."""
    from quantkeras import QuantizationParams

    weights, activations = WIDTHS[widths]
    everything = ends == "all"
    return QuantizationParams(
        weight_bits=weights,
        activation_bits=activations,
        input_weight_bits=weights if everything else 8,
        last_weight_bits=weights if everything else 8,
        output_bits=activations if everything else 8,
        per_tensor_activations=formats == "tensor",
        weight_range=ranges,
        observer=ranges,
    )


def choices(scores: np.ndarray) -> np.ndarray:
    """The class of each image."""
    return np.asarray(scores).reshape(len(scores), -1).argmax(axis=1)


def accuracies(model: Any, of: Subject) -> dict[str, float]:
    """Per cent right, by test set."""
    return {
        name: 100 * float(np.mean(choices(model.predict(of.prepare(x), BATCH, verbose=0)) == y))
        for name, (x, y) in of.tests.items()
    }


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


def of_program(quantized: Any, of: Subject) -> tuple[dict[str, float], bool]:
    """Accuracies of the integer program, and whether it chooses as the model on all images."""
    from quantkeras import convert

    program = convert(quantized)
    found, equal = {}, True
    for name, (images, labels) in of.tests.items():
        x = of.prepare(images)
        parts = [program.predict(x[i : i + BATCH]) for i in range(0, len(x), BATCH)]
        chosen = choices(np.concatenate(parts))
        found[name] = 100 * float(np.mean(chosen == labels))
        equal &= bool((chosen == choices(quantized.predict(x, BATCH, verbose=0))).all())
    return found, equal


def retrained(
    of: Subject, calibration: np.ndarray, how: tuple[str, str, str], epochs: int
) -> dict[str, Any]:
    """Accuracies after retraining from mse for so many epochs, of model and program."""
    import keras

    from quantkeras import quantize, retrain

    quantized = quantize(of.model, settings(*how, "mse"), calibration)
    keras.utils.set_random_seed(0)
    wall, _ = measuring.timed(
        lambda: retrain(
            quantized,
            training_images(of),
            teacher=of.model if of.teaches else None,
            epochs=epochs,
            learning_rate=RATE,
            verbose=0,
        )
    )
    program, equal = of_program(quantized, of)
    return {
        "accuracy": {"model": accuracies(quantized, of), "program": program},
        "equal": equal,
        "seconds": wall,
    }


def training_images(of: Subject) -> Any:
    """Batches of the JPEG training images, mirrored and shifted at random, and their labels."""
    from model_zoo.datasets import load_cifar10
    from model_zoo.training import AugmentedImages, Recipe

    class Prepared(AugmentedImages):
        def __getitem__(self, index: int) -> Test:
            images, labels = super().__getitem__(index)
            return of.prepare(images), labels

    train, _ = load_cifar10(os.environ.get("QUANTKERAS_DATA"))
    return Prepared(*train, Recipe(epochs=0))


METHODS = ("min-max", "mse", "+ bias", "+ equalize", "adaround", "program")


def header(epochs: Sequence[int]) -> tuple[str, ...]:
    """The names of the columns."""
    trained = [name for n in epochs for name in (f"QAT {n}", "program")]
    front = ("widths", "ends", "formats per", "images", "float")
    return (*front, *METHODS, *trained, "equal", "goal", "seconds")


def rows_of(name: str, shared: Path, chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows of one network, as JSON."""
    from quantkeras import equalize

    of = subject(name, shared)
    images = np.load(shared / "data" / "cifar10_jpeg_calib1024.npz")["x"][: chosen.calibration]
    calibration = of.prepare(images)
    equalized = equalize(of.model)
    float_accuracy = accuracies(of.model, of)
    for widths in chosen.widths:
        for ends in chosen.ends:
            for formats in chosen.formats:
                began = time.perf_counter()
                how = (widths, ends, formats)
                found = row(of, equalized, calibration, how)
                found["trained"] = [retrained(of, calibration, how, n) for n in chosen.epochs]
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
            *(
                f"{trained['accuracy'][name][images]:.2f}"
                for trained in found["trained"]
                for name in ("model", "program")
            ),
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
