"""What an exported model says of itself: the fixed-point format behind every tensor."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..runtime import Program, ProgramLayer
from .onnx_options import OnnxOptions

METADATA_VERSION = 1


def program_metadata(
    program: Program, format: str, options: OnnxOptions, names: dict[str, str]
) -> dict[str, Any]:
    """JSON-able description of the program's tensors.

    names: of the tensors of the graph that hold integers. Maps within the graph are channels
    first; ``frac`` and ``step`` broadcast to channels-last shapes without the batch. A value is
    integer * 2**-frac, or integer * step where an accumulator leaves the program.
    """
    return {
        "version": METADATA_VERSION,
        "form": format,
        "input_layout": options.input_layout,
        "output_layout": options.output_layout,
        "inputs": [
            {
                "name": entry.name,
                "tensor": names[entry.name],
                "shape": list(entry.shape),
                "format": entry.format.to_config(),
                **({} if entry.scale is None else {"scale": np.asarray(entry.scale).tolist()}),
                **({} if entry.offset is None else {"offset": np.asarray(entry.offset).tolist()}),
            }
            for entry in program.inputs
        ],
        "layers": [_layer(layer, names[layer.name]) for layer in program.layers],
        "outputs": list(program.outputs),
        "float_tail": [tail._asdict() for tail in program.float_tail],
    }


def _layer(layer: ProgramLayer, tensor: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": layer.name,
        "kind": layer.spec.kind,
        "tensor": tensor,
        "shape": list(layer.output_shape),
        "source": list(layer.source),
    }
    if layer.output_format is not None:
        found["format"] = layer.output_format.to_config()
    elif layer.output_scale is not None:
        found["step"] = np.asarray(layer.output_scale).tolist()
    if layer.weight_bits:
        found["weight_bits"] = layer.weight_bits
    return found
