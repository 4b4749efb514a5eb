"""The ways to quantize an ONNX model for onnxruntime: accuracy, size and speed.

    python benchmarks/onnxruntime_modes.py [--samples N] [--calibration N] [--rounds N]

ResNet20 on CIFAR-10, from the folder that the environment variable QUANTKERAS_SHARED names
(models/resnet20_cifar10.onnx, data/cifar10_lossless_part.npz). Each mode of `quantize_onnx`, static
and dynamic, and its methods of calibration stand beside what onnxruntime's own `quantize_static`
and `quantize_dynamic` make of the same model with the same images.

Speed: wall time of a batch, relative to float, the ways taking turns; the median of the rounds.
Size: of the file, relative to float. "same choice": per cent of the images where the network
decides as in float.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import onnx
import onnxruntime

MODEL = "models/resnet20_cifar10.onnx"
IMAGES = "data/cifar10_lossless_part.npz"
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 32

Way = Callable[[onnx.ModelProto, np.ndarray], onnx.ModelProto]


def ours(mode: str, static: bool, **settings: Any) -> Way:
    """A mode of quantize_onnx."""

    def quantize(model: onnx.ModelProto, images: np.ndarray) -> onnx.ModelProto:
        from quantkeras import quantize_onnx

        data = {"samples": images} if static or mode == "qlinear" else {}
        return quantize_onnx(model, mode, static, **data, **settings)

    return quantize


def theirs(form: str, per_channel: bool = False) -> Way:
    """onnxruntime's own quantizers, as they are: unsigned activations, signed weights."""

    def quantize(model: onnx.ModelProto, images: np.ndarray) -> onnx.ModelProto:
        from onnxruntime import quantization

        with tempfile.TemporaryDirectory() as folder:
            # As files: it turns the weights of a ModelProto into references to files of its own.
            source, path = Path(folder, "float.onnx"), Path(folder, "quantized.onnx")
            onnx.save(model, source)
            if form == "dynamic":
                quantization.quantize_dynamic(source, path, per_channel=per_channel)
                return onnx.load(path)
            quantization.quantize_static(
                source,
                path,
                _Reader(model.graph.input[0].name, images),
                quant_format=quantization.QuantFormat[form],
                per_channel=per_channel,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
            return onnx.load(path)

    return quantize


class _Reader:
    """Batches as onnxruntime asks for them."""

    def __init__(self, name: str, images: np.ndarray) -> None:
        self._batches = iter([{name: images[i : i + BATCH]} for i in range(0, len(images), BATCH)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


WAYS: dict[str, Way] = {
    "integer static": ours("integer", True),
    "integer static per channel": ours("integer", True, per_channel=True),
    "integer dynamic": ours("integer", False),
    "integer dynamic per channel": ours("integer", False, per_channel=True),
    "qlinear static": ours("qlinear", True),
    "qlinear static per channel": ours("qlinear", True, per_channel=True),
    "qlinear dynamic": ours("qlinear", False),
    "qdq static": ours("qdq", True),
    "qdq static per channel": ours("qdq", True, per_channel=True),
    "qdq static per channel, percentile": ours("qdq", True, per_channel=True, method="percentile"),
    "qdq static per channel, entropy": ours("qdq", True, per_channel=True, method="entropy"),
    "qdq static per channel, mse": ours("qdq", True, per_channel=True, method="mse"),
    "qdq dynamic": ours("qdq", False),
    "onnxruntime: QOperator": theirs("QOperator"),
    "onnxruntime: QOperator per channel": theirs("QOperator", per_channel=True),
    "onnxruntime: QDQ": theirs("QDQ"),
    "onnxruntime: QDQ per channel": theirs("QDQ", per_channel=True),
    "onnxruntime: dynamic": theirs("dynamic"),
}
"""Name -> how to quantize; what begins with onnxruntime is its own work alone."""


def normalized(images: np.ndarray) -> np.ndarray:
    """Images (n, 32, 32, 3) of 0..255 as the network takes them, (n, 3, 32, 32)."""
    values = (images.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(DEVIATION)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def compare(
    model: onnx.ModelProto, images: np.ndarray, test: tuple[np.ndarray, np.ndarray], rounds: int
) -> Iterator[dict[str, Any]]:
    """A row per way, the float model first. images: to calibrate; test: inputs and labels."""
    x, labels = test
    models, seconds = {"float": model}, {"float": 0.0}
    for name, way in WAYS.items():
        start = time.perf_counter()
        models[name] = way(model, images)
        seconds[name] = time.perf_counter() - start
    runners = {name: _runner(found) for name, found in models.items()}
    scores = {name: _scores(run, x) for name, run in runners.items()}
    batch = x[:BATCH]
    turns = {name: (lambda run=run: run(batch)) for name, run in runners.items()}
    timings = measuring.in_turn(turns, rounds)
    choice = scores["float"].argmax(axis=1)
    for name, found in models.items():
        chosen = scores[name].argmax(axis=1)
        yield {
            "way": name,
            "accuracy": 100 * float((chosen == labels).mean()),
            "same_choice": 100 * float((chosen == choice).mean()),
            "kilobytes": found.ByteSize() / 1000,
            "smaller": model.ByteSize() / found.ByteSize(),
            "milliseconds": 1000 * timings[name].median_wall,
            "speedup": timings["float"].ratios(timings[name])[0],
            "quantizing": seconds[name],
        }


def _runner(model: onnx.ModelProto) -> Callable[[np.ndarray], np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def _scores(run: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    return np.concatenate([run(x[start : start + BATCH]) for start in range(0, len(x), BATCH)])


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """The row as text."""
    return (
        row["way"],
        f"{row['accuracy']:.2f}",
        f"{row['same_choice']:.1f}",
        f"{row['kilobytes']:.0f}",
        f"{row['smaller']:.2f}",
        f"{row['milliseconds']:.1f}",
        f"{row['speedup']:.2f}",
        f"{row['quantizing']:.1f}" if row["way"] != "float" else "",
    )


HEADER = (
    "way", "accuracy %", "same choice %", "kB", "times smaller", f"ms for {BATCH}",
    "times faster", "s to quantize",
)  # fmt: skip


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = measuring.arguments(__doc__, rounds=15)
    parser.add_argument("--samples", type=int, help="test images (default: all)")
    parser.add_argument("--calibration", type=int, default=256, help="images (default: 256)")
    return parser.parse_args()


def main() -> None:
    """Measure, print one table."""
    chosen = parsed()
    folder = os.environ.get("QUANTKERAS_SHARED")
    if folder is None or not Path(folder, MODEL).is_file() or not Path(folder, IMAGES).is_file():
        print(f"QUANTKERAS_SHARED names no folder with {MODEL} and {IMAGES}; nothing to measure")
        return
    logging.getLogger().addHandler(logging.NullHandler())  # onnxruntime's quantizers talk a lot
    with np.load(Path(folder, IMAGES)) as data:
        train, x, y = (data[name] for name in ("x_train", "x_test", "y_test"))
    images = normalized(train[np.arange(chosen.calibration) * len(train) // chosen.calibration])
    test = normalized(x[: chosen.samples]), y[: chosen.samples].reshape(-1)
    found = list(compare(onnx.load(Path(folder, MODEL)), images, test, chosen.rounds))
    notes = [
        f"{len(test[0]):,} test images, {len(images)} to calibrate; onnxruntime "
        f"{onnxruntime.__version__}."
    ]
    measuring.report("ResNet20 on CIFAR-10", HEADER, [cells(row) for row in found], notes)
    print(measuring.machine_line())
    measuring.write_json(chosen.json, {"samples": len(test[0]), "ways": found})


if __name__ == "__main__":
    main()
