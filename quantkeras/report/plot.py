"""Drawings of graphs in the language of Graphviz, and pictures made of them.

The text (.dot) needs nothing. Pictures need the Python package ``graphviz`` (the extra
``quantkeras[plots]``) and the program ``dot``, which the package calls.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from sanitize.graph import Graph, Node
from sanitize.keras_io import read_keras

from ..errors import QuantizationError
from ..files.writing import replacing, write_text
from ..layers import Dequantizer
from ..layers.onnx_operator import kind_of
from ..qmodel import QuantizedGraph, layer_of, rounding_layer
from .covered_parts import Part, parts_of_graph

TEXT_SUFFIXES = (".dot", ".gv")
PICTURE_SUFFIXES = (".svg", ".png", ".pdf")
SUFFIXES = (*TEXT_SUFFIXES, *PICTURE_SUFFIXES)

COLOURS = {
    "input": "#dfe6ee",
    "integer": "#cfe8d5",
    "boundary": "#efe3b5",
    "float": "#f6d3c1",
    "plain": "#ffffff",
}
"""Fill by state of the node; plain: any node of a model that is not quantized."""


class PlotError(QuantizationError):
    """A picture that cannot be made; the message says what is missing."""


def plot_graph(
    model: Any,
    path: str | PathLike[str],
    before: Any = None,
    titles: Sequence[str] | None = None,
    direction: str = "TB",
) -> None:
    """Draw a model to a file. A quantized one is coloured: what is integer, what float.

    Args:
        model: a model, the reading of one or a sanitized Graph.
        path: .dot or .gv for the text, else .svg, .png or .pdf.
        before: another model or Graph, drawn at its left.
        titles: of before, if it is given, and of the model; None: their names.
        direction: "TB", from top to bottom, or "LR", from left to right.

    Raises:
        PlotError: for another suffix or direction, and where a picture needs what is not installed.
        ModelFileError: for a file that cannot be written.
    """
    file = Path(path)
    if file.suffix.lower() not in SUFFIXES:
        raise PlotError(f"{file}: a drawing is written as *{', *'.join(SUFFIXES)}")
    graphs = [_graph(x) for x in ([] if before is None else [before]) + [model]]
    names = [graph.name for graph in graphs] if titles is None else list(titles)
    text = dot_text(list(zip(names, graphs, strict=True)), direction)
    if file.suffix.lower() in TEXT_SUFFIXES:
        write_text(file, text)
        return
    picture = _rendered(text, file.suffix.lower()[1:])
    with replacing(file) as temporary:
        temporary.write_bytes(picture)


def check_drawing(path: Path) -> None:
    """Raise PlotError, before any work is done, where the format of a file cannot be made."""
    if path.suffix.lower() in PICTURE_SUFFIXES:
        _rendered("digraph {}", path.suffix.lower()[1:])


def dot_text(graphs: Sequence[tuple[str, Graph]], direction: str = "TB") -> str:
    """The drawing of (title, graph) pairs, side by side, as text for Graphviz."""
    if direction not in ("TB", "LR"):
        raise PlotError(f"direction is {direction!r}; it must be 'TB' or 'LR'")
    lines = [
        "digraph model {",
        f"  rankdir={direction};",
        '  node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=10];',
        '  edge [color="#66707c", arrowsize=0.7];',
        '  fontname="sans-serif";',
    ]
    for index, (title, graph) in enumerate(graphs):
        lines += [
            f"  subgraph cluster_{index} {{",
            f"    label={_quoted(title)}; labelloc=t; color=none;",
            *(f"    {line}" for line in _graph_lines(graph, index)),
            "  }",
        ]
    return "\n".join([*lines, "}"])


def _graph_lines(graph: Graph, index: int) -> list[str]:
    """Nodes, then edges. index: of the graph in the drawing, which keeps the names apart."""
    parts = parts_of_graph(graph)
    quantized = any(rounding_layer(node) or layer_of(node, Dequantizer) for node in graph)
    names = {node.name: f"g{index}n{number}" for number, node in enumerate(graph)}
    lines = []
    for node in graph:
        part = parts[node.name]
        colour = COLOURS[part.state if quantized or node.kind == "input" else "plain"]
        lines.append(
            f"{names[node.name]} [label={_quoted(_label(node, part, quantized))}, "
            f'fillcolor="{colour}"];'
        )
    for node in graph:
        for value in node.inputs:
            shape = _quoted(_shape(graph.shape_of(value)))
            lines.append(f"{names[graph[value].name]} -> {names[node.name]} [tooltip={shape}];")
    return lines


def _label(node: Node, part: Part, quantized: bool) -> str:
    """Name, kind, and shape of the output; with its format in a quantized model."""
    output = _shape(node.shape)
    if quantized and part.output:
        output += f"  {part.output}"
    steps = part.steps if quantized else kind_of(node)
    if part.weight_bits:
        steps += f"  w{part.weight_bits}"
    return "\n".join([node.name, steps, output])


def _shape(shape: tuple[int | None, ...]) -> str:
    return "x".join("?" if size is None else str(size) for size in shape) or "scalar"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _graph(model: Any) -> Graph:
    if isinstance(model, QuantizedGraph):
        return model.graph
    return model if isinstance(model, Graph) else read_keras(model)


def _rendered(text: str, suffix: str) -> bytes:
    """The picture that ``dot`` makes of the text."""
    try:
        import graphviz
    except ImportError as error:
        raise PlotError(
            f"drawing *.{suffix} needs the Python package graphviz: pip install "
            "'quantkeras[plots]'; a *.dot file needs nothing"
        ) from error
    try:
        picture: bytes = graphviz.pipe("dot", suffix, text.encode())
    except graphviz.ExecutableNotFound as error:
        raise PlotError(
            f"drawing *.{suffix} needs the program dot of Graphviz, which is not installed or not "
            "on the PATH (https://graphviz.org/download); a *.dot file needs nothing"
        ) from error
    except subprocess.CalledProcessError as error:
        message = (error.stderr or b"").decode(errors="replace").strip() or str(error)
        raise PlotError(f"the program dot made no *.{suffix}: {message}") from error
    return picture
