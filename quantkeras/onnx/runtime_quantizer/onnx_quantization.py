"""quantize_onnx: a float ONNX model as a quantized one, in the form that its runtime takes best."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ...errors import QuantizationError
from .number_types import ACTIVATION_TYPES, WEIGHT_TYPES, NumberType, number_type
from .quantized_weights import WeightFormat
from .requirements import require

if TYPE_CHECKING:
    import onnx

MODES = ("integer", "qlinear", "qdq")


def quantize_onnx(
    model: Any,
    mode: Literal["integer", "qlinear", "qdq"] = "integer",
    static: bool | None = None,
    *,
    samples: Any = None,
    data_reader: Any = None,
    quantization_params: Mapping[str, Any] | None = None,
    per_channel: bool = False,
    weight_type: Any = "int8",
    activation_type: Any = "uint8",
    symmetric_weights: bool | None = None,
    symmetric_activations: bool = False,
    reduce_range: bool = False,
    op_types_to_quantize: Sequence[str] | None = None,
    nodes_to_quantize: Sequence[str] | None = None,
    nodes_to_exclude: Sequence[str] | None = None,
    method: str = "minmax",
    num_samples: int | None = 1024,
    batch_size: int | None = None,
    path: str | os.PathLike[str] | None = None,
) -> onnx.ModelProto:
    """Make a quantized copy of an ONNX model that plain onnxruntime runs.

    Scales come from quantization_params, and what that leaves open from samples or data_reader, by
    ``method``; see calibrate_onnx. "integer" needs those of the inputs of its nodes, "qlinear" and
    "qdq" of inputs and outputs, and "qlinear" that is not static of outputs alone. Without samples,
    nodes other than Conv, MatMul and Gemm stay float if the dictionary lacks one of their tensors.

    Nodes that cannot be quantized stay float, and one warning says which and why; so do, without
    one, Concats of unlike ranges that only floats read, unless op_types_to_quantize or the lists of
    nodes ask for them. Graphs within nodes (loops, branches) are left alone, and so are operators
    of other domains than ONNX's own. The result is checked and run once before it is returned.

    Args:
        model: an onnx.ModelProto, its bytes or a path; opset 10 or newer.
        mode: "integer" writes ConvInteger and MatMulInteger, and floats around them; "qlinear"
            writes QLinearConv, QLinearMatMul and their like; "qdq" keeps float operators between
            QuantizeLinear and DequantizeLinear, for runtimes that fuse them.
        static: scales of activations are fixed; otherwise each run measures the inputs of the
            quantized nodes. None: static if there is something to take scales from.
        samples: arrays, a file, or batches.
        data_reader: an object with ``get_next()``, in their place.
        quantization_params: {tensor: (zero_point, scale)}.
        per_channel: a scale per output channel of weights, symmetric.
        weight_type: "int8" or "uint8"; "qdq" takes "int16", "uint16" and 4 bits as well.
        activation_type: "int8" or "uint8"; "qdq" takes "int16" and "uint16" as well.
        symmetric_weights: None for all but unsigned ones.
        symmetric_activations: zero points of activations in the middle of their type.
        reduce_range: weights of 7 bits, for processors without 8-bit dot products, where sums of
            int8 by uint8 saturate.
        op_types_to_quantize: None for what the mode is good at.
        nodes_to_quantize: only those named.
        nodes_to_exclude: names of nodes that stay float.
        method: how ranges are found, see calibrate_onnx.
        num_samples: what to take from samples that are arrays or files, None for all.
        batch_size: samples at a time of such, None chooses.
        path: where to save it, too.

    Returns:
        The quantized model.

    Raises:
        QuantizationError: for a name that no node or tensor has, a missing scale, settings that
            exclude each other, or a result that does not run where the float model does.
        ModelFileError: for a file that is no ONNX model, and one that cannot be written.
        FileNotFoundError: for a path that leads nowhere.
    """
    require("onnx", "onnxruntime")
    if mode not in MODES:
        raise QuantizationError(f"mode is {', '.join(map(repr, MODES))}, not {mode!r}")
    if samples is not None and data_reader is not None:
        raise QuantizationError("give samples or data_reader, not both")
    source = data_reader if data_reader is not None else samples
    if static is None:
        static = mode != "integer" or source is not None or quantization_params is not None
    kind = number_type(activation_type, "activation_type", ACTIVATION_TYPES[mode])
    weight_kind = number_type(weight_type, "weight_type", WEIGHT_TYPES[mode])
    _check_types(mode, static, kind, weight_kind, symmetric_activations)
    symmetric = weight_kind.signed if symmetric_weights is None else symmetric_weights
    if per_channel and symmetric_weights is False:
        raise QuantizationError(
            "weights with per_channel are symmetric; leave symmetric_weights out"
        )
    weights = WeightFormat(weight_kind, per_channel, symmetric, reduce_range)

    from .model_source import load_model, save_model
    from .result_check import check_result
    from .task import Choice, Form, Task

    form = Form(mode, static, kind, symmetric_activations, weights)
    choice = Choice(op_types_to_quantize, nodes_to_quantize, nodes_to_exclude)
    task = Task(load_model(model), form, choice)
    task.take_params(quantization_params, source, method, num_samples, batch_size)
    found = task.run()
    check_result(found, lambda: load_model(model), task.first_batch)
    if path is not None:
        save_model(found, path)
    return found


def _check_types(
    mode: str, static: bool, kind: NumberType, weights: NumberType, symmetric: bool
) -> None:
    """Raises QuantizationError for types that there are no operators for."""
    if not static and (kind.name != "uint8" or symmetric):
        raise QuantizationError(
            "scales that are measured in each run are those of uint8, not symmetric: leave out "
            "activation_type and symmetric_activations, or set static=True"
        )
    if not static and weights.bits != 8:
        raise QuantizationError(f"with static=False weights have 8 bits, not {weights.name}")
    if mode == "integer" and kind.signed and not weights.signed:
        # Its ConvInteger and MatMulInteger need 8-bit dot products for them.
        raise QuantizationError(
            "mode 'integer' does not take int8 activations with uint8 weights, which onnxruntime "
            "multiplies wrongly on some processors: set weight_type='int8', or "
            "activation_type='uint8'"
        )
    if mode != "integer" and kind.signed and not weights.signed:
        raise QuantizationError(
            f"onnxruntime multiplies no {kind.name} by {weights.name}; choose weight_type "
            f"'int{weights.bits}' or activation_type 'u{kind.name}'"
        )
