"""The forms of an exported program: how each is built, and which operator sets it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import onnx

from ..runtime import Program
from .encodings import Encoding
from .integer import integer_form
from .onnx_options import OnnxOptions
from .value.encodings_form import EncodingsStyle, program_encodings
from .value.qoperator_form import emit_qoperator
from .value.value_form import Held, Shortcut, value_graph, value_names
from .value.value_styles import QdqStyle


class Form(NamedTuple):
    """A finished graph. opset: the oldest that serves; names: of the program's tensors in it;
    encodings: of the tensors of a float graph.
    """

    graph: onnx.GraphProto
    opset: int
    names: dict[str, str]
    encodings: tuple[Encoding, ...] = ()

    @property
    def domains(self) -> list[str]:
        """Domains of operators beside ONNX' own."""
        return sorted({node.domain for node in self.graph.node} - {""})


def _integer(program: Program, options: OnnxOptions) -> Form:
    graph = integer_form.integer_graph(program, options)
    return Form(graph, integer_form.OPSET, integer_form.tensor_names(program))


def _qdq(program: Program, options: OnnxOptions) -> Form:
    return _marked(program, options, QdqStyle(), None)


def _qoperator(program: Program, options: OnnxOptions) -> Form:
    return _marked(program, options, QdqStyle(unsigned_bytes=True), emit_qoperator)


def _marked(program: Program, options: OnnxOptions, style: QdqStyle, by: Shortcut | None) -> Form:
    found = value_graph(program, options, style, value_names(program, options, False), by)
    return Form(found.graph, style.opset, _held_names(found.held))


def _encodings(program: Program, options: OnnxOptions) -> Form:
    style = EncodingsStyle()
    found = value_graph(program, options, style, value_names(program, options, True))
    listed = tuple(program_encodings(program, found, style))
    return Form(found.graph, style.opset, _held_names(found.held), listed)


def _held_names(held: Mapping[str, Held]) -> dict[str, str]:
    return {name: each.tensor.name for name, each in held.items()}


EXPORTERS: Mapping[str, Callable[[Program, OnnxOptions], Form]] = {
    "integer": _integer,
    "qdq": _qdq,
    "qoperator": _qoperator,
    "encodings": _encodings,
}
"""By the ``format`` of :func:`~quantkeras.onnx.onnx_export.export_onnx`."""
