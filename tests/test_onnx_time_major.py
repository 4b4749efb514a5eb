"""ONNX models that count samples along the second axis of their input, quantized as ONNX."""

import numpy as np
import onnxruntime
import pytest
from onnx_harness import model, node, run

import quantkeras as qk
from quantkeras.calibration.batches import SampleError


@pytest.fixture(scope="module")
def network():
    """(5, batch, 8): dense, and dense again on rows of steps and samples."""
    r = np.random.default_rng(0)
    constants = {"w": r.normal(size=(8, 6)), "w2": r.normal(size=(6, 4)), "b": r.normal(size=4),
                 "apart": np.array([5, -1, 4])}  # fmt: skip
    nodes = [node("MatMul", "x w", "h"), node("Relu", "h", "r"), node("Flatten", "r", "m", axis=2),
             node("Gemm", "m w2 b", "d"), node("Reshape", "d apart", "y")]  # fmt: skip
    return model(nodes, {"x": (5, "batch", 8)}, constants)


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(1).normal(size=(16, 5, 8)).astype(np.float32)


def test_the_quantized_model_takes_what_the_float_one_takes(network, samples):
    quantized = qk.quantize(network, samples=samples)
    given = samples.transpose(1, 0, 2)
    session = onnxruntime.InferenceSession(quantized.SerializeToString())
    assert session.get_inputs()[0].shape == [5, "batch", 8]
    found, wanted = session.run(None, {"x": given})[0], run(network, {"x": given})[0]
    assert found.shape == wanted.shape
    noise = ((found - wanted) ** 2).sum()
    assert 10 * np.log10((wanted**2).sum() / noise) > 35


def test_samples_come_along_the_first_axis(network, samples):
    with pytest.raises(SampleError, match=r"\(n, 5, 8\), got \(5, 16, 8\)"):
        qk.quantize(network, samples=samples.transpose(1, 0, 2))
