"""Does the memory of calibration grow with the number of samples? It must not.

    python benchmarks/memory.py [--counts 1000 50000] [--observers minmax mse] [--rounds N]

Each figure is the peak of a process of its own that calibrates the zoo's ResNet8 on random images,
from an .npz file (read as a stream) or from a generator. `before` is the memory when calibration
begins: Python, TensorFlow, and the quantized model.

Arrays mapped into memory (.npy files) are not measured here: their pages count as memory of the
process while the system keeps them, though it takes them back when it needs them.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from measuring import in_fresh_process, peak_memory, report, timed

SHAPE = (32, 32, 3)
BATCH = 32
NOISE = 1.05
"""Two equal runs differ by a few per cent: threads, and what the allocator keeps."""


def random_batches(count: int) -> Iterator[np.ndarray]:
    """Images (n, 32, 32, 3) uint8, ``count`` in all."""
    rng = np.random.default_rng(0)
    for start in range(0, count, BATCH):
        yield rng.integers(0, 256, (min(BATCH, count - start), *SHAPE), np.uint8)


def write_archive(path: Path, count: int) -> None:
    """The same images in an .npz file, compressed, without ever holding all of them."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x_train.npy", "w", force_zip64=True) as file,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *SHAPE)}
        np.lib.format.write_array_header_1_0(file, header)
        for batch in random_batches(count):
            file.write(batch.tobytes())


def calibration_peak(count: int, observer: str, source: str, path: Path | None) -> dict[str, float]:
    """Peak memory in MiB before and after calibrating, and the seconds that it takes."""
    from model_zoo import resnet8
    from quantkeras import calibrate, quantize

    samples: Any = path
    if source == "generator":
        samples = lambda: random_batches(count)  # noqa: E731 - a function is what it is
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # random samples, on purpose
        model = quantize(resnet8.build(), num_samples=BATCH, observer=observer)
    before = peak_memory()
    wall, cpu = timed(lambda: calibrate(model, samples, observer, num_samples=None))
    return {"before": before, "peak": peak_memory(), "wall_s": wall, "cpu_s": cpu}


def measured(
    counts: list[int], observers: list[str], sources: list[str], rounds: int
) -> list[dict[str, Any]]:
    """One entry per observer, source and count: medians over the rounds."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for count in counts if "npz" in sources else ():
            in_fresh_process(write_archive, Path(folder, f"{count}.npz"), count)
        for observer in observers:
            for source in sources:
                for count in counts:
                    path = Path(folder, f"{count}.npz")
                    runs = [
                        in_fresh_process(calibration_peak, count, observer, source, path)
                        for _ in range(rounds)
                    ]
                    entry = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
                    found.append(
                        {"observer": observer, "source": source, "samples": count, **entry}
                    )
    return found


def main() -> None:
    """Measure, print the table."""
    parser = measuring.arguments(__doc__, rounds=1)
    parser.add_argument("--counts", nargs="+", type=int, default=[1000, 50000])
    parser.add_argument("--observers", nargs="+", default=["minmax", "mse"])
    parser.add_argument(
        "--sources", nargs="+", choices=("npz", "generator"), default=["npz", "generator"]
    )
    chosen = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    found = measured(chosen.counts, chosen.observers, chosen.sources, chosen.rounds)
    rows, fewest = [], min(chosen.counts)
    for entry in found:
        same = [f for f in found if all(f[k] == entry[k] for k in ("observer", "source"))]
        base = next(f["peak"] for f in same if f["samples"] == fewest)
        ratio = entry["peak"] / base
        entry["ratio"] = ratio
        goal = "" if entry["samples"] == fewest else ("met" if ratio <= NOISE else "MISSED")
        rows.append(
            (
                f"{entry['observer']}, {entry['source']}",
                f"{entry['samples']:,}",
                f"{entry['before']:,.0f}",
                f"{entry['peak']:,.0f}",
                f"{ratio:.3f}",
                goal,
                f"{entry['wall_s']:.1f}",
                f"{entry['cpu_s']:.1f}",
            )
        )
    header = ("observer, source", "samples", "before", "peak", "ratio", "", "wall s", "CPU s")
    notes = [f"MiB of resident memory; goal: equal within {NOISE - 1:.0%}."]
    report("Peak memory of calibration, ResNet8", header, rows, notes)
    print(measuring.machine_line())
    measuring.write_json(chosen.json, {"memory": found})


if __name__ == "__main__":
    main()
