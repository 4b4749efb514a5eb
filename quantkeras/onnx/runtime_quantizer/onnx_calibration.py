"""calibrate_onnx: zero points and scales of the tensors of an ONNX model, from samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...calibration.samples import iterate_samples
from ...errors import QuantizationError
from .affine_ranges import affine_range, make_collector
from .number_types import ACTIVATION_TYPES, AffineParams, NumberType, number_type
from .requirements import require

if TYPE_CHECKING:
    import onnx

Batch = Mapping[str, Any]

DEFAULT_OP_TYPES = ("Conv", "MatMul", "Gemm")


def calibrate_onnx(
    model: Any,
    data_reader: Any,
    op_types: Sequence[str] = DEFAULT_OP_TYPES,
    *,
    nodes_to_quantize: Sequence[str] | None = None,
    nodes_to_exclude: Sequence[str] | None = None,
    method: str = "minmax",
    activation_type: Any = "uint8",
    symmetric: bool = False,
    augmented_model_path: str | os.PathLike[str] | None = None,
    num_samples: int | None = 1024,
    batch_size: int | None = None,
) -> dict[str, AffineParams]:
    """Choose zero points and scales for the inputs and outputs of nodes that will be quantized.

    Args:
        model: an onnx.ModelProto, its bytes or a path; opset 10 or newer.
        data_reader: an object whose ``get_next()`` returns {input: array} and at last None, a list
            of such dictionaries, or samples in any form that `quantize` takes: arrays, the path of
            an .npz file, an iterable, ...
        op_types: nodes of these types are calibrated.
        nodes_to_quantize: names of nodes that are calibrated as well, whatever their type (a white
            list).
        nodes_to_exclude: names of nodes that are not (a black list).
        method: "minmax", "percentile:99.9", "entropy" or "mse"; all but the first keep a histogram
            of fixed size for each tensor, so memory does not grow with the samples.
        activation_type: "uint8" or "int8", also "uint16" and "int16".
        symmetric: zero points in the middle of it.
        augmented_model_path: where to keep the model with the additional outputs.
        num_samples: what to take from samples that are arrays or files, None for all.
        batch_size: samples at a time of such, None chooses.

    Returns:
        {tensor: (zero_point, scale)}, (NumPy integer, np.float32) pairs, which may be changed. The
        dictionary goes to ``quantize_onnx(..., quantization_params=...)`` as it is.

    Raises:
        QuantizationError: for a name that no node has, samples that do not fit, or numbers that are
            not finite.
        ModelFileError: for a file that is no ONNX model.
        FileNotFoundError: for a path that leads nowhere.
    """
    require("onnx", "onnxruntime")
    from .model_source import load_model
    from .node_selection import check_types, forced_nodes

    kind = number_type(activation_type, "activation_type", ACTIVATION_TYPES["qdq"])
    make_collector(method, "")  # a method that there is not shows before the model is read
    loaded = load_model(model)
    check_types(op_types, None, loaded.graph, "calibration")
    nodes = forced_nodes(loaded.graph, op_types, nodes_to_quantize, nodes_to_exclude)
    tensors = activations_of(loaded, nodes)
    return measure(
        loaded, tensors, data_reader, method, kind, symmetric, augmented_model_path,
        num_samples, batch_size,
    )  # fmt: skip


def activations_of(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> list[str]:
    """Inputs and outputs of the nodes that are float tensors and no constants, in order."""
    from onnx import TensorProto

    from .model_source import inferred_types

    types = inferred_types(model)
    constant = {tensor.name for tensor in model.graph.initializer}
    constant |= {node.output[0] for node in model.graph.node if node.op_type == "Constant"}
    found: dict[str, None] = {}
    for node in nodes:
        for name in (*node.input, *node.output):
            known = types.get(name)
            is_float = known is None or known.elem_type == TensorProto.FLOAT
            if name and name not in constant and is_float:
                found[name] = None
    return list(found)


def measure(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    samples: Any,
    method: str,
    kind: NumberType,
    symmetric: bool,
    augmented_model_path: str | os.PathLike[str] | None = None,
    num_samples: int | None = 1024,
    batch_size: int | None = None,
    on_batch: Callable[[Batch], None] | None = None,
) -> dict[str, AffineParams]:
    """Run the model over the samples, and choose params for each of the tensors.

    on_batch: is called with what the model is fed.
    """
    from .augmented_model import augment
    from .model_source import open_session, save_model

    augmented = augment(model, tensors, extremes=method == "minmax")
    if augmented_model_path is not None:
        save_model(augmented.model, augmented_model_path)
    session = open_session(augmented.model)
    collectors = {name: make_collector(method, f"tensor '{name}'") for name in tensors}
    wanted = [output for outputs in augmented.outputs.values() for output in outputs]
    for batch in batches_of(samples, session, num_samples, batch_size):
        if on_batch is not None:
            on_batch(batch)
        values = dict(zip(wanted, session.run(wanted, batch), strict=True)) if wanted else {}
        for name in tensors:
            found = [values[output] for output in augmented.outputs.get(name, ())]
            if not found:
                collectors[name].update(np.ravel(batch[name]))
            elif found[0].size:
                collectors[name].update(np.concatenate([np.ravel(part) for part in found]))
    return {
        name: kind.params(*affine_range(collector, method, kind, symmetric), symmetric)
        for name, collector in collectors.items()
    }


def batches_of(
    samples: Any, session: Any, num_samples: int | None, batch_size: int | None
) -> Iterator[dict[str, Any]]:
    """Batches {input: array} in the types that the model takes."""
    from .model_source import dtype_of

    inputs = session.get_inputs()
    elements = _read(samples, inputs, num_samples, batch_size)
    dtypes = {value.name: dtype_of(value.type) for value in inputs}
    seen = 0
    for element in elements:
        if not isinstance(element, Mapping) or not set(dtypes) <= set(element):
            given = list(element) if isinstance(element, Mapping) else type(element).__name__
            raise QuantizationError(
                f"a data reader gives {{input: array}} for the inputs {list(dtypes)}, not {given}"
            )
        yield {name: np.asarray(element[name]).astype(dtypes[name]) for name in dtypes}
        seen += 1
    if not seen:
        raise QuantizationError("the data reader gave no batch; rewind it, or make a new one")


def _read(
    samples: Any, inputs: Sequence[Any], num_samples: int | None, batch_size: int | None
) -> Iterator[Batch]:
    if samples is None:
        raise QuantizationError("calibration needs samples: give a data reader or arrays")
    if hasattr(samples, "get_next"):
        while (element := samples.get_next()) is not None:
            yield element
        return
    if isinstance(samples, list | tuple) and samples and isinstance(samples[0], Mapping):
        yield from samples  # what a session is fed, whatever its first axis is
        return
    fixed = [value.shape[0] for value in inputs if value.shape and isinstance(value.shape[0], int)]
    size = fixed[0] if fixed else batch_size
    if fixed and batch_size not in (None, size):
        raise QuantizationError(
            f"batch_size is {batch_size}, but the model takes batches of {size}"
        )
    shapes = [
        (value.name, [n if isinstance(n, int) else None for n in value.shape[1:]])
        for value in inputs
    ]
    first = True
    for batch in iterate_samples(samples, shapes, num_samples, size):
        # A model of a fixed batch cannot run what is left over at the end.
        if fixed and not first and len(next(iter(batch.values()))) != size:
            continue
        first = False
        yield batch
