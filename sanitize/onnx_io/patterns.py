"""Which sequences of ONNX operators become one hardware layer, and how to add one's own.

``PATTERNS`` is the table to look at, one line each when printed. A sequence that is not in it is
not lost: its nodes become layers of their own where they can.

:func:`custom_pattern_scope` changes how a sequence is read::

    def identity_convolution(nodes, graph):
        value = graph.value(nodes[0].inputs[0])
        ...
        return [Node(...), Node(...)]

    with custom_pattern_scope({("GlobalAveragePool",): identity_convolution}):
        model = from_onnx("model.onnx")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from ..onnx_errors import PatternError


@dataclass(frozen=True)
class Pattern:
    """A sequence of ONNX operators and the hardware layer that it becomes.

    Attributes:
        operators: their names, in order.
        layer: the kind of its core.
        parts: what the layer does besides, in words.
    """

    operators: tuple[str, ...]
    layer: str
    parts: str = ""

    def __str__(self) -> str:
        what = f"{self.layer}, {self.parts}" if self.parts else self.layer
        return f"({', '.join(self.operators)}) -> {what}"


def _with_tails(core: tuple[str, ...], layer: str, parts: str = "") -> list[Pattern]:
    """A core alone and with what a hardware layer does behind it."""
    tails = (
        (("Relu", "GlobalAveragePool"), "ReLU, global average pool"),
        (("Clip", "GlobalAveragePool"), "ReLU with a ceiling, global average pool"),
        (("MaxPool", "Relu"), "max pool, ReLU"),
        (("MaxPool", "Clip"), "max pool, ReLU with a ceiling"),
        (("Relu", "MaxPool"), "max pool, ReLU"),
        (("Clip", "MaxPool"), "max pool, ReLU with a ceiling"),
        (("GlobalAveragePool",), "global average pool"),
        (("MaxPool",), "max pool"),
        (("Relu",), "ReLU"),
        (("Clip",), "ReLU with a ceiling"),
        ((), ""),
    )
    return [
        Pattern((*core, *tail), layer, ", ".join(part for part in (parts, words) if part))
        for tail, words in tails
    ]


def _with_relu(core: tuple[str, ...], layer: str, parts: str = "") -> list[Pattern]:
    tails = ((("Relu",), "ReLU"), (("Clip",), "ReLU with a ceiling"), ((), ""))
    return [
        Pattern((*core, *tail), layer, ", ".join(part for part in (parts, words) if part))
        for tail, words in tails
    ]


#: Sequences of operators that become one hardware layer, longest first for each core. A Conv with
#: one channel per group is a depthwise_conv2d. Mul, Add and BatchNormalization with constants go
#: into the weights of the layer before or behind them, wherever they stand.
PATTERNS: tuple[Pattern, ...] = (
    *_with_tails(("Conv", "BatchNormalization"), "conv2d"),
    *_with_tails(("Conv", "Mul", "Add"), "conv2d"),
    *_with_tails(("Conv",), "conv2d"),
    *_with_relu(("ConvTranspose", "BatchNormalization"), "conv2d_transpose"),
    *_with_relu(("ConvTranspose",), "conv2d_transpose"),
    *_with_relu(("Flatten", "Gemm"), "dense", "flatten"),
    *_with_relu(("Gemm",), "dense"),
    *_with_relu(("MatMul", "Add"), "dense"),
    *_with_relu(("Add",), "add"),
    Pattern(("Concat",), "concat"),
    Pattern(("Transpose", "Mul", "Add", "Conv"), "conv2d", "input scaling in the weights"),
    Pattern(("Mul", "Add", "Conv"), "conv2d", "input scaling in the weights"),
    Pattern(("Transpose", "Conv"), "conv2d"),
)

#: What a custom pattern is given: the matched nodes and a view of the graph.
PatternFunction = Callable[[Sequence[Any], Any], Any]
Custom = tuple[tuple[str, ...], PatternFunction]

# Per thread and task; inner scopes stand first.
_scopes: ContextVar[tuple[Custom, ...]] = ContextVar("custom ONNX patterns", default=())


@contextmanager
def custom_pattern_scope(patterns: Mapping[Any, PatternFunction]) -> Iterator[None]:
    """Within the scope, chains of ONNX operators are read by functions of the caller's.

    ``fn(nodes, graph)`` receives the matched nodes (:class:`~.view.OnnxNode`, in order) and a view
    of the graph (:class:`~.custom.PatternGraph`). It returns the Nodes that take their place, the
    last of which makes the output, channels-last; or None, to have the chain read as usual.

    Scopes belong to the thread (or asyncio task) that opens them.

    Args:
        patterns: chain of operator names -> function, e.g. ``{("Conv", "Relu"): fn}``; a single
            name may stand for a chain of one. In a chain each node reads the output of the one
            before, which nobody else reads. Longer chains are tried first, and inner scopes before
            outer ones.

    Yields:
        Nothing.

    Raises:
        PatternError: for a key that is no chain of operator names, and for a value that cannot be
            called.

    Example:
        ``with custom_pattern_scope({"Swish": read_swish}): model = from_onnx("net.onnx")``
    """
    added = [(_checked_key(key), function) for key, function in patterns.items()]
    for key, function in added:
        if not callable(function):
            raise PatternError(
                f"the pattern {key} maps to a {type(function).__name__}; give a function of the"
                " matched nodes and the graph"
            )
    added.sort(key=lambda item: -len(item[0]))
    token = _scopes.set((*added, *_scopes.get()))
    try:
        yield
    finally:
        _scopes.reset(token)


def _checked_key(key: Any) -> tuple[str, ...]:
    names = (key,) if isinstance(key, str) else key
    if not isinstance(names, tuple) or not names:
        raise PatternError(
            f"{key!r} is no pattern: give a tuple of ONNX operator names, such as ('Conv', 'Relu')"
        )
    for name in names:
        if not isinstance(name, str) or not _is_operator(name):
            raise PatternError(
                f"the pattern {key!r} contains {name!r}, which is no operator of the ONNX standard"
            )
    return names


def _is_operator(name: str) -> bool:
    import onnx.defs

    return bool(onnx.defs.has(name, onnx.defs.onnx_opset_version(), ""))


def custom_patterns() -> tuple[Custom, ...]:
    """The custom patterns in force here, in the order in which they are tried."""
    return _scopes.get()
