"""The ONNX walk-through of examples/ does what it says, on a small network like its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_resnet50 as tutorial
import pytest
from onnx_harness import check_model, run
from resnet50_v1 import resnet_v1

import quantkeras
from quantkeras import convert, coverage, verify


@pytest.fixture(scope="module")
def network() -> Any:
    return resnet_v1(size=64, blocks=(1, 1, 2, 1), width=8, classes=10)


@pytest.mark.slow
def test_the_walk_through(network: Any, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(1).normal(size=(8, 3, 64, 64)).astype(np.float32)
    found = tutorial.walk_through(network, x)
    printed = capsys.readouterr().out
    assert "(Conv, Relu, MaxPool) -> conv2d, max pool, ReLU" in printed
    assert all(coverage(quantized).complete for quantized in found.values())
    stem = {title: convert(quantized).layers[0] for title, quantized in found.items()}
    assert stem["as it is"].spec.window.padding == ((3, 2), (3, 2))
    assert stem["custom patterns"].spec.window.padding == "same"
    assert stem["custom patterns"].spec.pool.kind == "max"
    names = {title: [layer.name for layer in convert(q).layers] for title, q in found.items()}
    pooling = "resnetv17_pool1_fwd_identity"
    assert pooling not in names["as it is"] and pooling in names["custom patterns"]
    wanted = run(network, {"data": x})[0]
    for title, quantized in found.items():
        assert verify(quantized, convert(quantized), x.transpose(0, 2, 3, 1)[:2]).exact
        scores = np.asarray(quantized(x.transpose(0, 2, 3, 1)))
        # Other pads are another function; the two that keep it stay close.
        if title != "custom patterns":
            assert np.abs(scores - wanted).max() < 0.15 * np.abs(wanted).max(), title
        assert tutorial.agreement(network, quantized, x) >= 0.5


@pytest.mark.slow
def test_resnet50_is_read_right() -> None:
    proto = resnet_v1(size=64)
    assert [node.op_type for node in proto.graph.node].count("Conv") == 53
    check_model(proto, keras=False, tolerance=1e-4)
    assert quantkeras.from_onnx(proto).count_params() > 25e6
