"""The golden integer vectors: fixed numbers that every implementation must reproduce."""

import importlib.util
import json
from pathlib import Path

import numpy as np

from quantkeras.numerics import Format, Interval, saturate, shift_round
from quantkeras.numerics.weights import steps_on_grid

FOLDER = Path(__file__).parents[1] / "golden"
VECTORS = json.loads((FOLDER / "numerics.json").read_text())


def test_the_file_is_what_its_maker_writes():
    spec = importlib.util.spec_from_file_location("make_numerics", FOLDER / "make_numerics.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert maker.to_text(maker.vectors()) == maker.FILE.read_text()


def column(name: str) -> np.ndarray:
    return np.array([case[name] for case in VECTORS["rescale"]])


def test_rescale():
    moved = shift_round(column("acc") * column("scale"), column("shift"))
    np.testing.assert_array_equal(saturate(moved, column("qmin"), column("qmax")), column("y"))


def test_bounds_rescale_as_the_integers_do():
    for case in VECTORS["rescale"]:
        x = Interval(case["acc"], case["acc"])
        y = x.rescaled(case["scale"], case["shift"], case["qmin"], case["qmax"])
        assert y.lo == y.hi == case["y"]


def test_quantize():
    for case in VECTORS["quantize"]:
        fmt = Format(case["bits"], case["signed"], case["frac"])
        assert fmt.quantize(float.fromhex(case["x"])) == case["q"]


def test_steps():
    for case in VECTORS["steps"]:
        s, k = steps_on_grid(float.fromhex(case["raw"]), case["scale_bits"])
        assert (int(s), int(k)) == (case["s"], case["k"])
