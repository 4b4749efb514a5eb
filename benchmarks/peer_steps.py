"""What a quantizer's own process is given and gives back; needs no package but NumPy.

Each quantizer that is compared runs in a process of its own, in an environment of its own:

    PYTHON peer_....py MODEL IMAGES RESULT --weights 4 --activations 8 [--adaround ITERATIONS]

MODEL: a float network in the form that the quantizer reads. IMAGES: an .npz file with float32
arrays `samples` (to calibrate) and `images` (to test), in the layout of the network. RESULT: a
JSON file to write, with the seconds and the memory of each step and the class of each test image.
Memory is what Linux reports, so it is there that these scripts run.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 32
"""Samples at a time, for all who ask for batches."""
TEST_BATCH = 250


@dataclass
class Task:
    """One network to quantize in one way, and what came of it."""

    model: Path
    samples: np.ndarray
    images: np.ndarray
    weights: int
    activations: int
    adaround: int | None
    result: Path
    steps: dict[str, dict[str, float]] = field(default_factory=dict)

    def step(self, name: str, function: Callable[[], Any]) -> Any:
        """What ``function`` returns; notes the seconds and the resident memory that it took."""
        before, wall, cpu = _restart_peak(), time.perf_counter(), time.process_time()
        returned = function()
        self.steps[name] = {
            "wall_s": time.perf_counter() - wall,
            "cpu_s": time.process_time() - cpu,
            "before_mb": before,
            "peak_mb": _status("VmHWM"),
        }
        return returned

    def batches(self) -> Iterator[np.ndarray]:
        """The samples, ``BATCH`` at a time."""
        for start in range(0, len(self.samples), BATCH):
            yield self.samples[start : start + BATCH]

    def classes(self, predict: Callable[[np.ndarray], Any], batch: int = TEST_BATCH) -> list[int]:
        """The class of each test image; predict: images to scores, ``batch`` at a time."""
        starts = range(0, len(self.images), batch)
        scores = [np.asarray(predict(self.images[i : i + batch])) for i in starts]
        return np.concatenate(scores).reshape(len(self.images), -1).argmax(axis=1).tolist()

    def write(self, **classes: list[int]) -> None:
        """Write the result; classes: of the test images, by what computed them."""
        found = {"steps": self.steps, "classes": classes}
        self.result.write_text(json.dumps(found), encoding="utf-8")


def task(description: str) -> Task:
    """The command line of a quantizer's process."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--weights", type=int, default=8, help="bits (default: 8)")
    parser.add_argument("--activations", type=int, default=8, help="bits (default: 8)")
    parser.add_argument("--adaround", type=int, metavar="ITERATIONS", help="round adaptively")
    chosen = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with np.load(chosen.images) as arrays:
        samples, images = arrays["samples"], arrays["images"]
    widths = chosen.weights, chosen.activations
    return Task(chosen.model, samples, images, *widths, chosen.adaround, chosen.result)


def _restart_peak() -> float:
    """Resident memory in MiB, from which the peak is counted anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def _status(entry: str) -> float:
    """A figure of this process in MiB, as Linux gives it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(entry + ":")) / 2**10
