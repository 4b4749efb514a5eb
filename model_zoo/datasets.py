"""Full data sets for training, read from a folder of the user's.

The folder holds `cifar10.npz` and `mnist.npz`, each with the arrays x_train, y_train, x_test,
y_test: uint8 images (n, 32, 32, 3) or (n, 28, 28) and integer labels (n,). It is named by the
caller or by the environment variable QUANTKERAS_DATA. Nothing is downloaded.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

Split = tuple[np.ndarray, np.ndarray]
DATA_VARIABLE = "QUANTKERAS_DATA"


def load_cifar10(folder: str | Path | None = None) -> tuple[Split, Split]:
    """Return ((x_train, y_train), (x_test, y_test)): (50000 and 10000, 32, 32, 3) uint8 RGB."""
    return _load("cifar10.npz", folder)


def load_mnist(folder: str | Path | None = None) -> tuple[Split, Split]:
    """Return ((x_train, y_train), (x_test, y_test)): (60000 and 10000, 28, 28, 1) uint8."""
    (x_train, y_train), (x_test, y_test) = _load("mnist.npz", folder)
    return (x_train[..., None], y_train), (x_test[..., None], y_test)


def data_folder(folder: str | Path | None = None) -> Path:
    """The folder given, else the one QUANTKERAS_DATA names. Raises FileNotFoundError."""
    chosen = folder or os.environ.get(DATA_VARIABLE)
    if not chosen:
        raise FileNotFoundError(
            f"no data folder: pass one (--data DIR) or set the variable {DATA_VARIABLE}"
        )
    return Path(chosen)


def _load(name: str, folder: str | Path | None) -> tuple[Split, Split]:
    path = data_folder(folder) / name
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: it must hold the arrays x_train, y_train, x_test, y_test"
        )
    with np.load(path) as data:
        return (data["x_train"], data["y_train"]), (data["x_test"], data["y_test"])
