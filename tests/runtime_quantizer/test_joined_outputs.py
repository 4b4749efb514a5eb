"""Outputs that join large and small numbers: each keeps the resolution that it was made with."""

import numpy as np
import onnxruntime
import pytest
from onnx_nets import model, node, weights

from quantkeras import quantize_onnx

X = np.random.default_rng(2).random((8, 3, 6, 6)).astype(np.float32)


def detector(*behind):
    """Boxes around 0..640 and scores in 0..1, joined; behind: further nodes from "j" to "y"."""
    constants = {
        "w0": weights(4, 3, 3, 3) / 4,
        "w1": 300 * weights(4, 4, 1, 1),
        "w2": weights(3, 4, 1, 1),
        "w3": weights(2, 7, 1, 1) / 100,
        "shape": np.array([0, 7, -1]),
    }
    nodes = [
        node("Conv", ["x", "w0"], ["c"], pads=[1, 1, 1, 1]),
        node("Conv", ["c", "w1"], ["boxes"]),
        node("Conv", ["c", "w2"], ["s"]),
        node("Sigmoid", ["s"], ["scores"]),
        node("Concat", ["boxes", "scores"], ["j"], axis=1),
        *behind,
    ]
    last = nodes[-1].output[0]
    names = {name for each in nodes for name in each.input}
    used = {name: array for name, array in constants.items() if name in names}
    shape = ["n", None, None] if behind and behind[-1].op_type == "Reshape" else ["n", *[None] * 3]
    return model(nodes, {"x": ["n", 3, 6, 6]}, {last: shape}, used)


def run(network):
    session = onnxruntime.InferenceSession(network.SerializeToString())
    return session.run(None, {"x": X})[0]


def decibels(wanted, found):
    return 10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum())


RESHAPE = node("Reshape", ["j", "shape"], ["y"])


@pytest.mark.parametrize("mode", ["qdq", "qlinear"])
@pytest.mark.parametrize("behind", [(), (RESHAPE,)], ids=["output", "moved"])
def test_scores_beside_boxes_are_not_lost(mode, behind):
    network = detector(*behind)
    wanted = run(network)
    found = run(quantize_onnx(network, mode, samples=X, per_channel=True))
    assert decibels(wanted[:, :4], found[:, :4]) > 12
    assert decibels(wanted[:, 4:], found[:, 4:]) > 30


def test_what_a_quantized_node_reads_and_what_was_asked_for_stays_quantized():
    read = detector(node("Conv", ["j", "w3"], ["y"]))
    asked = detector()
    for network, chosen in ((read, None), (asked, ["Conv", "Sigmoid", "Concat"])):
        found = quantize_onnx(network, "qlinear", samples=X, op_types_to_quantize=chosen)
        assert "QLinearConcat" in {each.op_type for each in found.graph.node}
    found = quantize_onnx(asked, "qlinear", samples=X)
    assert "Concat" in {each.op_type for each in found.graph.node}
