"""`quantkeras quantize` of ONNX files: samples and outputs as in the file, whatever the options."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_harness import model, node, weights
from parameters import slow

from quantkeras.cli import main

NODES = [
    node("Conv", "x w b", "c", pads=[1] * 4),
    node("Relu", "c", "r"),
    node("Conv", "r w2", "d"),
    node("Relu", "d", "e"),
    node("Conv", "e w3", "y"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network whose channels differ, and samples with the channels in front."""
    made = tmp_path_factory.mktemp("onnx")
    spread = np.geomspace(0.05, 2.0, 6, dtype=np.float32).reshape(6, 1, 1, 1)
    constants = {"w": weights(6, 3, 3, 3) * spread, "b": weights(6), "w2": weights(5, 6, 3, 3),
                 "w3": weights(2, 5, 1, 1)}  # fmt: skip
    onnx.save(model(NODES, {"x": ("n", 3, 8, 7)}, constants), made / "net.onnx")
    x = np.random.default_rng(0).normal(size=(12, 3, 8, 7)).astype(np.float32)
    np.savez(made / "x.npz", x=x)
    return made


def run(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (entry,) = session.get_outputs()
    return entry.name, session.run(None, {"x": x})[0]


@pytest.mark.parametrize("words", [*slow("--correct_bias"), "--equalize --adaround"])
def test_methods_without_labels(folder, tmp_path, words):
    out = tmp_path / "out.onnx"
    command = ["quantize", "-m", f"{folder}/net.onnx", "-sa", f"{folder}/x.npz", "-o", f"{out}"]
    assert main([*command, "-w", "4", *words.split()]) == 0
    with np.load(folder / "x.npz") as arrays:
        x = arrays["x"]
    name, wanted = run(folder / "net.onnx", x)
    found_name, found = run(out, x)
    assert found_name == name and found.shape == wanted.shape
    assert np.linalg.norm(found - wanted) < 0.25 * np.linalg.norm(wanted)
