"""Large kernels and large constants: what is worked out is not kept, or made at once."""

import tracemalloc

import numpy as np
import pytest
from onnx_harness import model, node

from sanitize import evaluate, windows
from sanitize.onnx_io import import_onnx
from sanitize.onnx_io.fold import fold_constants
from sanitize.onnx_io.source import load_model
from sanitize.onnx_io.view import OnnxGraph


@pytest.mark.parametrize(("limit", "groups"), [(1, 1), (600, 1), (5_000, 2), (40_000, 1)])
def test_convolutions_in_parts_give_the_same(monkeypatch, limit, groups):
    """Parts of a position, of a row, of a sample, and of several."""
    r = np.random.default_rng(0)
    w = r.normal(size=(6, 4 // groups, 3, 2)).astype(np.float32)
    proto = model([node("Conv", "x w", "y", group=groups, strides=[2, 1], pads=[1, 0, 1, 1])],
                  {"x": ("n", 4, 9, 7)}, {"w": w})  # fmt: skip
    graph = import_onnx(proto).graph
    x = r.normal(size=(5, 9, 7, 4)).astype(np.float32)
    wanted = evaluate(graph, x)
    monkeypatch.setattr(windows, "_LARGEST_MATRIX", limit)
    assert np.allclose(evaluate(graph, x), wanted, atol=1e-5)


def peak(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_long_signal_and_a_long_kernel(monkeypatch):
    """(6000, 1) by 1024 taps: the matrix of all windows would take 51 MB in double precision."""
    monkeypatch.setattr(windows, "_LARGEST_MATRIX", 2**20)
    w = np.random.default_rng(0).normal(size=(2, 1, 1024)).astype(np.float32)
    proto = model([node("Conv", "x w", "y", strides=[4])], {"x": ("n", 1, 6000)}, {"w": w})
    graph = import_onnx(proto).graph
    x = np.zeros((5, 6000, 1))
    assert peak(lambda: evaluate(graph, x, dtype=np.float64)) < 5e6


def test_constants_that_nothing_reads_any_more_are_dropped():
    """A chain of large constants of which one number remains."""
    nodes = [
        node("ConstantOfShape", "size", "a"),
        node("Add", "a one", "b"),
        node("Add", "b a", "c"),
        node("Slice", "c zero end", "last"),
        node("Mul", "x last", "m"),
        node("Add", "m one", "y"),
    ]
    constants = {"size": np.array([1000]), "one": np.float32(1), "zero": np.array([0]),
                 "end": np.array([1])}  # fmt: skip
    graph = OnnxGraph(load_model(model(nodes, {"x": ("n", 3)}, constants)))
    fold_constants(graph)
    assert set(graph.constants) == {"one", "last"}
