"""Accuracy after a short retraining, next to the float network trained as long.

    QUANTKERAS_DATA=... QUANTKERAS_SHARED=... python benchmarks/qat_accuracy.py
        [--networks resnet20_jpeg resnet8] [--widths 4/4] [--ends all] [--steps 200] [--json FILE]

Widths and ends are those of accuracy.py.
Columns: the float network as it is, and after the same steps as the retrained ones; the quantized
network with mse ranges; that after retraining; after adaptive rounding without labels; and that
after retraining; the integer program of the last, which must choose as it does on every image.
Retraining is `quantkeras.retrain`: learned ranges, the float network as teacher, batches of 128
training images, half of them mirrored. Tested on the 2,000 JPEG images.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from accuracy import WIDTHS, accuracies, choices, settings, subject
from measuring import report

NETWORKS = ("resnet20_jpeg", "resnet8")
BATCH = 128
RATE = 5e-4
FLOAT_RATES = (1e-3, 1e-4)
HEADER = (
    "network", "widths", "ends", "float", "float trained", "mse", "+ QAT", "adaround", "+ QAT",
    "program", "equal", "goal", "seconds",
)  # fmt: skip


def row(
    name: str, widths: str, ends: str, steps: int, data: dict[str, np.ndarray], shared: Path
) -> dict:
    """All columns of one network at one choice of widths."""
    import keras

    from quantkeras import adaround, convert, quantize, retrain

    of = subject(name, shared)
    of.tests = {"JPEG": of.tests["JPEG"]}
    calibration = of.prepare(np.load(shared / "data" / "cifar10_jpeg_calib1024.npz")["x"][:256])
    x, y = _training(data, steps * BATCH)
    x = of.prepare(x)

    def right(model: Any) -> float:
        return accuracies(model, of)["JPEG"]

    def trained(model: Any) -> float:
        keras.utils.set_random_seed(0)
        retrain(
            model, x, y, teacher=of.model, epochs=1, batch_size=BATCH, learning_rate=RATE, verbose=0
        )
        return right(model)

    found: dict[str, Any] = {"network": name, "widths": widths, "ends": ends}
    found["float"] = right(of.model)
    began = time.perf_counter()
    quantized = quantize(of.model, settings(widths, ends, "channel", "mse"), calibration)
    found["mse"] = right(quantized)
    found["mse qat"] = trained(quantized)
    quantized = quantize(of.model, settings(widths, ends, "channel", "mse"), calibration)
    adaround(quantized, calibration, num_samples=None)
    found["adaround"] = right(quantized)
    found["adaround qat"] = trained(quantized)
    found["seconds"] = time.perf_counter() - began
    images = of.prepare(of.tests["JPEG"][0])
    scores = np.concatenate([convert(quantized).predict(part) for part in np.split(images, 8)])
    labels = of.tests["JPEG"][1]
    found["program"] = 100 * float(np.mean(choices(scores) == labels))
    found["equal"] = bool((choices(scores) == choices(quantized.predict(images, verbose=0))).all())
    found["float trained"] = max(_trained_float(of, x, y, rate) for rate in FLOAT_RATES)
    return found


def _training(data: dict[str, np.ndarray], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Training images and labels, drawn with a fixed seed; every other one mirrored."""
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(data["x_train"]))[:count]
    x, y = data["x_train"][chosen].copy(), data["y_train"][chosen].reshape(-1)
    x[::2] = x[::2, :, ::-1]
    return x, y


def _trained_float(of: Any, x: np.ndarray, y: np.ndarray, rate: float) -> float:
    """Accuracy of the float network after as many steps."""
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
    return accuracies(model, of)["JPEG"]


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
            columns = (
                "float", "float trained", "mse", "mse qat", "adaround", "adaround qat", "program",
            )  # fmt: skip
            best = max(found["float"], found["float trained"])
            rows.append(
                (
                    name,
                    widths,
                    chosen.ends,
                    *(f"{found[column]:.2f}" for column in columns),
                    "yes" if found["equal"] else "NO",
                    measuring.verdict(best - found["program"], 1.0),
                    f"{found['seconds']:.0f}",
                )
            )
            print(*rows[-1], flush=True)
    report(f"Retrained for {chosen.steps} steps of {BATCH} images", HEADER, rows)
    print(measuring.machine_line())
    measuring.write_json(chosen.json, {"qat": figures})


if __name__ == "__main__":
    main()
