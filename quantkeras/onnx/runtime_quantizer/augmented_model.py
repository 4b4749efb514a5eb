"""A model with outputs added that tell about its inner tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx
import onnx.helper

from sanitize.onnx_io.protos import all_names, unique_name, value_info

from .model_source import copy_model


class Augmented(NamedTuple):
    """outputs: tensor -> the outputs that tell about it; none for an input of the model."""

    model: onnx.ModelProto
    outputs: dict[str, tuple[str, ...]]


def augment(model: onnx.ModelProto, tensors: Sequence[str], extremes: bool) -> Augmented:
    """A copy of the model with the tensors themselves as outputs, or their extremes alone.

    Extremes are computed inside the model, so that two numbers of a tensor leave it.
    """
    found = copy_model(model)
    graph = found.graph
    inputs = {value.name for value in graph.input}
    existing = {value.name for value in graph.output}
    taken = set(all_names(graph))
    outputs: dict[str, tuple[str, ...]] = {}
    for tensor in tensors:
        if extremes:
            outputs[tensor] = tuple(_reduced(graph, op, tensor, taken) for op in ("Min", "Max"))
        elif tensor not in inputs:
            outputs[tensor] = (tensor,)
            if tensor not in existing:
                graph.output.append(value_info(tensor, np.float32, None))
    return Augmented(found, outputs)


def _reduced(graph: onnx.GraphProto, op: str, tensor: str, taken: set[str]) -> str:
    name = unique_name(f"{tensor}_Reduce{op}", taken)
    graph.node.append(onnx.helper.make_node(f"Reduce{op}", [tensor], [name], name, keepdims=0))
    graph.output.append(value_info(name, np.float32, []))
    return name
