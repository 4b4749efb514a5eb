"""The outputs of an exported model under the names that the user's float network has for them.

A quantized model's last layers are named after what they compute first: a Dense with the ReLU
behind it after the Dense, though the float network's output is that of the ReLU.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from sanitize.graph import Graph, producer_of
from sanitize.onnx_io.protos import rename_values, value_names

from ..layers import Dequantizer
from ..qmodel import layer_of
from ..runtime import Program


def output_tensors(graph: Graph, program: Program) -> list[str]:
    """For each output of the model, what tells whether two of them are one output of the export."""
    found = []
    for value in graph.outputs:
        node = graph[value]
        if layer_of(node, Dequantizer):
            node = graph[producer_of(node.inputs[0])]
            while node.name not in program.outputs and node.kind == "identity":
                node = graph[producer_of(node.inputs[0])]
            value = node.name
        found.append(value)
    return found


def name_outputs(
    exported: onnx.GraphProto, tensors: Sequence[str], names: Sequence[str]
) -> dict[str, str]:
    """Rename the outputs of an export where that is possible; returns old name -> new name.

    tensors: see :func:`output_tensors`; names: of the outputs of the float network. A name that
    another tensor has, or another output, is not given.
    """
    ends = list(dict.fromkeys(tensors))
    if len(names) != len(tensors) or len(ends) != len(exported.output):
        return {}
    taken = set(value_names(exported))
    wished = dict(zip(reversed(tensors), reversed(names), strict=True))  # the first one counts
    renamed: dict[str, str] = {}
    for end, entry in zip(ends, exported.output, strict=True):
        if wished[end] and wished[end] not in taken:
            renamed[entry.name] = wished[end]
            taken.add(wished[end])
    rename_values(exported, renamed)
    return renamed
