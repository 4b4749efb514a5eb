"""Builds small ONNX models and compares what is read of them with onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from hypothesis import settings
from onnx import helper, numpy_helper

from sanitize import evaluate
from sanitize.onnx_io import OnnxImport, import_onnx, write_onnx

#: Largest difference to onnxruntime, relative to the largest value.
TOLERANCE = 1e-5


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """An ONNX node, named after operator and output; spaces separate names, "_" stands for none."""
    names = ["" if name == "_" else name for name in inputs.split()]
    outs = outputs.split()
    return helper.make_node(op, names, outs, name=f"{op}_{outs[0]}", **attributes)


def model(
    nodes: Sequence[Any],
    inputs: Mapping[str, Sequence[Any]],
    constants: Mapping[str, Any] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    dtypes: Mapping[str, int] | None = None,
    listed: bool = False,
) -> Any:
    """A model; ``listed`` names the initializers among the inputs as old exporters do."""
    kinds = dtypes or {}
    stored = {name: np.asarray(array) for name, array in (constants or {}).items()}
    stored = {
        name: array.astype(np.float32) if array.dtype == np.float64 else array
        for name, array in stored.items()
    }
    infos = [
        helper.make_tensor_value_info(name, kinds.get(name, onnx.TensorProto.FLOAT), list(shape))
        for name, shape in inputs.items()
    ]
    if listed:
        infos += [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in stored.items()
        ]
    outs = [
        helper.make_tensor_value_info(name, kinds.get(name, onnx.TensorProto.FLOAT), None)
        for name in outputs
    ]
    graph = helper.make_graph(
        list(nodes),
        "net",
        infos,
        outs,
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    # Fills in the shapes of the outputs.
    return onnx.shape_inference.infer_shapes(proto)


def run(proto: Any, arrays: Mapping[str, Any]) -> list[Any]:
    """Outputs of onnxruntime, without its optimizations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    return session.run(None, dict(arrays))


def random_arrays(proto: Any, batch: int = 2, seed: int = 0) -> dict[str, Any]:
    """Data for the inputs of a model; sizes that are no numbers become ``batch``."""
    generator = np.random.default_rng(seed)
    stored = {tensor.name for tensor in proto.graph.initializer}
    arrays = {}
    for value in proto.graph.input:
        if value.name in stored:
            continue
        kind = value.type.tensor_type
        shape = [dim.dim_value if dim.HasField("dim_value") else batch for dim in kind.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if dtype.kind == "f":
            arrays[value.name] = generator.normal(size=shape).astype(dtype)
        else:
            arrays[value.name] = generator.integers(0, 100, shape).astype(dtype)
    return arrays


def largest_gap(found: Any, wanted: Any) -> float:
    """Largest difference relative to the largest value; shapes must agree."""
    assert found.shape == wanted.shape
    scale = max(float(np.abs(wanted).max(initial=0.0)), 1e-3)
    return float(np.abs(found - wanted).max(initial=0.0)) / scale


def check(
    nodes: Sequence[Any],
    inputs: Mapping[str, Sequence[Any]],
    constants: Mapping[str, Any] | None = None,
    keras: bool = True,
    tolerance: float = TOLERANCE,
    **rest: Any,
) -> OnnxImport:
    """Read the model and hold it to onnxruntime, as a graph and (with ``keras``) as Keras model."""
    return check_model(model(nodes, inputs, constants, **rest), keras, tolerance)


def check_model(
    proto: Any,
    keras: bool = True,
    tolerance: float = TOLERANCE,
    written: bool = True,
    **options: Any,
) -> OnnxImport:
    """As :func:`check`, for a model that is there already; ``options`` go to import_onnx.

    The graph is also written as ONNX and run, unless ``written`` is false. Outside of the quick
    profile the Keras model is compiled.
    """
    arrays = random_arrays(proto)
    wanted = run(proto, arrays)
    imported = import_onnx(proto, **options)
    ours = [port.from_onnx(arrays[port.name]) for port in imported.inputs]
    results = {"graph": evaluate(imported.graph, ours)}
    if keras:
        from sanitize import write_keras

        network = write_keras(imported.graph)
        given = ours if len(ours) > 1 else ours[0]
        # Compiling takes longer than all the rest.
        compiled = settings.get_current_profile_name() != "quick"
        results["keras"] = network.predict_on_batch(given) if compiled else network(given)
    if written:
        back = write_onnx(imported.graph, input_layout="nhwc", opset=max(imported.opset, 17))
        given = dict(zip(imported.graph.inputs, ours, strict=True))
        results["written"] = run(back, given)
    for label, found in results.items():
        found = found if isinstance(found, list) else [found]
        for port, array, target in zip(imported.outputs, found, wanted, strict=True):
            gap = largest_gap(port.to_onnx(np.asarray(array)), target.astype(np.float32))
            assert gap <= tolerance, f"{label}, output '{port.name}': {gap:.2e}"
    return imported


def kinds_of(imported: OnnxImport) -> list[str]:
    """The kinds of all nodes but the inputs, in order."""
    return [node.kind for node in imported.graph if node.kind != "input"]


def weights(*shape: int, seed: int = 1) -> Any:
    """Random float32 numbers of about the size that keeps a signal's size."""
    fan_in = max(int(np.prod(shape[1:])), 1)
    array = np.random.default_rng(seed).normal(size=shape) / np.sqrt(fan_in)
    return array.astype(np.float32)
