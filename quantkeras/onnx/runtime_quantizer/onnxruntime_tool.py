"""Calls of onnxruntime.quantization, with ranges and parameters that were decided here.

Its static quantizers take ranges from a file that an earlier calibration left, and exact scales
and zero points as overrides per tensor: together that is the dictionary {tensor: (zero_point,
scale)} again.
"""

from __future__ import annotations

import inspect
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime import quantization

from ...errors import QuantizationError
from .graph_editor import sort_nodes
from .model_source import LARGEST_MESSAGE, as_file, inferred_types, size_of
from .neutral_names import NeutralNames
from .number_types import AffineParams, NumberType
from .quantized_weights import WeightFormat

_PREPROCESSED = ("onnx.quant.pre_process", "onnxruntime.quant")
"""Metadata that keep it from advising, each time, to prepare the model with another tool."""


def quantize_static(
    model: onnx.ModelProto,
    mode: str,
    nodes: Sequence[onnx.NodeProto],
    params: Mapping[str, AffineParams],
    kind: NumberType,
    form: WeightFormat,
    symmetric: bool,
) -> onnx.ModelProto:
    """Mode "qlinear" or "qdq" by onnxruntime's static quantizer.

    The model is renamed on the way. nodes: those to quantize. params, kind, symmetric: of
    activations; form: of weights.
    """
    if "calibration_cache_path" not in inspect.signature(quantization.quantize_static).parameters:
        raise QuantizationError(
            f"onnxruntime {onnxruntime.__version__} cannot take scales that are given; install a "
            "newer one: pip install -U onnxruntime"
        )
    formats = {"qlinear": "QOperator", "qdq": "QDQ"}
    known = set(inferred_types(model))
    chosen, names = _renamed(model, nodes)
    overrides = {
        names.of(name): [{"scale": np.array(scale), "zero_point": np.array(zero)}]
        for name, (zero, scale) in params.items()
        if name in known
    }
    options: dict[str, Any] = {
        "ActivationSymmetric": symmetric,
        "WeightSymmetric": form.symmetric,
        "TensorQuantOverrides": overrides,
    }
    with tempfile.TemporaryDirectory(prefix="quantkeras-") as folder:
        ranges = Path(folder, "ranges.json")
        renamed = {names.of(name): pair for name, pair in params.items()}
        quantization.save_tensors_data(_ranges(renamed, kind), ranges)
        found = _run(
            quantization.quantize_static,
            model,
            calibration_cache_path=ranges,
            quant_format=quantization.QuantFormat[formats[mode]],
            activation_type=quantization.QuantType[kind.onnxruntime_name],
            weight_type=quantization.QuantType[form.kind.onnxruntime_name],
            op_types_to_quantize=sorted({node.op_type for node in nodes}),
            nodes_to_quantize=chosen,
            per_channel=form.per_channel,
            reduce_range=form.reduce_range,
            extra_options=options,
        )
    names.restore(found)
    sort_nodes(found.graph)
    return found


def quantize_dynamic(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], form: WeightFormat
) -> onnx.ModelProto:
    """Recurrent, attention and embedding nodes by onnxruntime's dynamic quantizer.

    The model is renamed on the way.
    """
    chosen, names = _renamed(model, nodes)
    found = _run(
        quantization.quantize_dynamic,
        model,
        weight_type=quantization.QuantType[form.kind.onnxruntime_name],
        op_types_to_quantize=sorted({node.op_type for node in nodes}),
        nodes_to_quantize=chosen,
        per_channel=form.per_channel,
        reduce_range=form.reduce_range,
        extra_options={"WeightSymmetric": form.symmetric},
    )
    names.restore(found)
    sort_nodes(found.graph)
    return found


def _renamed(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]
) -> tuple[list[str], NeutralNames]:
    """Rename the model; the new names of the nodes come first."""
    old = [node.name for node in nodes]
    names = NeutralNames(model)
    return [names.of_node(name) for name in old], names


def _ranges(params: Mapping[str, AffineParams], kind: NumberType) -> quantization.TensorsData:
    """The values at both ends of the integers, as the outcome of a calibration."""

    def ends(pair: AffineParams) -> tuple[Any, Any]:
        low, high = (
            np.asarray((end - int(pair.zero_point)) * np.float64(pair.scale), np.float32)
            for end in (kind.qmin, kind.qmax)
        )
        return low, high

    found = {name: ends(pair) for name, pair in params.items()}
    return quantization.TensorsData(quantization.CalibrationMethod.MinMax, found)


def _run(function: Any, model: onnx.ModelProto, **settings: Any) -> onnx.ModelProto:
    """Its functions write files; they get a folder for that."""
    entry = model.metadata_props.add()
    entry.key, entry.value = _PREPROCESSED
    large = size_of(model) > LARGEST_MESSAGE
    with as_file(model) as path, _without_a_log():
        output = path.with_name("quantized.onnx")
        function(path, output, use_external_data_format=large, **settings)
        found = onnx.load(str(output))
    for props in (model.metadata_props, found.metadata_props):
        for index in reversed(range(len(props))):
            if props[index].key in (_PREPROCESSED[0], "onnx.infer"):
                del props[index]
    return found


@contextmanager
def _without_a_log() -> Iterator[None]:
    """Its warnings go to the root logger, which prints them where a program set up no logging,
    and goes on printing from then on. With a handler there, only programs that log see them.
    """
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
