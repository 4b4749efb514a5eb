"""The inputs of an ONNX model: their sizes, and which of their axes holds channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..onnx_errors import OnnxError
from .layout import PICTURE, SEQUENCE, Order
from .view import OnnxGraph, OnnxInput, OnnxNode

#: Operators that take (n, c, ...) and so tell which axis holds channels.
_TELLING = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "BatchNormalization",
        "InstanceNormalization",
        "GroupNormalization",
        "LRN",
        "LpPool",
        "DepthToSpace",
        "SpaceToDepth",
    }
)
#: Operators behind which the axes are no longer those of the input.
_ENDING = frozenset(
    {
        *(
            "Reshape",
            "Flatten",
            "Squeeze",
            "Unsqueeze",
            "Gemm",
            "MatMul",
            "Shape",
            "Size",
            "Gather",
        ),
        *("LSTM", "GRU", "RNN", "If", "Loop", "Scan", "Einsum"),
    }
)


#: Whose first input is (t, n, c), unless they say otherwise.
_RECURRENT = ("LSTM", "GRU", "RNN")
#: What exporters call the size that counts samples.
_BATCH_NAMES = frozenset({"bs", "batch", "batch_size", "batchsize", "batch_dim", "n_batch"})
_SHORT_NAMES = frozenset({"n", "b"})

#: Declared sizes of one sample of every input by name, in ONNX' order; None for open ones.
OpenShapes = Mapping[str, tuple[int | None, ...]]


def with_batch_axes(graph: OnnxGraph) -> list[OnnxInput]:
    """The inputs with the axis of each that counts samples: the one called so, or else the one that
    recurrent layers take for it, or else the first.
    """
    return [replace(declared, batch_axis=_batch_axis(graph, declared)) for declared in graph.inputs]


def _batch_axis(graph: OnnxGraph, declared: OnnxInput) -> int:
    for axis, size in enumerate(declared.shape):
        # One letter may also name what a single sample has many of.
        names = _BATCH_NAMES if declared.shape[0] == 1 else _BATCH_NAMES | _SHORT_NAMES
        if isinstance(size, str) and size.lower() in names:
            return axis
    if len(declared.shape) != 3:
        return 0
    for node, axes in _first_readers(graph, declared.name, 3):
        if node.op_type in _RECURRENT and not node.domain:
            return axes[0 if node.get("layout", 0) else 1]
    return 0


def input_shapes(
    inputs: Sequence[OnnxInput], given: Mapping[str, Sequence[int]] | Callable[[OpenShapes], Any]
) -> dict[str, tuple[int, ...]]:
    """Unbatched sizes of every input, in ONNX' order.

    ``given``: sizes by name, pictures channels-last as well where only that fits, with or without
    the batch; or a function that is asked for them if the model leaves some open. Raises OnnxError
    for an input without a batch axis and for a size that neither the model nor ``given`` says.
    """
    if callable(given):
        declared_sizes = {declared.name: _declared(declared) for declared in inputs}
        opened = any(None in sizes for sizes in declared_sizes.values())
        given = dict(given(declared_sizes)) if opened else {}
    unknown = set(given) - {declared.name for declared in inputs}
    if unknown:
        names = [declared.name for declared in inputs]
        raise OnnxError(f"shapes names {sorted(unknown)}, but the inputs of the model are {names}")
    return {declared.name: _sizes(declared, given.get(declared.name)) for declared in inputs}


def _declared(declared: OnnxInput) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) and size > 0 else None for size in declared.sizes)


def _fits(sizes: Sequence[int | str | None], numbers: Sequence[int]) -> bool:
    return len(numbers) == len(sizes) and all(
        not isinstance(size, int) or size <= 0 or size == number
        for size, number in zip(sizes, numbers, strict=True)
    )


def _sizes(declared: OnnxInput, given: Sequence[int] | None) -> tuple[int, ...]:
    if not declared.shape:
        raise OnnxError(f"the input '{declared.name}' is a single number, without a batch axis")
    sizes = declared.sizes
    if given is not None:
        plain = tuple(given)[1:] if len(given) == len(sizes) + 1 else tuple(given)
        pictures = len(plain) == 3 and declared.batch_axis == 0
        turned = (plain[-1], *plain[:-1]) if pictures else plain
        for numbers in (plain, turned):
            if _fits(sizes, numbers):
                return tuple(int(number) for number in numbers)
        raise OnnxError(
            f"shapes gives {tuple(given)} for the input '{declared.name}', which the model"
            f" declares as {sizes} behind the batch"
        )
    result = []
    for place, size in enumerate(sizes):
        if not isinstance(size, int) or size <= 0:
            axis = place + (place >= declared.batch_axis)
            name = f"'{size}'" if isinstance(size, str) else "unknown"
            raise OnnxError(
                f"axis {axis} of the input '{declared.name}' has the size {name}; only the batch"
                f" may be open. Pass shapes={{'{declared.name}': (...)}} with all sizes but its"
            )
        result.append(size)
    return tuple(result)


def input_orders(
    graph: OnnxGraph, inputs: Sequence[OnnxInput], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Order]:
    """For every input, the order of its axes in which the graph works on it."""
    return {declared.name: _order(graph, declared, shapes[declared.name]) for declared in inputs}


def _order(graph: OnnxGraph, declared: OnnxInput, shape: tuple[int, ...]) -> Order:
    rank, batch = len(declared.shape), declared.batch_axis
    plain = (batch, *(axis for axis in range(rank) if axis != batch))
    turned = {4: PICTURE, 3: SEQUENCE}.get(rank)
    if turned is None:
        return plain
    for node, axes in _first_readers(graph, declared.name, rank):
        if node.op_type in _TELLING:
            order = tuple(axes[axis] for axis in turned)
            return order if order[0] == batch else plain
    if rank == 3 or batch:
        return plain
    # No operator tells: pictures have few channels, and ONNX has them in front.
    return plain if shape[2] <= 4 and shape[2] < shape[0] else PICTURE


def _first_readers(graph: OnnxGraph, name: str, rank: int) -> Iterator[tuple[OnnxNode, Order]]:
    """The nodes that an input reaches with its axes at most moved, nearest first, and which axis of
    the input each axis is there.
    """
    waiting: list[tuple[str, Order]] = [(name, tuple(range(rank)))]
    seen: set[str] = set()
    while waiting:
        value, axes = waiting.pop(0)
        if value in seen:
            continue
        seen.add(value)
        for node in graph.consumers(value):
            yield node, axes
            if node.op_type in _TELLING or node.op_type in _ENDING:
                continue
            moved = axes
            if node.op_type == "Transpose":
                perm = node.get("perm", tuple(reversed(range(rank))))
                if len(perm) != rank:  # something in front has changed the axes
                    continue
                moved = tuple(axes[axis] for axis in perm)
            waiting += [(output, moved) for output in node.outputs if output]
