"""The peer that comes with TensorFlow: LiteRT, with its own converter to 8-bit integers."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np


def available() -> bool:
    """Whether this TensorFlow has the converter and an interpreter. Imports TensorFlow."""
    try:
        import tensorflow
    except ImportError:
        return False
    return hasattr(tensorflow, "lite")


def convert(model: Any, samples: np.ndarray | None) -> bytes:
    """A Keras model with 8-bit integers inside and floats at its ends; samples: to calibrate.

    Without samples all of it stays float.
    """
    import tensorflow as tf

    def batches(samples: np.ndarray) -> Iterator[list[np.ndarray]]:
        for sample in samples:
            yield [sample[None].astype(np.float32)]

    with _silence():
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if samples is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = partial(batches, samples)
        return converter.convert()


def runner(content: bytes, batch: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function that runs a converted model on samples (n, ...), n a multiple of ``batch``, on
    all cores.
    """
    import tensorflow as tf

    with _silence():
        interpreter = tf.lite.Interpreter(model_content=content, num_threads=os.cpu_count())
        place = interpreter.get_input_details()[0]
        interpreter.resize_tensor_input(place["index"], (batch, *place["shape"][1:]))
        interpreter.allocate_tensors()
    result = interpreter.get_output_details()[0]["index"]

    def run(x: np.ndarray) -> np.ndarray:
        outputs = []
        for start in range(0, len(x), batch):
            interpreter.set_tensor(place["index"], x[start : start + batch])
            interpreter.invoke()
            outputs.append(interpreter.get_tensor(result))
        return np.concatenate(outputs)

    return run


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing on the terminal: the converter writes to it from C++ and warns that it will move."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for descriptor in (*kept, nowhere):
            os.close(descriptor)
