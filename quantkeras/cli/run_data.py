"""Samples and labels for `quantkeras run`: which arrays of an .npz file belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..calibration.archive import Member, iterate_rows, open_archive, open_npy
from ..calibration.batches import InputSpec, SampleError
from ..calibration.samples import SampleStream
from ..calibration.sources import array_source, file_parts

Array = npt.NDArray[Any]

LABEL_KEYS = ("y", "labels", "y_test")
"""Names under which labels stand beside samples."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """Samples in a file, all of them. key: the array they come from, None if several."""

    stream: SampleStream
    count: int
    key: str | None


def open_inputs(path: Path, specs: Sequence[InputSpec], key: str | None, batch_size: int) -> Inputs:
    """All samples of a file, in order, as batches.

    key: the array to take; None takes arrays named as the inputs, else ``x_test``, else what
    calibration would take. Raises SampleError, see `calibration.samples`.
    """
    if batch_size < 1:
        raise SampleError(f"batch_size is {batch_size}; it must be at least 1.")
    parts = _parts(path, specs, key)
    first = specs[0].name
    source = array_source(parts, specs, None, batch_size)  # which checks the shapes
    count = sum(part[first].shape[0] for part in parts)
    stream = SampleStream(source, specs, None, batch_size, 1)
    members = [part[first] for part in parts]
    lone = members[0] if len(members) == 1 and isinstance(members[0], Member) else None
    return Inputs(stream, count, None if lone is None else lone.name)


def _parts(path: Path, specs: Sequence[InputSpec], key: str | None) -> list[dict[str, Any]]:
    if path.suffix == ".npy" or len(specs) > 1:
        return list(file_parts(path, specs))
    members = open_archive(path)
    name = specs[0].name
    if key is not None and key not in members:
        raise SampleError(f"{path} holds no array {key!r}; it holds {', '.join(members)}.")
    if key is None and name not in members and "x_test" in members:
        key = "x_test"
    return [{name: members[key]}] if key is not None else list(file_parts(path, specs))


def find_labels(path: Path | None, samples: Path, key: str | None, count: int) -> Array | None:
    """Labels from the file `path`, else those beside the samples, else None.

    key: the array that holds the samples: ``y_test`` belongs to ``x_test``.
    Raises SampleError where there is no saying which labels are meant, or how many.
    """
    if path is None:
        return _beside(samples, key, count)
    if path.suffix == ".npy":
        labels = np.asarray(open_npy(path))
    else:
        members = open_archive(path)
        names = [name for name in LABEL_KEYS if name in members] or list(members)
        if len(names) > 1:
            raise SampleError(
                f"{path} holds several arrays ({', '.join(members)}): name the labels 'y'."
            )
        labels = _read(members, names[0])
    if labels.shape[:1] != (count,):
        raise SampleError(
            f"{path} holds labels of shape {labels.shape} for {count} samples; give one label per "
            "sample."
        )
    return labels


def _beside(samples: Path, key: str | None, count: int) -> Array | None:
    if samples.suffix == ".npy":
        return None
    members = open_archive(samples)
    partner = [f"y_{key[2:]}"] if key is not None and key.startswith("x_") else []
    for name in (*partner, *LABEL_KEYS):
        if name in members and members[name].shape[:1] == (count,):
            return _read(members, name)
    return None


def _read(members: Mapping[str, Member], name: str) -> Array:
    member = members[name]
    if member.dtype.hasobject:
        raise SampleError(f"{member.path}: array {name!r} holds objects, not class numbers.")
    if not member.shape:
        raise SampleError(f"{member.path}: array {name!r} is one number; give one per sample.")
    rows = iterate_rows(member, np.arange(member.shape[0]), max(1, member.shape[0]))
    return np.concatenate([np.empty((0, *member.shape[1:]), member.dtype), *rows])
