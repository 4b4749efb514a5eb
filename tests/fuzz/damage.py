"""Damage to files: of their bytes, and of the values in them where a format keeps a checksum."""

from __future__ import annotations

import copy
import io
import json
import random
import zipfile
from typing import Any

NASTY: tuple[Any, ...] = (
    0, 1, -1, 2, 255, 2**20, 2**31, -(2**31), 2**40, 2**63, 10**30, 0.5, -0.0, 1e-300, 1e308,
    float("nan"), float("inf"), True, False, None, "", "x", "../x", "é" * 300, [], {}, [[]], [0, 0],
    [2**31, 2**31], {"x": 1}, [[[[[1]]]]],
)  # fmt: skip
"""Values that somebody may have forgotten to think of."""


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut off, doubled or filled in."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        place = rng.randrange(len(found) or 1)
        way = rng.randrange(6)
        if way == 0:
            del found[place:]
        elif way == 1:
            found[place:place] = found[place : place + rng.randrange(1, 64)]
        elif way == 2:
            del found[place : place + rng.randrange(1, 16)]
        elif way == 3:
            found[place : place + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"))
        elif found:
            found[place % len(found)] ^= 1 << rng.randrange(8)
        if not found:
            break
    return bytes(found)


def damaged_value(value: Any, rng: random.Random) -> Any:
    """A copy of JSON-like data in which one to three values are others, missing or doubled."""
    found = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(found))
        if not places:
            return rng.choice(NASTY)
        owner, key = rng.choice(places)
        way = rng.randrange(8)
        if way == 0:
            del owner[key]
        elif way == 1 and isinstance(owner, list):
            owner.insert(key, copy.deepcopy(owner[key]))
        elif way == 2:
            other, at = rng.choice(places)
            try:
                owner[key] = copy.deepcopy(other[at])
            except LookupError:
                owner[key] = None
        elif way == 3 and isinstance(owner[key], int) and not isinstance(owner[key], bool):
            owner[key] += rng.choice((-1, 1, 7, 100))
        else:
            owner[key] = copy.deepcopy(rng.choice(NASTY))
    return found


def _places(value: Any) -> Any:
    """(container, key) of every value."""
    if isinstance(value, dict | list):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys:
            yield value, key
            yield from _places(value[key])


def damaged_zip(data: bytes, members: tuple[str, ...], rng: random.Random) -> bytes:
    """A whole archive with damage inside: of the JSON in one of `members`, or another's bytes."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    texts = [name for name in members if name in entries]
    if texts and rng.random() < 0.8:
        name = rng.choice(texts)
        entries[name] = json.dumps(damaged_value(json.loads(entries[name]), rng)).encode()
    else:
        name = rng.choice(sorted(entries))
        entries[name] = damaged_bytes(entries[name], rng)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()
