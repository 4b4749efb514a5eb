"""The benchmark compares what it says it compares; its figures are not looked at."""

from pathlib import Path

import numpy as np
import pytest
from onnx_nets import conv_net, images

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def modes(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import onnxruntime_modes

    return onnxruntime_modes


def test_rows_of_ours_and_theirs(modes, monkeypatch):
    names = ("integer static", "qdq dynamic", "onnxruntime: dynamic")
    monkeypatch.setattr(modes, "WAYS", {name: modes.WAYS[name] for name in names})
    x = images(40)
    rows = list(modes.compare(conv_net(), x[:8], (x, np.zeros(40, int)), rounds=1))
    assert [row["way"] for row in rows] == ["float", *names]
    assert rows[0]["same_choice"] == 100.0
    assert all(row["same_choice"] > 90 for row in rows)
    assert [len(modes.cells(row)) for row in rows] == [len(modes.HEADER)] * 4


def test_without_data_it_says_so(modes, monkeypatch, capsys):
    monkeypatch.delenv("QUANTKERAS_SHARED", raising=False)
    monkeypatch.setattr("sys.argv", ["onnxruntime_modes.py"])
    modes.main()
    assert "QUANTKERAS_SHARED names no folder" in capsys.readouterr().out
