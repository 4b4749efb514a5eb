"""The part of onnxruntime's static quantizer in a comparison. See peer_steps.py.

MODEL is an .onnx file. QDQ form, weights per channel, 8 or 4 bits; activations of 8 bits per
tensor with steps and zero points of any size, from the smallest to the largest value.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader
from onnxruntime.quantization.shape_inference import quant_pre_process
from peer_steps import Task, task


class Reader(CalibrationDataReader):
    """The samples as the calibration asks for them, one batch at a time."""

    def __init__(self, name: str, of: Task) -> None:
        self.batches = ({name: batch} for batch in of.batches())

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch, None at the end."""
        return next(self.batches, None)


def quantize(of: Task, target: Path) -> None:
    """Write the quantized network."""
    prepared = target.with_name("prepared.onnx")
    quant_pre_process(str(of.model), str(prepared))
    quantize_static(
        str(prepared),
        str(target),
        Reader(ort.InferenceSession(str(prepared)).get_inputs()[0].name, of),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8 if of.weights == 8 else QuantType.QInt4,
        activation_type=QuantType.QUInt8,
    )


def main() -> None:
    """Quantize, write the result."""
    of = task(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "quantized.onnx"
        of.step("ranges", lambda: quantize(of, target))
        session = ort.InferenceSession(str(target))
    name = session.get_inputs()[0].name
    of.write(model=of.classes(lambda images: session.run(None, {name: images})[0]))


if __name__ == "__main__":
    main()
