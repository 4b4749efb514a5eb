"""A quantized model is checked, and run once, before anybody gets it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx.checker
from numpy.typing import NDArray

from ...errors import QuantizationError
from .model_source import (
    LARGEST_MESSAGE,
    as_file,
    dtype_of,
    open_session,
    session_errors,
    size_of,
)

Array = NDArray[Any]

_MOST_VALUES = 2**24
"""Elements of an input that is made up; larger ones are not worth a run."""


def check_result(
    found: onnx.ModelProto,
    source: Callable[[], onnx.ModelProto],
    feeds: Mapping[str, Array] | None,
) -> None:
    """Raises QuantizationError for a model that onnx finds invalid or onnxruntime cannot run, or
    one whose outputs are not finite where they should be.

    source: gives the float model that it was made from. Where that cannot be run either, because
    its operators are those of a library that is not loaded, or it cannot take inputs that are made
    up, the quantized one is not blamed. feeds: {input: array}, a batch of samples; None: zeros,
    with open sizes taken as 1.
    """
    try:
        outputs = _outputs(found, feeds)
        broken = [name for name, values in outputs.items() if not _finite(values)]
        fault: Exception | str = f"output '{broken[0]}' is not finite" if broken else ""
    except (QuantizationError, onnx.checker.ValidationError) as error:
        broken, fault = [], error
    if not fault:
        return
    original = source()
    try:
        wanted = _outputs(original, feeds)
    except (QuantizationError, onnx.checker.ValidationError):
        return
    if broken and not all(_finite(wanted[name]) for name in broken):
        return
    raise QuantizationError(
        f"the quantized form of '{original.graph.name}' does not work, though its float form does: "
        f"{fault}. Choose another mode, or leave the node that is at fault to nodes_to_exclude"
    )


def _outputs(model: onnx.ModelProto, feeds: Mapping[str, Array] | None) -> dict[str, Array]:
    _check(model)
    return _run(model, feeds)


def _finite(values: Array) -> bool:
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())


def _check(model: onnx.ModelProto) -> None:
    if size_of(model) <= LARGEST_MESSAGE:
        onnx.checker.check_model(model)
        return
    with as_file(model) as path:
        onnx.checker.check_model(str(path))


def _run(model: onnx.ModelProto, feeds: Mapping[str, Array] | None) -> dict[str, Array]:
    """{output: array}, of outputs that are tensors; none where no inputs can be made up."""
    session = open_session(model)
    if feeds is None:
        feeds = _made_up(session)
        if feeds is None:
            return {}
    names = [value.name for value in session.get_outputs()]
    try:
        outputs = session.run(names, dict(feeds))
    except session_errors() as error:
        raise QuantizationError(f"onnxruntime cannot run it: {error}") from error
    found = zip(names, outputs, strict=True)
    return {name: values for name, values in found if isinstance(values, np.ndarray)}


def _made_up(session: Any) -> dict[str, Array] | None:
    """Zeros for every input, sizes that are open being 1; None for types that zeros are not of."""
    found = {}
    for value in session.get_inputs():
        try:
            dtype = dtype_of(value.type)
        except TypeError:
            return None
        sizes = [size if isinstance(size, int) else 1 for size in value.shape]
        if dtype.kind not in "fiub" or np.prod(sizes, dtype=float) > _MOST_VALUES:
            return None
        found[value.name] = np.zeros(sizes, dtype)
    return found
