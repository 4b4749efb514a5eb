"""Damaged files of every kind: the errors are our own, and time and memory stay bounded.

The files are damaged by a seed, so that every run reads the same ones. To look at one that failed:
``python tests/fuzz/reading.py NAME COUNT SEED FOLDER`` leaves it in FOLDER.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
MOST_MEMORY = 3 * 2**29

COUNTS = {
    "net.qkp": 250,
    "net2.qkp": 250,
    "params.json": 400,
    "a.encodings": 150,
    "ab.encodings": 150,
    "abc.encodings": 150,
    "x.npz": 250,
    "net.keras": 60,
    "net2.keras": 80,
    "net.h5": 60,
    "net2.h5": 60,
    "net.onnx": 250,
}
"""Name of a file -> how many are damaged: some ten seconds of each kind."""


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    folders = (HERE.parents[1], HERE, HERE.parent, HERE.parent / "runtime")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    words = [sys.executable, HERE / "reading.py", name, str(COUNTS[name]), "1", tmp_path]
    result = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=600, env=environment
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr[-2000:]}"
    *faults, last = result.stdout.splitlines()
    assert not [line for line in faults if line.startswith("fault:")]
    found = json.loads(last)
    assert found["grown"] < MOST_MEMORY
    assert found["refused"] > COUNTS[name] / 4  # the damage is felt
