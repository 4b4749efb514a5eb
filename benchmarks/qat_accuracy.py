"""Accuracy after a short retraining, next to the float network trained as long.

    QUANTKERAS_DATA=... QUANTKERAS_SHARED=... python benchmarks/qat_accuracy.py
        [--networks resnet20_jpeg resnet8] [--widths 4/4] [--ends all] [--steps 200] [--json FILE]

Widths and ends are those of subjects.py.
Columns: the float network as it is, and after the same steps as the retrained ones; the quantized
network with mse ranges; after retraining with batch normalization folded; after retraining with
live batch normalization; the integer program of that, which must choose as it does on every image.
Retraining is `quantkeras.retrain`: learned ranges, batches of 128 training images, half of them
mirrored; the float network is the teacher, except for resnet8, which never saw JPEG images and
knows less of them than their labels. Tested on the 2,000 JPEG images, and in the second line on all
10,000.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from accuracy import RATE
from measuring import report
from subjects import WIDTHS, accuracies, of_program, settings, subject

NETWORKS = ("resnet20_jpeg", "resnet8")
BATCH = 128
FLOAT_RATES = (1e-3, 1e-4)
COLUMNS = ("float", "float trained", "mse", "QAT folded", "QAT live", "program")
HEADER = ("network", "widths", "ends", "images", *COLUMNS, "equal", "goal", "seconds")
GOAL = 1.0
"""Points that a program may lose to the better of the float networks."""


def row(
    name: str, widths: str, ends: str, steps: int, data: dict[str, np.ndarray], shared: Path
) -> dict:
    """All columns of one network at one choice of widths."""
    import keras

    from quantkeras import quantize, retrain

    of = subject(name, shared)
    everything = data["x_test"], data["y_test"].reshape(-1)
    of.tests = {"JPEG": of.tests["JPEG"], "all JPEG": everything}
    calibration = of.prepare(np.load(shared / "data" / "cifar10_jpeg_calib1024.npz")["x"][:256])
    x, y = _training(data, steps * BATCH)
    x = of.prepare(x)
    right: dict[str, dict[str, float]] = {"float": accuracies(of.model, of)}
    began = time.perf_counter()
    for batchnorm in ("folded", "live"):
        quantized = quantize(of.model, settings(widths, ends, "channel", "mse"), calibration)
        right["mse"] = accuracies(quantized, of)
        keras.utils.set_random_seed(0)
        retrain(
            quantized,
            x,
            y,
            teacher=of.model if of.teaches else None,
            epochs=1,
            batch_size=BATCH,
            learning_rate=RATE,
            batchnorm=batchnorm,
            verbose=0,
        )
        right[f"QAT {batchnorm}"] = accuracies(quantized, of)
    seconds = (time.perf_counter() - began) / 2
    right["program"], equal = of_program(quantized, of)
    trained = [_trained_float(of, x, y, rate) for rate in FLOAT_RATES]
    right["float trained"] = max(trained, key=lambda found: found["all JPEG"])
    return {
        "network": name,
        "widths": widths,
        "ends": ends,
        "accuracy": right,
        "equal": equal,
        "seconds": seconds,
    }


def _training(data: dict[str, np.ndarray], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Training images and labels, drawn with a fixed seed; every other one mirrored."""
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(data["x_train"]))[:count]
    x, y = data["x_train"][chosen].copy(), data["y_train"][chosen].reshape(-1)
    x[::2] = x[::2, :, ::-1]
    return x, y


def _trained_float(of: Any, x: np.ndarray, y: np.ndarray, rate: float) -> dict[str, float]:
    """Accuracies of the float network after as many steps."""
    import keras

    from quantkeras.qat.distillation import ends_in_shares

    keras.utils.set_random_seed(0)
    model = keras.models.clone_model(of.model)
    model.set_weights(of.model.get_weights())
    model.trainable = True
    schedule = keras.optimizers.schedules.CosineDecay(rate, -(-len(x) // BATCH))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not ends_in_shares(model))
    model.compile(keras.optimizers.Adam(schedule), loss)
    model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)
    return accuracies(model, of)


def lines(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """The row as text, one line per set of images."""
    right = found["accuracy"]
    return [
        (
            found["network"],
            found["widths"],
            found["ends"],
            images,
            *(f"{right[column][images]:.2f}" for column in COLUMNS),
            "yes" if found["equal"] else "NO",
            measuring.verdict(
                max(right["float"][images], right["float trained"][images])
                - right["program"][images],
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
    chosen = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    shared = Path(os.environ["QUANTKERAS_SHARED"])
    data = dict(np.load(Path(os.environ["QUANTKERAS_DATA"]) / "cifar10.npz"))
    rows, figures = [], []
    for name in chosen.networks:
        for widths in chosen.widths:
            found = row(name, widths, chosen.ends, chosen.steps, data, shared)
            figures.append(found)
            rows += lines(found)
            measuring.write_json(chosen.json, {"qat": figures})
    report(f"Retrained for {chosen.steps} steps of {BATCH} images", HEADER, rows)
    print(measuring.machine_line())


if __name__ == "__main__":
    main()
