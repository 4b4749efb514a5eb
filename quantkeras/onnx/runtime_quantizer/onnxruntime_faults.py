"""What onnxruntime's static quantizers get wrong, changed before or kept from them.

- The bias of a Gemm is scaled as if the factors alpha and beta were 1, and taken for a vector. So
  factors go into the constants that they multiply, and the bias gets one number per column.
- With one scale per channel, MatMul is given scales that its quantized form refuses where the
  weights are no matrix.
- A constant becomes integers once, for the first node that reads it: a second convolution gets its
  bias in steps of the first one's accumulator, and with one scale per channel its weights along the
  first one's axis. So nodes that need different integers get constants of their own.
- The quantized operators leave no float value to graphs within nodes (branches, loops).

How they merge activation functions is looked after in `activation_params`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx.helper

from sanitize.onnx_io.protos import read_within

from .graph_editor import GraphEditor

_BIAS = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
"""Operator -> which of its inputs becomes an integer of the accumulator's steps."""


def avoid_faults(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], mode: str, per_channel: bool
) -> tuple[list[onnx.NodeProto], list[str]]:
    """The nodes that can be quantized, and a reason for each of the others.

    The model is rewritten in place; names stay.
    """
    names = [node.name for node in nodes]
    editor = GraphEditor(model)
    within = read_within(model.graph) if mode == "qlinear" else set()
    refused = {}
    copies: dict[tuple[str, ...], str] = {}
    for node in editor.old:
        if node.name in names:
            why = _refusal(editor, node, within, per_channel)
            if why is not None:
                refused[node.name] = f"'{node.name}' ({node.op_type}: {why})"
            else:
                _separate_constants(editor, node, copies)
        editor.nodes.append(node)
    editor.finish()
    by_name = {node.name: node for node in model.graph.node}
    return [by_name[name] for name in names if name not in refused], list(refused.values())


def _refusal(
    editor: GraphEditor, node: onnx.NodeProto, within: set[str], per_channel: bool
) -> str | None:
    """Why the node has to stay float; None if it need not (any more)."""
    if within & set(node.output):
        return "a graph within a node reads its output"
    if node.op_type == "Gemm" and not _fold(editor, node):
        return "its bias or a factor is not constant"
    if node.op_type == "MatMul" and per_channel:
        array = editor.constant(node.input[1])
        if array is not None and array.ndim != 2:
            return "its weights are no matrix, which per_channel takes"
    return None


def _separate_constants(
    editor: GraphEditor, node: onnx.NodeProto, copies: dict[tuple[str, ...], str]
) -> None:
    """Floats that other nodes read as well become a copy for this node's purpose.

    copies: (constant, purpose) -> its copy, so that nodes of one purpose share one.
    """
    for index, name in enumerate(node.input):
        array = editor.constant(name) if editor.uses[name] > 1 else None
        if array is None or array.dtype.kind != "f":
            continue
        turned = [entry.i for entry in node.attribute if entry.name == "transB"]
        only = node.name if index == _BIAS.get(node.op_type) else ""
        purpose = (name, node.op_type, str(index), str(turned), only)
        if purpose not in copies:
            copies[purpose] = editor.add_constant(array, name)
        node.input[index] = copies[purpose]


def _fold(editor: GraphEditor, node: onnx.NodeProto) -> bool:
    """Rewrites a Gemm; False, and nothing done, where that takes constants that there are not."""
    given = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    alpha, beta = float(given.get("alpha", 1.0)), float(given.get("beta", 1.0))
    weights = editor.constant(node.input[1])
    has_bias = len(node.input) > 2 and bool(node.input[2])
    bias = editor.constant(node.input[2]) if has_bias else None
    if weights is None:
        return alpha == 1.0 and beta == 1.0 and not has_bias
    if has_bias:
        columns = weights.shape[0 if given.get("transB", 0) else 1]
        if bias is None or not (bias.size == 1 or bias.shape in ((columns,), (1, columns))):
            return False
        if beta != 1.0 or bias.shape != (columns,):
            folded = np.broadcast_to(bias.reshape(-1) * bias.dtype.type(beta), columns)
            node.input[2] = editor.add_constant(folded, f"{node.input[2]}_folded")
    if alpha != 1.0:
        folded = weights * weights.dtype.type(alpha)
        node.input[1] = editor.add_constant(folded, f"{node.input[1]}_folded")
    for index in reversed(range(len(node.attribute))):
        if node.attribute[index].name in ("alpha", "beta"):
            del node.attribute[index]
    return True
