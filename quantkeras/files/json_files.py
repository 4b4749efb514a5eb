"""JSON that nobody vouches for: bounded in size, and one kind of error for what is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LARGEST = 2**25
"""Bytes of a file: in memory it takes some twenty times as much."""


def read_text(path: Path) -> str:
    """The text of a file. Raises ValueError for one that is too large or not UTF-8, or OSError."""
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST >> 20} MiB, which no such file is")
    return data.decode("utf-8")


def parse_json(text: str) -> Any:
    """The value that the text stands for. Raises ValueError for text that is no JSON."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
