"""CIFAR-10 images that travel with the package: enough to calibrate, retrain a little and evaluate.

1,000 test images (100 per class) and 2,000 training images (200 per class) of CIFAR-10
(A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009), kept as JPEG of
quality about 75. Networks of this zoo are trained on images that went through the same
compression, so their accuracy here is their true accuracy.

The order is round robin over the classes (airplane, automobile, ..., truck, airplane, ...): any
prefix whose length is a multiple of ten is balanced, `x_train[:100]` too.

    python -m model_zoo.demo_data SOURCE.npz

writes the file anew from an archive that holds all of CIFAR-10 as JPEG: arrays `train_jpeg` (the
files, one after the other, uint8), `train_offsets` (n + 1 positions), `train_labels`, and the same
three for `test`.
"""

from __future__ import annotations

import argparse
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np

DEMO_FILE = Path(__file__).parent / "data" / "cifar10_demo.npz"

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

Split = tuple[np.ndarray, np.ndarray]


def cifar10_demo() -> tuple[Split, Split]:
    """Return `((x_train, y_train), (x_test, y_test))`.

    x: (2000, 32, 32, 3) and (1000, 32, 32, 3) uint8 RGB; y: (2000,) and (1000,) uint8, 0..9.
    Needs Pillow; raises ImportError with the extra to install when it is missing.
    """
    with np.load(DEMO_FILE) as packed:
        train, test = (
            (
                decode_jpegs(packed[f"{split}_jpeg"], packed[f"{split}_offsets"]),
                packed[f"{split}_labels"],
            )
            for split in ("train", "test")
        )
    return train, test


def decode_jpegs(jpeg: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Decode JPEG files of one size that lie one after the other.

    jpeg: (bytes,) uint8; offsets: (n + 1,) positions in it, file i = jpeg[offsets[i]:offsets[i+1]].
    Returns (n, h, w, 3) uint8.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "Pillow is needed to decode the demo images: pip install 'quantkeras[zoo]'"
        ) from error
    data = jpeg.tobytes()
    return np.stack(
        [
            np.asarray(Image.open(io.BytesIO(data[begin:end])).convert("RGB"))
            for begin, end in itertools.pairwise(offsets)
        ]
    )


def pick_per_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of the first `count` images of each class, round robin over the classes.

    labels: (n,) integers. Returns (classes * count,) int64. Raises ValueError when a class has
    fewer than `count` images.
    """
    per_class = []
    for label in np.unique(labels):
        indices = np.flatnonzero(labels == label)[:count]
        if len(indices) < count:
            raise ValueError(
                f"class {label} has {len(indices)} images, {count} are wanted: lower the count"
            )
        per_class.append(indices)
    return np.stack(per_class, axis=1).reshape(-1)


def pack(source: Path, target: Path = DEMO_FILE, train: int = 200, test: int = 100) -> None:
    """Write `target` with `train` training and `test` test images per class taken from `source`.

    The JPEG files are copied as they are. Deflate removes most of their headers, which repeat.
    """
    arrays: dict[str, Any] = {}
    with np.load(source) as archive:
        for split, count in (("train", train), ("test", test)):
            jpeg, offsets = archive[f"{split}_jpeg"], archive[f"{split}_offsets"]
            labels = archive[f"{split}_labels"]
            picked = pick_per_class(labels, count)
            files = [jpeg[offsets[i] : offsets[i + 1]] for i in picked]
            ends = np.cumsum([len(file) for file in files])
            arrays[f"{split}_jpeg"] = np.concatenate(files)
            arrays[f"{split}_offsets"] = np.concatenate([[0], ends]).astype(np.uint32)
            arrays[f"{split}_labels"] = labels[picked]
            arrays[f"{split}_index"] = picked.astype(np.uint16)
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(target, **arrays)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the embedded CIFAR-10 images anew.")
    parser.add_argument("source", type=Path, help="all of CIFAR-10 as JPEG (.npz)")
    parser.add_argument("--out", type=Path, default=DEMO_FILE)
    arguments = parser.parse_args()
    pack(arguments.source, arguments.out)
