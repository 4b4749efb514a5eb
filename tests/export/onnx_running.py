"""Runs exported programs in onnxruntime and compares them with the program itself."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnxruntime  # noqa: E402

from quantkeras.onnx import export_onnx  # noqa: E402
from quantkeras.runtime import Program  # noqa: E402

LEVELS = {
    name: getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{name}")
    for name in ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_ALL")
}


def run_onnx(model: Any, feeds: dict[str, np.ndarray], level: str = "ENABLE_ALL") -> dict[str, Any]:
    """All outputs by name; feeds: inputs by name."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


@functools.cache
def products_saturate() -> bool:
    """Whether onnxruntime's sums of uint8 by int8 products saturate at 16 bits on this processor.

    They do on x86 without 8-bit dot products (VNNI). Its optimizer fuses the qdq form into them.
    """
    helper, size = onnx.helper, 16
    kernel = onnx.numpy_helper.from_array(np.full((size, size), 127, np.int8), "kernel")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "kernel"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, [1, size])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.INT32, [1, size])],
        [kernel],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (y,) = run_onnx(model, {"x": np.full((1, size), 255, np.uint8)}).values()
    return bool((y != 255 * 127 * size).any())


def with_all_integers(model: Any) -> Any:
    """The model with the integers of every layer and input as outputs, too."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    described = metadata(model)
    for entry in (*described["inputs"], *described["layers"]):
        probe.graph.output.append(onnx.helper.make_empty_tensor_value_info(entry["tensor"]))
    return probe


def metadata(model: Any) -> dict[str, Any]:
    """What the model says of its tensors."""
    (found,) = (entry.value for entry in model.metadata_props if entry.key == "quantkeras")
    return json.loads(found)


def channels_last(array: np.ndarray) -> np.ndarray:
    """A batch of maps as the program numbers it."""
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def channels_first(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 3, 1, 2) if array.ndim == 4 else array


def assert_equals_program(
    program: Program,
    inputs: dict[str, np.ndarray],
    levels: tuple[str, ...] = ("ENABLE_ALL",),
    every_integer: bool = True,
    **options: Any,
) -> Any:
    """Outputs and all integers of the exported program are those of the reference engine.

    inputs: what the program takes, by name. Returns the model.
    """
    model = export_onnx(program, **options)
    quantized = options.get("input_type") == "integer"
    wanted = program.run_integers(inputs, "all", engine="reference", quantized=quantized)
    feeds = {name: _fed(model, name, x, options) for name, x in inputs.items()}
    for level in levels:
        found = run_onnx(with_all_integers(model) if every_integer else model, feeds, level)
        if every_integer:
            described = metadata(model)
            for entry in (*described["inputs"], *described["layers"]):
                integers = channels_last(found[entry["tensor"]])
                assert integers.dtype.kind in "iu"
                np.testing.assert_array_equal(
                    integers, wanted[entry["name"]], err_msg=entry["name"]
                )
        for name in program.outputs:
            value = found[name]
            if options.get("output_layout", options.get("input_layout")) == "nchw":
                value = channels_last(value)
            if options.get("output_type") == "integer":
                np.testing.assert_array_equal(value, wanted[name])
                continue
            expected = program[name].dequantize(wanted[name]).astype(np.float32)
            assert value.dtype == np.float32
            np.testing.assert_array_equal(value, expected)
    return model


def _fed(model: Any, name: str, x: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    (entry,) = (entry for entry in model.graph.input if entry.name == name)
    kind = onnx.helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)
    array = np.asarray(x).astype(kind)
    if options.get("input_layout") == "nchw":
        array = channels_first(array)
    return np.ascontiguousarray(array)
