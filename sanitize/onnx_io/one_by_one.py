"""Branches and loops that data decide about: they run sample by sample.

A condition is one number, so that a model decides for its whole batch at once; what it means is a
batch of one. The branch or loop, with what brings the samples of its condition together in front of
it, becomes a Scan over the samples, which is kept as other operators are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from numpy.typing import NDArray

from .fold import Known, OperatorRunner
from .layout import Rows, Tensor
from .opaque_operators import opaque
from .protos import make_model, value_info
from .state import Reading, error_at
from .view import OnnxGraph, OnnxNode, wrapped

Array = NDArray[Any]


def decides_by_data(r: Reading, node: OnnxNode) -> bool:
    """Whether a node is an If or a Loop whose condition or count is computed from data."""
    if node.domain:
        return False
    if node.op_type == "If":
        return r.known(node.input(0)) is None
    given = [name for name in node.inputs[:2] if name]
    return node.op_type == "Loop" and (
        any(r.known(name) is None for name in given) or _goes_on_by_data(node)
    )


def _goes_on_by_data(loop: OnnxNode) -> bool:
    """Whether the body of a loop computes if there is another round."""
    body: onnx.GraphProto = loop.get("body")
    makers = {name: part for part in body.node for name in part.output}
    name = body.output[0].name
    while name in makers and makers[name].op_type == "Identity":
        name = makers[name].input[0]
    return name in makers and makers[name].op_type != "Constant"


def deciding_nodes(graph: OnnxGraph) -> frozenset[str]:
    """The values that nothing but conditions of branches and counts of loops are made of."""
    found: set[str] = set()
    ends = {id(node) for node in graph.nodes if node.op_type in ("If", "Loop")}
    for node in reversed(graph.nodes):
        readers = [reader for name in node.outputs if name for reader in graph.consumers(name)]
        inside = all(
            id(reader) in ends or set(filter(None, reader.outputs)) <= found for reader in readers
        )
        if readers and inside and not found.intersection(graph.outputs):
            found.update(name for name in node.outputs if name)
    return frozenset(found - set(graph.outputs))


def one_by_one(r: Reading, node: OnnxNode) -> list[Tensor]:
    """The outputs of a node that decides by data, run on one sample after the other.

    Raises OnnxError, naming it, where it cannot be told what it makes of one sample.
    """
    if min(r.batches) > 1 and len(r.batches) == 1:
        raise error_at(
            node,
            f"decides by data, for the {r.batches[0]} samples together that the model takes. Export"
            " the model for a batch of one",
        )
    r.alone = True
    parts = [*_put_off(r, node.reads), node]
    made = {name for part in parts for name in part.outputs}
    reads = [name for name in _in_order(parts) if name not in made]
    constants, samples = _given(r, node, reads)
    outputs = [name for name in node.outputs if name]
    results = _run(r, node, parts, constants, samples)
    axes = [_samples_axis(node, [result[place] for result in results], samples.values())
            for place in range(len(outputs))]  # fmt: skip
    body: list[onnx.NodeProto] = []
    stored = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    infos, names = [], []
    for name, value in samples.items():
        tensor = value.tensor if isinstance(value, Rows) else r.unfolded(value)
        axis, rank = tensor.batch_axis, tensor.rank
        order = (axis, *(other for other in range(rank) if other != axis))
        r.values[f"{name}/samples"] = tensor.relabelled(order)
        names.append(f"{name}/samples")
        sizes = [size for size in tensor.onnx_shape if size is not None]
        infos.append(value_info(f"{name}/sample", tensor.dtype, sizes))
        # With one sample along the axis of the samples, and rows as the model has them.
        shape = value.sizes(1)
        stored.append(onnx.numpy_helper.from_array(np.array(shape), f"{name}/shape"))
        body.append(onnx.helper.make_node("Reshape", [f"{name}/sample", f"{name}/shape"], [name]))
    body += [part.proto for part in parts]
    made_infos = []
    for name, result, axis in zip(outputs, results[0], axes, strict=True):
        sizes = [size for other, size in enumerate(result.shape) if other != axis]
        stored.append(onnx.numpy_helper.from_array(np.array(sizes, np.int64), f"{name}/shape"))
        body.append(onnx.helper.make_node("Reshape", [name, f"{name}/shape"], [f"{name}/sample"]))
        made_infos.append(value_info(f"{name}/sample", result.dtype, sizes))
    graph = onnx.helper.make_graph(body, "one sample", infos, made_infos, stored)
    scan = onnx.helper.make_node("Scan", names, [f"{name}/samples" for name in outputs],
                                 node.name, body=graph, num_scan_inputs=len(names))  # fmt: skip
    article = "an" if node.op_type == "If" else "a"
    reason = f"{article} {node.op_type} that decides by data, run sample by sample"
    found = opaque(r, wrapped(scan, 0), reason)
    return [
        tensor.relabelled((*range(1, axis + 1), 0, *range(axis + 1, tensor.rank)))
        for tensor, axis in zip(found, axes, strict=True)
    ]


def _put_off(r: Reading, names: Iterable[str]) -> list[OnnxNode]:
    """The nodes that were put off, which these values need, in order."""
    needed: dict[int, OnnxNode] = {}
    waiting = list(names)
    while waiting:
        node = r.put_off.get(waiting.pop())
        if node is not None and id(node) not in needed:
            needed[id(node)] = node
            waiting += node.reads
    return [node for node in r.graph.nodes if id(node) in needed]


def _in_order(parts: Sequence[OnnxNode]) -> list[str]:
    return list(dict.fromkeys(name for part in parts for name in part.reads))


def _given(
    r: Reading, node: OnnxNode, names: Sequence[str]
) -> tuple[dict[str, Array], dict[str, Tensor | Rows]]:
    """The constants among what a node reads, and what data flow into."""
    constants: dict[str, Array] = {}
    samples: dict[str, Tensor | Rows] = {}
    for name in names:
        value = r.values[name]
        if not isinstance(value, Known):
            samples[name] = value
        elif value.constant is None:
            raise error_at(
                node,
                f"decides by data, for each sample alone, and reads '{name}', which depends on the"
                " size of the batch. Export the model for a batch of one",
            )
        else:
            constants[name] = value.constant
    return constants, samples


def _run(
    r: Reading,
    node: OnnxNode,
    parts: Sequence[OnnxNode],
    constants: Mapping[str, Array],
    samples: Mapping[str, Tensor | Rows],
) -> list[list[Array]]:
    """What comes out for one sample of zeros, by each branch of an If or in few rounds of a Loop.

    On numbers of no meaning a loop may never end.
    """
    arrays = dict(constants)
    for name, value in samples.items():
        tensor = value.tensor if isinstance(value, Rows) else value
        arrays[name] = np.zeros(value.sizes(1), tensor.dtype)
    found = []
    choices = {"If": (True, False), "Loop": (1, 2)}.get(node.op_type, (None,))
    for choice in choices:
        last = onnx.NodeProto()
        last.CopyFrom(node.proto)
        given = dict(arrays)
        if choice is not None:
            last.input[0] = "the choice"
            given["the choice"] = np.array(choice)
        protos = [*(part.proto for part in parts[:-1]), last]
        infos = [onnx.ValueInfoProto(name=name) for name in given]
        outs = [onnx.ValueInfoProto(name=name) for name in node.outputs if name]
        graph = onnx.helper.make_graph(protos, "one sample", infos, outs)
        model = make_model(graph, r.graph.opset_imports, r.graph.ir_version)
        found.append(OperatorRunner(node, model)(given))
    return found


def _samples_axis(
    node: OnnxNode, results: Sequence[Array], samples: Iterable[Tensor | Rows]
) -> int:
    """The axis of an output of one sample that counts samples."""
    shapes = [result.shape for result in results]
    if len(set(shapes)) > 1:
        raise error_at(
            node,
            f"decides by data, and makes the shape {shapes[0]} or {shapes[1]} by what it decides."
            " Make them alike, or cut the model off in front of it",
        )
    tensors = [value.tensor if isinstance(value, Rows) else value for value in samples]
    places = dict.fromkeys((*(tensor.batch_axis for tensor in tensors), *range(len(shapes[0]))))
    for axis in places:
        if axis < len(shapes[0]) and shapes[0][axis] == 1:
            return int(axis)
    raise error_at(
        node,
        f"decides by data, and makes the shape {shapes[0]} of a batch of one, in which no axis"
        " counts samples. Cut the model off in front of it, or give its output such an axis",
    )


def put_off(node: OnnxNode, r: Reading) -> None:
    """Leave a node whose result is one for all samples to the branch or loop that it decides."""
    r.put_off.update(dict.fromkeys(filter(None, node.outputs), node))
