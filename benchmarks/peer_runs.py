"""One network in the forms that quantizers read, and runs of quantizers on it (peer_....py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import litert
import numpy as np
from subjects import Subject, subject

HERE = Path(__file__).resolve().parent
NETWORKS = ("resnet8", "resnet20_jpeg", "resnet20", "mobilenet")
WIDTHS = {"8/8": (8, 8), "4/8": (4, 8), "4/4": (4, 4)}
"""Bits of weights and activations."""
ORIGINALS = {"resnet20": "resnet20_cifar10.onnx", "resnet20_jpeg": "resnet20_cifar10_jpeg.onnx"}
"""Networks that began as ONNX, with channels first: others read those files."""


@dataclass(frozen=True)
class Quantizer:
    """A script, the file that it reads, and the interpreter that runs it (None: not there)."""

    script: str
    model: str
    python: str | None = sys.executable
    widths: tuple[str, ...] = tuple(WIDTHS)


@dataclass(frozen=True)
class Run:
    """What a quantizer took, step by step, and its accuracies in per cent."""

    steps: dict[str, dict[str, float]]
    accuracies: dict[str, float]

    def seconds(self, *names: str) -> tuple[float, float]:
        """Wall clock and CPU of these steps, of all of them without names."""
        chosen = [self.steps[name] for name in names or self.steps]
        return sum(step["wall_s"] for step in chosen), sum(step["cpu_s"] for step in chosen)

    def memory(self, *names: str) -> float:
        """Most resident memory of these steps beyond that before the first, in MiB."""
        chosen = [self.steps[name] for name in names or self.steps]
        return max(step["peak_mb"] for step in chosen) - chosen[0]["before_mb"]

    def figures(self) -> dict[str, Any]:
        """For a JSON file."""
        return {"accuracy": self.accuracies, "steps": self.steps}


class Contest:
    """A network's files in a folder, its samples and test images."""

    def __init__(self, name: str, folder: Path, samples: int, images: int | None) -> None:
        from quantkeras import export_onnx

        shared = Path(os.environ["QUANTKERAS_SHARED"])
        self.name, self.folder = name, folder
        of = subject(name, shared)
        calibration = np.load(shared / "data" / "cifar10_jpeg_calib1024.npz")["x"][:samples]
        pictures, self.labels = (array[:images] for array in of.tests["JPEG"])
        self._write_images(of, calibration, pictures)
        of.model.save(folder / "float.keras")
        (folder / "float.tflite").write_bytes(litert.convert(of.model, None))
        if name in ORIGINALS:
            self.onnx = shared / "models" / ORIGINALS[name]
        else:
            self.onnx = folder / "float.onnx"
            export_onnx(of.model, self.onnx)
        scores = of.model.predict(of.prepare(pictures), 250, verbose=0)
        self.float_accuracy = self._accuracy(scores.reshape(len(scores), -1).argmax(axis=1))

    def _write_images(self, of: Subject, samples: np.ndarray, images: np.ndarray) -> None:
        """Prepared, channels last and channels first."""
        for name, axes in (("last", (0, 1, 2, 3)), ("first", (0, 3, 1, 2))):
            prepared = (of.prepare(array).astype(np.float32) for array in (samples, images))
            first, second = (np.ascontiguousarray(array.transpose(axes)) for array in prepared)
            np.savez(self.folder / f"{name}.npz", samples=first, images=second)

    def _accuracy(self, classes: Any) -> float:
        return 100 * float(np.mean(np.asarray(classes) == self.labels))

    def run(self, by: Quantizer, widths: str, adaround: int | None = None) -> Run | None:
        """Run a quantizer in a new process; None if it is not there or lacks these widths.

        Raises RuntimeError with what it printed if it fails.
        """
        if by.python is None or widths not in by.widths:
            return None
        first = by.model == "onnx" and self.name in ORIGINALS
        model = self.onnx if by.model == "onnx" else self.folder / f"float.{by.model}"
        images = self.folder / ("first.npz" if first else "last.npz")
        weights, activations = WIDTHS[widths]
        result = self.folder / "result.json"
        command = [by.python, *map(str, (HERE / by.script, model, images, result))]
        command += ["--weights", str(weights), "--activations", str(activations)]
        command += [] if adaround is None else ["--adaround", str(adaround)]
        environment = dict(os.environ)
        if by.python != sys.executable:
            environment.pop("PYTHONPATH", None)  # it has packages of its own
        began = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{by.script} failed on {self.name} {widths}:\n{done.stderr}")
        seconds = time.perf_counter() - began
        print(f"{self.name} {widths} {by.script} {adaround}: {seconds:.0f} s", file=sys.stderr)
        found = json.loads(result.read_text(encoding="utf-8"))
        accuracies = {name: self._accuracy(classes) for name, classes in found["classes"].items()}
        return Run(found["steps"], accuracies)
