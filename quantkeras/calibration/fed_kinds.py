"""What samples say about the inputs of a model: whether these are integers or floats, and whether
they are prepared already.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sanitize.graph import Graph

from ..errors import InputMismatchWarning
from ..qmodel import QuantizedGraph
from ..quantization.borders import find_borders, layer_padding
from ..quantization.params import QuantizationParams
from .batches import Batch
from .late_maps import forget_offsets

NEXT_TO_NOTHING = 1 / 32
"""Networks do not scale their inputs to a smaller range than this."""

DType = np.dtype[Any]


def decided_kind(params: QuantizationParams, dtype: DType | None) -> str:
    """What a model is fed: "uint8", "int8" or "float32"; dtype: that of samples, None without."""
    if params.input_dtype != "auto":
        return params.input_dtype
    if dtype is not None and dtype in (np.uint8, np.bool_):
        return "uint8"
    return "int8" if dtype == np.int8 else "float32"


def take_kinds(
    reading: QuantizedGraph, params: QuantizationParams, dtypes: Mapping[str, DType]
) -> None:
    """Let float inputs of a quantized model take integers where its first samples are integers.

    Its ranges were not calibrated with samples before. dtypes: of the samples, by input. An input
    stays float where layers put values around it that are none of its integers.
    """
    kinds = {name: decided_kind(params, dtype) for name, dtype in dtypes.items()}
    wanted = [
        (node, layer)
        for node, layer in reading.inputs()
        if kinds.get(node.inputs[0], "float32") != "float32" and not layer.integer_input
    ]
    forget_offsets(reading.graph, {node.inputs[0]: node for node, _ in wanted})
    borders = find_borders(reading.graph, layer_padding)
    for node, layer in wanted:
        kind = kinds[node.inputs[0]]
        signed, border = layer.signed, borders.get(node.name)
        layer.signed = kind == "int8"
        outside = border is not None and (
            border.lowest.min() < layer.qmin - 0.5 or border.highest.max() > layer.qmax + 0.5
        )
        if outside:
            layer.signed = signed
        else:
            layer.take_integers()


def warn_of_prepared(graph: Graph, batches: Sequence[Batch]) -> None:
    """Warn of samples that are prepared already for a network that prepares its inputs itself.

    graph: of the float network, as it was read. batches: some samples.
    """
    for name in graph.inputs:
        readers = graph.consumers(name)
        if not batches or not readers or any(node.kind != "affine" for node in readers):
            continue
        low = float(min(batch[name].min() for batch in batches))
        high = float(max(batch[name].max() for batch in batches))
        factor = max(float(np.abs(node.weights["scale"]).max()) for node in readers)
        if 0 < (high - low) * factor < NEXT_TO_NOTHING:
            layer = ", ".join(readers[0].source) or readers[0].name
            warnings.warn(
                f"input {name!r}: samples from {low:.4g} to {high:.4g} are multiplied by "
                f"{factor:.4g} in {layer!r}, which leaves next to nothing of them. "
                "The network prepares its inputs itself: give it samples as they are before that.",
                InputMismatchWarning,
                stacklevel=3,
            )
