"""The benchmarks run: each script once, with settings so small that its figures mean nothing."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SPEED = ["--rounds", "1", "--count", "32", "--samples", "4", "--steps", "1", "--no-peer"]

TINY = {
    "speed quantize": ["--only", "quantize", "import", "--networks", "resnet8", *SPEED],
    "speed predict": ["--only", "predict", "train", "--networks", "autoencoder", *SPEED],
    "onnx_export": ["--networks", "resnet8", "--activations", "tensor", "--count", "20",
                    "--timed", "8", "--rounds", "1"],
    "memory": ["--counts", "4", "8", "--observers", "mse", "--sources", "npz"],
    "ptq_accuracy": ["--samples", "20", "--verified", "10", "--widths", "8/4/8",
                     "--weight-ranges", "mse", "--activations", "tensor", "--networks", "zoo"],
}  # fmt: skip
"""Script -> command line; what stands behind a space tells two runs of a script apart."""

EXPECTED = {
    "speed quantize": {"quantize", "import"},
    "speed predict": {"predict", "train"},
    "onnx_export": {"networks"},
    "memory": {"memory"},
    "ptq_accuracy": {"samples", "zoo"},
}


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """Run a script: what it printed, and the figures it wrote."""
    folder = tmp_path_factory.mktemp("figures")

    @cache
    def run(name: str) -> tuple[str, dict]:
        script, out = ROOT / "benchmarks" / f"{name.split()[0]}.py", folder / f"{name}.json"
        hidden = {"QUANTKERAS_DATA", "QUANTKERAS_SHARED"}
        environment = {k: v for k, v in os.environ.items() if k not in hidden}
        environment["PYTHONPATH"] = str(ROOT)
        result = subprocess.run(
            [sys.executable, script, *TINY[name], "--json", out],
            cwd=folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout, json.loads(out.read_text(encoding="utf-8"))

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_the_script_prints_tables_and_writes_its_figures(figures, name):
    printed, found = figures(name)
    assert "cores, load" in printed
    assert set(found) == EXPECTED[name] | {"machine"}


@pytest.mark.slow
def test_accuracy_of_the_program_is_that_of_the_model(figures):
    _, found = figures("ptq_accuracy")
    assert [row["widths"] for row in found["zoo"]] == ["float", "8/4/8"]
    row = found["zoo"][1]
    assert row["exact"]
    assert row["program_accuracy"] == row["accuracy"]


def test_times_are_compared_round_by_round(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from measuring import Timings, in_turn, verdict

    slow, fast = Timings([2.0, 20.0, 2.0], [3.0, 3.0, 6.0]), Timings([1.0, 10.0, 1.0], [1.0] * 3)
    assert slow.ratios(fast) == (2.0, 3.0)
    calls = []
    found = in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == ["a", "b", "a", "b"]
    assert [len(t.wall) for t in found.values()] == [2, 2]
    assert (verdict(1.5, 1.5), verdict(1.6, 1.5)) == ("met", "MISSED")
