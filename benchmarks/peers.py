"""Accuracy without labels next to onnxruntime's own static quantizer, in one run.

    QUANTKERAS_SHARED=... python benchmarks/peers.py [--networks resnet20_jpeg ...] [--json FILE]

Both begin with the same float network and the same 256 images. onnxruntime: quantize_static, QDQ
form, weights per channel, 8 or 4 bits, activations of 8 bits with a step and a zero point of any
size, run by onnxruntime. quantkeras: activations with power-of-two steps, adaround, the integer
program. Tested on the 2,000 JPEG images; networks are those of accuracy.py.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from accuracy import Subject, choices, settings, subject
from measuring import report

NETWORKS = ("resnet8", "resnet20_jpeg", "mobilenet")
HEADER = ("network", "weights", "float", "onnxruntime", "quantkeras", "s", "s")
BATCH = 250


class Reader:
    """The samples as onnxruntime's calibration asks for them, one batch at a time."""

    def __init__(self, name: str, samples: np.ndarray) -> None:
        self.batches = iter([{name: samples[i : i + 32]} for i in range(0, len(samples), 32)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch, None at the end."""
        return next(self.batches, None)


def right(scores: list[np.ndarray], labels: np.ndarray) -> float:
    """Per cent of the images whose class is found."""
    return 100 * float(np.mean(choices(np.concatenate(scores)) == labels))


def onnxruntime_accuracy(
    float_file: Path, bits: int, samples: np.ndarray, images: np.ndarray, labels: np.ndarray
) -> tuple[float, float]:
    """Accuracy and seconds of onnxruntime's way."""
    import onnxruntime as ort
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = float_file.with_name("prepared.onnx")
    quantized = float_file.with_name(f"quantized{bits}.onnx")
    quant_pre_process(str(float_file), str(prepared))
    name = ort.InferenceSession(str(prepared)).get_inputs()[0].name

    def quantize() -> None:
        quantize_static(
            str(prepared),
            str(quantized),
            Reader(name, samples),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8 if bits == 8 else QuantType.QInt4,
            activation_type=QuantType.QUInt8,
        )

    seconds, _ = measuring.timed(quantize)
    session = ort.InferenceSession(str(quantized))
    parts = [session.run(None, {name: images[i : i + BATCH]})[0] for i in _starts(images)]
    return right(parts, labels), seconds


def quantkeras_accuracy(
    of: Subject, bits: int, samples: np.ndarray, images: np.ndarray, labels: np.ndarray
) -> tuple[float, float]:
    """Accuracy of the integer program, and seconds to quantize and round."""
    from quantkeras import adaround, convert, quantize

    made: list[Any] = []

    def run() -> None:
        model = quantize(of.model, settings(f"{bits}/8", "8", "channel", "mse"), samples)
        adaround(model, samples, num_samples=None)
        made.append(model)

    seconds, _ = measuring.timed(run)
    program = convert(made[0])
    return right([program.predict(images[i : i + BATCH]) for i in _starts(images)], labels), seconds


def _starts(images: np.ndarray) -> range:
    return range(0, len(images), BATCH)


def main() -> None:
    """Measure, print the table."""
    parser = measuring.arguments(__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    chosen = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    shared = Path(os.environ["QUANTKERAS_SHARED"])
    from quantkeras import export_onnx

    rows, figures = [], []
    calibration = np.load(shared / "data" / "cifar10_jpeg_calib1024.npz")["x"][:256]
    for network in chosen.networks:
        of = subject(network, shared)
        images, labels = of.prepare(of.tests["JPEG"][0]), of.tests["JPEG"][1]
        samples = of.prepare(calibration)
        plain = right([of.model.predict(images, BATCH, verbose=0)], labels)
        with tempfile.TemporaryDirectory() as folder:
            float_file = Path(folder) / "float.onnx"
            export_onnx(of.model, float_file)
            for bits in (8, 4):
                theirs, their_seconds = onnxruntime_accuracy(
                    float_file, bits, samples.astype(np.float32), images.astype(np.float32), labels
                )
                ours, our_seconds = quantkeras_accuracy(of, bits, samples, images, labels)
                figures.append(
                    {"network": network, "bits": bits, "float": plain, "onnxruntime": theirs,
                     "quantkeras": ours, "seconds": [their_seconds, our_seconds]}
                )  # fmt: skip
                accuracies = (f"{value:.2f}" for value in (plain, theirs, ours))
                seconds = (f"{value:.0f}" for value in (their_seconds, our_seconds))
                rows.append((network, str(bits), *accuracies, *seconds))
                print(*rows[-1], flush=True)
    report("Without labels: onnxruntime and quantkeras", HEADER, rows)
    print(measuring.machine_line())
    measuring.write_json(chosen.json, {"peers": figures})


if __name__ == "__main__":
    main()
