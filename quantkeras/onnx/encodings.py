"""Encodings files: ranges of quantized tensors beside a float ONNX model, in AIMET's three schemas.

They say of each tensor how its integers stand for values, ``value = scale * (q + offset)``:

| schema | layout |
|---|---|
| 0.6.1 | ``activation_encodings``, ``param_encodings``: dicts name -> one entry per channel |
| 1.0.0 | the same two as lists of entries with lists of scales and offsets |
| 2.0.0 | one list of entries like the inputs of QuantizeLinear: ``y_scale``, ``y_zero_point`` |
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._version import __version__
from ..errors import ModelFileError, QuantizationError
from ..files.json_files import parse_json, read_text

Floats = npt.NDArray[np.float64]
Document = dict[str, Any]

VERSIONS = ("0.6.1", "1.0.0", "2.0.0")
BIAS_BITS = 32


@dataclass(frozen=True, eq=False)
class Encoding:
    """How the integers of one tensor stand for values: ``value = step * (integer - zero)``.

    Attributes:
        name: of the tensor.
        bits: of the integers, within whose type ``zero`` lies.
        signed: whether they have a sign.
        step: () for the tensor, or (c,) along ``axis`` of the ONNX tensor.
        zero: likewise.
        axis: None for the tensor.
        is_param: of a weight or bias.
    """

    name: str
    bits: int
    signed: bool
    step: Floats
    zero: npt.NDArray[np.int64]
    axis: int | None = None
    is_param: bool = False

    @property
    def low(self) -> Floats:
        """The smallest value, () or (c,)."""
        least = -(2 ** (self.bits - 1)) if self.signed else 0
        return np.asarray(self.step * (least - self.zero))

    @property
    def high(self) -> Floats:
        """The largest value, () or (c,)."""
        return np.asarray(self.low + self.step * (2**self.bits - 1))

    @property
    def offset(self) -> npt.NDArray[np.int64]:
        """``value = step * (q + offset)`` for q from 0: what schemas before 2.0.0 say."""
        least = 2 ** (self.bits - 1) if self.signed else 0
        return np.asarray(-self.zero - least)


def encodings_document(encodings: Iterable[Encoding], version: str = "1.0.0") -> Document:
    """The contents of an encodings file; version: of the schema, "0.6.1", "1.0.0" or "2.0.0"."""
    entries = list(encodings)
    if version not in WRITERS:
        raise QuantizationError(
            f"encodings have the version {' or '.join(VERSIONS)}, not {version!r}"
        )
    if version == "2.0.0":
        return {
            "version": version,
            "producer": {"package": "quantkeras", "version": __version__},
            "encodings": [_entry_2(entry) for entry in entries],
        }
    activations = [entry for entry in entries if not entry.is_param]
    params = [entry for entry in entries if entry.is_param and entry.bits < BIAS_BITS]
    write = WRITERS[version]
    document: Document = {
        "version": version,
        "activation_encodings": write(activations),
        "param_encodings": write(params),
        "quantizer_args": {
            "activation_bitwidth": max((e.bits for e in activations), default=8),
            "param_bitwidth": max((e.bits for e in params), default=8),
            "dtype": "int",
            "is_symmetric": True,
            "per_channel_quantization": any(e.axis is not None for e in params),
            "quant_scheme": "min_max",
        },
        "producer": f"quantkeras {__version__}",
    }
    return document if version == "0.6.1" else {**document, "excluded_layers": []}


def _write_0(entries: list[Encoding]) -> dict[str, list[Document]]:
    return {
        entry.name: [
            {
                "bitwidth": entry.bits,
                "dtype": "int",
                "is_symmetric": str(bool(entry.signed and not entry.zero.any())),
                "max": float(high),
                "min": float(low),
                "offset": int(offset),
                "scale": float(step),
            }
            for low, high, offset, step in zip(
                *(np.atleast_1d(v) for v in (entry.low, entry.high, entry.offset, entry.step)),
                strict=True,
            )
        ]
        for entry in entries
    }


def _write_1(entries: list[Encoding]) -> list[Document]:
    return [
        {
            "name": entry.name,
            "enc_type": "PER_TENSOR" if entry.axis is None else "PER_CHANNEL",
            "dtype": "INT",
            "bw": entry.bits,
            "is_sym": bool(entry.signed and not entry.zero.any()),
            "scale": np.atleast_1d(entry.step).tolist(),
            "offset": np.atleast_1d(entry.offset).astype(float).tolist(),
        }
        for entry in entries
    ]


def _entry_2(entry: Encoding) -> Document:
    found: Document = {
        "name": entry.name,
        "output_dtype": f"{'int' if entry.signed else 'uint'}{entry.bits}",
        "y_scale": entry.step.tolist(),
    }
    if entry.zero.any():
        found["y_zero_point"] = entry.zero.tolist()
    if entry.axis is not None:
        found["axis"] = entry.axis
    return found


WRITERS: Mapping[str, Callable[[list[Encoding]], Any]] = {
    "0.6.1": _write_0,
    "1.0.0": _write_1,
    "2.0.0": lambda entries: [_entry_2(entry) for entry in entries],
}


def read_encodings(source: str | os.PathLike[str] | Mapping[str, Any]) -> dict[str, Encoding]:
    """Read the encodings of a file, of any of the schemas. Entries of floats are left out.

    Args:
        source: the file, or its contents.

    Returns:
        Tensor name -> Encoding.

    Raises:
        ModelFileError: for a file that is missing or no such file.
    """
    if isinstance(source, Mapping):
        document, label = source, "the encodings"
    else:
        label = str(source)
        try:
            document = parse_json(read_text(Path(source)))
        except FileNotFoundError as error:
            raise ModelFileError(f"there is no file {label!r}") from error
        except OSError as error:
            raise ModelFileError(f"{label!r} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ModelFileError(f"{label!r} is no JSON file: {error}") from error
    try:
        return {entry.name: entry for entry in _read(document)}
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ModelFileError(
            f"{label!r} is no encodings file of version {', '.join(VERSIONS)}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _read(document: Mapping[str, Any]) -> list[Encoding]:
    if "encodings" in document:
        found = [_read_2(entry) for entry in document["encodings"]]
        return [entry for entry in found if entry is not None]
    entries = []
    for key in ("activation_encodings", "param_encodings"):
        listed = document[key]
        rows = listed.items() if isinstance(listed, Mapping) else [(e["name"], e) for e in listed]
        for name, content in rows:
            read = _read_0 if isinstance(content, list) else _read_1
            entry = read(name, content, key == "param_encodings")
            if entry is not None:
                entries.append(entry)
    return entries


def _read_0(name: str, rows: list[Mapping[str, Any]], is_param: bool) -> Encoding | None:
    if rows[0]["dtype"] != "int":
        return None
    scales, offsets = ([row[key] for row in rows] for key in ("scale", "offset"))
    return _from_offsets(name, index(rows[0]["bitwidth"]), scales, offsets, is_param)


def _read_1(name: str, entry: Mapping[str, Any], is_param: bool) -> Encoding | None:
    if entry["dtype"] != "INT":
        return None
    if entry["enc_type"] not in ("PER_TENSOR", "PER_CHANNEL"):
        raise ValueError(f"{name!r} is {entry['enc_type']}; PER_TENSOR and PER_CHANNEL are read")
    return _from_offsets(name, index(entry["bw"]), entry["scale"], entry["offset"], is_param)


def _from_offsets(
    name: str, bits: int, scales: list[float], offsets: list[float], is_param: bool
) -> Encoding:
    """Signed if all are symmetric: offsets of -2**(bits-1), or one more."""
    step, offset = _steps(name, scales, bits), _whole(name, offsets)
    if step.ndim != 1 or step.shape != offset.shape or not step.size:
        raise ValueError(f"{name!r} has {step.shape} scales and {offset.shape} offsets")
    half = 2 ** (bits - 1)
    signed = bool(np.isin(offset, (-half, 1 - half)).all())
    zero = np.zeros_like(offset) if signed else -offset
    axis = None if len(step) == 1 else 0
    if axis is None:
        step, zero = step[0], zero[0]
    return Encoding(name, bits, signed, np.asarray(step), np.asarray(zero), axis, is_param)


def _read_2(entry: Mapping[str, Any]) -> Encoding | None:
    kind = entry["output_dtype"]
    signed = not kind.startswith("u")
    digits = kind.removeprefix("u").removeprefix("int")
    if not digits.isdigit():
        return None
    if "block_size" in entry or "per_block_int_scale" in entry:
        raise ValueError(f"{entry['name']!r} has steps per block, which are not read")
    name = entry["name"]
    step = _steps(name, entry["y_scale"], int(digits))
    zero = np.broadcast_to(_whole(name, entry.get("y_zero_point") or 0), step.shape)
    axis = entry.get("axis") if step.ndim else None
    if step.ndim > 1 or not isinstance(axis, int | None):
        raise ValueError(f"{name!r} has steps of shape {step.shape} along the axis {axis!r}")
    return Encoding(name, int(digits), signed, step, zero, axis, axis is not None)


def _steps(name: str, scales: Any, bits: int) -> Floats:
    """The steps, if they and the range that they give are numbers of float32."""
    if not isinstance(name, str):
        raise ValueError(f"{name!r} is no name of a tensor")
    if not 1 <= bits <= BIAS_BITS:
        raise ValueError(f"{name!r} has {bits} bits; 1 to {BIAS_BITS} can be")
    step = np.asarray(scales, np.float64)
    limits = np.finfo(np.float32)
    if not ((step >= limits.tiny) & (step <= limits.max / 2.0**bits)).all():
        raise ValueError(
            f"{name!r} has a scale of {step.min():g}; scales are above 0 and within float32"
        )
    return step


def _whole(name: str, offsets: Any) -> npt.NDArray[np.int64]:
    """The offsets, which schema 1.0.0 writes as floats."""
    found = np.asarray(offsets, np.float64)
    if not ((found == np.floor(found)) & (abs(found) <= 2.0**BIAS_BITS)).all():
        raise ValueError(f"{name!r} has an offset that is no whole number of {BIAS_BITS} bits")
    return found.astype(np.int64)
