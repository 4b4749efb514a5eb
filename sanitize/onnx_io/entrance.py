"""The inputs of an ONNX model: their sizes, and which of their axes holds channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..onnx_errors import OnnxError
from .layout import PICTURE, SEQUENCE, Order
from .view import OnnxGraph, OnnxInput

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


#: Declared sizes behind the batch of every input by name, in ONNX' order; None for open ones.
OpenShapes = Mapping[str, tuple[int | None, ...]]


def input_shapes(
    graph: OnnxGraph, given: Mapping[str, Sequence[int]] | Callable[[OpenShapes], Any]
) -> dict[str, tuple[int, ...]]:
    """Unbatched sizes of every input, in ONNX' order.

    ``given``: sizes by name, pictures channels-last as well where only that fits, with or without
    the batch; or a function that is asked for them if the model leaves some open. Raises OnnxError
    for an input without a batch axis and for a size that neither the model nor ``given`` says.
    """
    if callable(given):
        declared_sizes = {declared.name: _declared(declared) for declared in graph.inputs}
        opened = any(None in sizes for sizes in declared_sizes.values())
        given = dict(given(declared_sizes)) if opened else {}
    unknown = set(given) - {declared.name for declared in graph.inputs}
    if unknown:
        names = [declared.name for declared in graph.inputs]
        raise OnnxError(f"shapes names {sorted(unknown)}, but the inputs of the model are {names}")
    return {declared.name: _sizes(declared, given.get(declared.name)) for declared in graph.inputs}


def _declared(declared: OnnxInput) -> tuple[int | None, ...]:
    return tuple(
        size if isinstance(size, int) and size > 0 else None for size in declared.shape[1:]
    )


def _fits(sizes: Sequence[int | str | None], numbers: Sequence[int]) -> bool:
    return len(numbers) == len(sizes) and all(
        not isinstance(size, int) or size <= 0 or size == number
        for size, number in zip(sizes, numbers, strict=True)
    )


def _sizes(declared: OnnxInput, given: Sequence[int] | None) -> tuple[int, ...]:
    if not declared.shape:
        raise OnnxError(f"the input '{declared.name}' is a single number, without a batch axis")
    sizes = declared.shape[1:]
    if given is not None:
        plain = tuple(given)[1:] if len(given) == len(sizes) + 1 else tuple(given)
        turned = (plain[-1], *plain[:-1]) if len(plain) == 3 else plain
        for numbers in (plain, turned):
            if _fits(sizes, numbers):
                return tuple(int(number) for number in numbers)
        raise OnnxError(
            f"shapes gives {tuple(given)} for the input '{declared.name}', which the model"
            f" declares as {sizes} behind the batch"
        )
    result = []
    for axis, size in enumerate(sizes, 1):
        if not isinstance(size, int) or size <= 0:
            name = f"'{size}'" if isinstance(size, str) else "unknown"
            raise OnnxError(
                f"axis {axis} of the input '{declared.name}' has the size {name}; only the batch"
                f" may be open. Pass shapes={{'{declared.name}': (...)}} with all sizes behind it"
            )
        result.append(size)
    return tuple(result)


def input_orders(graph: OnnxGraph, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Order]:
    """For every input, the order of its axes in which the graph works on it."""
    return {name: _order(graph, name, shape) for name, shape in shapes.items()}


def _order(graph: OnnxGraph, name: str, shape: tuple[int, ...]) -> Order:
    rank = len(shape) + 1
    plain = tuple(range(rank))
    turned = {4: PICTURE, 3: SEQUENCE}.get(rank)
    if turned is None:
        return plain
    # Axis i of the value is axis axes[i] of the input.
    waiting: list[tuple[str, Order]] = [(name, plain)]
    seen: set[str] = set()
    while waiting:
        value, axes = waiting.pop(0)
        if value in seen:
            continue
        seen.add(value)
        for node in graph.consumers(value):
            if node.op_type in _TELLING:
                return tuple(axes[axis] for axis in turned)
            if node.op_type in _ENDING:
                continue
            moved = axes
            if node.op_type == "Transpose":
                perm = node.get("perm", tuple(reversed(range(rank))))
                if len(perm) != rank:  # something in front has changed the axes
                    continue
                moved = tuple(axes[axis] for axis in perm)
            waiting += [(output, moved) for output in node.outputs if output]
    if rank == 3:
        return plain
    # No operator tells: pictures have few channels, and ONNX has them in front.
    return plain if shape[2] <= 4 and shape[2] < shape[0] else PICTURE
