"""The forms of an exported program: how each is built, and which operator sets it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import onnx

from ..runtime import Program
from . import integer_form
from .encodings import Encoding
from .encodings_form import EncodingsStyle, program_encodings
from .onnx_options import OnnxOptions
from .qoperator_form import emit_qoperator
from .value_form import Held, value_graph, value_names
from .value_styles import QdqStyle


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


def make_form(program: Program, format: str, options: OnnxOptions) -> Form:
    """The program in one of the forms "integer", "qdq", "qoperator" and "encodings"."""
    if format == "integer":
        graph = integer_form.integer_graph(program, options)
        return Form(graph, integer_form.OPSET, integer_form.tensor_names(program))
    names = value_names(program, options, format == "encodings")
    if format == "encodings":
        plain = EncodingsStyle()
        found = value_graph(program, options, plain, names)
        listed = tuple(program_encodings(program, found, plain))
        return Form(found.graph, plain.opset, _held_names(found.held), listed)
    operators = format == "qoperator"
    style = QdqStyle(unsigned_bytes=operators)
    shortcut = emit_qoperator if operators else None
    found = value_graph(program, options, style, names, shortcut)
    return Form(found.graph, style.opset, _held_names(found.held))


def _held_names(held: Mapping[str, Held]) -> dict[str, str]:
    return {name: each.tensor.name for name, each in held.items()}
