"""The part of Google's ai-edge-quantizer in a comparison, run by LiteRT. See peer_steps.py.

MODEL is a float .tflite file. An environment for it:

    python -m venv ai_edge; ai_edge/bin/pip install ai-edge-quantizer ai-edge-litert tensorflow

Static quantization: weights per channel, activations of 8 bits per tensor, steps of any size, the
ranges of its own calibration. It has 4-bit weights for convolutions and dense layers; depthwise
convolutions keep 8.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer
from ai_edge_quantizer.qtyping import TFLOperationName
from peer_steps import TEST_BATCH, Task, task

NARROW = (TFLOperationName.CONV_2D, TFLOperationName.FULLY_CONNECTED)
"""Layers that may have less than 8 bits."""


def quantized(of: Task) -> bytes:
    """The integer network as a .tflite file."""
    made = quantizer.Quantizer(str(of.model))
    every = TFLOperationName.ALL_SUPPORTED
    made.add_static_config(".*", every, of.activations, 8)
    if of.weights < 8:
        for kind in NARROW:
            made.add_static_config(".*", kind, of.activations, of.weights)
    signature, names = next(iter(signatures(of).items()))
    batches = [{names["inputs"][0]: batch} for batch in of.batches()]
    return bytes(made.quantize(made.calibrate({signature: batches})).quantized_model)


def signatures(of: Task) -> dict[str, dict[str, list[str]]]:
    """The inputs and outputs of the float network, by signature."""
    return Interpreter(model_path=str(of.model)).get_signature_list()


def classes(content: bytes, of: Task) -> list[int]:
    """The class of each test image."""
    interpreter = Interpreter(model_content=content, num_threads=os.cpu_count())
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    step, zero = source["quantization"]

    def predict(images: np.ndarray) -> Any:
        shape = (len(images), *source["shape"][1:])
        interpreter.resize_tensor_input(source["index"], shape)
        interpreter.allocate_tensors()
        integers = np.clip(np.round(images / step) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(source["index"], integers)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    return of.classes(predict, TEST_BATCH)


def main() -> None:
    """Quantize, write the result."""
    of = task(__doc__)
    content = of.step("ranges", lambda: quantized(of))
    of.write(model=classes(content, of))


if __name__ == "__main__":
    main()
